"""The layers that several models share."""
