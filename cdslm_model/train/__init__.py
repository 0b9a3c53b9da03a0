"""Training: objective, loop, checkpoints, schedule, distribution over processes."""
