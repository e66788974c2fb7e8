"""Predictions of any other program, as a CSV file, scored by the measures of the evaluation.

`table` reads the file, `score` measures it; docs/leaderboard.md describes both for those who send
one.
"""
