"""Hands beside the books: fonts, made hands, kana."""
