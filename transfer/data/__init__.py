"""Turns published files (Kuzushiji-Kanji, KanjiVG) into memory-mapped arrays: images, strokes and
splits."""

from transfer.system.errors import DataError as DataError
