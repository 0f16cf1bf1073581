"""The demo screen: a simulated Cell Painting screen with paired readouts whose truth is known."""

from bench.demo.settings import Settings
from bench.demo.write import make

__all__ = ["Settings", "make"]
