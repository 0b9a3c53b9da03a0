"""Training of a vocoder on recorded speech: excerpts, critics, losses, the run."""
