"""Hands other than those of the books: fonts, made hands, kana."""
