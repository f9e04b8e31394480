"""Serves what it imports by name."""

from limits import resize
from plain import double

__all__ = ["double", "resize"]
