"""The fixtures that the plugins' tests share with the package's own (`tests/` is on pytest's path)."""

from shared_fixtures import shared_data, tone_set

__all__ = ["shared_data", "tone_set"]
