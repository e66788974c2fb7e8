"""Drawings in other programs' formats: SVG, QuickDraw, sketch-rnn's npz."""
