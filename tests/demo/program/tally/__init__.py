"""Counts words."""

from .count import Tally, words

__all__ = ["Tally", "words"]
