"""The stages of training: they turn data and a configuration into a `Task`, and weights into a
model again."""
