"""The layers that several models are made of."""
