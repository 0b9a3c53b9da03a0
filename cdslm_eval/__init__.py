"""Score what speech-only language models say, with any metric, and fit how it scales."""

__version__ = "0.1.0"
