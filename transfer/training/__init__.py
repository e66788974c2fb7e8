"""One training loop for every model, its batches, optimizers, checkpoints and weights files."""
