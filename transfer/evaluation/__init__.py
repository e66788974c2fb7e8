"""Measures of how good the drawings, the predictions behind them and their stated probabilities
are."""
