"""The models: configuration, network, loss and sampler of each. They know neither files nor
corpus."""
