"""The models: configuration, network, loss and sampler of each. They know no files, no corpus."""
