"""The fixtures that every test shares."""

from shared_fixtures import shared_data, tone_set

__all__ = ["shared_data", "tone_set"]
