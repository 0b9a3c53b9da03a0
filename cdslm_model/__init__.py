"""The continuous diffusion spoken language model; importing it imports no torch."""
