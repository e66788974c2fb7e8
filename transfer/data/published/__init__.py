"""The data sets as they are published: where they are, and how their files are read."""
