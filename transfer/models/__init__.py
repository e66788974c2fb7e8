"""The models, each with its configuration, its network, its loss and its sampler; they know no
files."""
