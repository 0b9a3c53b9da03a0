"""Training data: log-mels, shards on disk, and windows drawn by seed and step."""
