"""Drawings in other programs' formats: SVG, QuickDraw, sketch-rnn's npz; and from one to another."""
