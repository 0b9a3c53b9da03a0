"""Sampling: the diffusion process, samplers, continuation of speech, vocoders."""
