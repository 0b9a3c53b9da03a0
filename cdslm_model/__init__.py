"""The continuous diffusion spoken language model: an empty room for now."""
