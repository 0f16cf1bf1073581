"""Single-cell crops on disk: cut once per plate, read shuffled by a training loop."""

from bench.crops.make import CropConfig, ensure
from bench.crops.read import CropCache

__all__ = ["CropCache", "CropConfig", "ensure"]
