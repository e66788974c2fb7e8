"""The stages of training: data and a configuration become a `Task`, and weights a model again."""
