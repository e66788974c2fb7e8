"""How good densities of latents are, forward and back, each by the same figures."""
