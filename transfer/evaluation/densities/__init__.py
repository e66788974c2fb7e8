"""What densities of latents are worth, each by the same figures: forward and back."""
