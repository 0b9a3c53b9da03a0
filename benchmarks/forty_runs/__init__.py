"""Simulated ladders of 40 runs with known truths: how often claims are right, and how often intervals hold."""
