"""Intervention-aware distillation (TIDE, Chen et al. 2026): transcriptomes guide the training of an encoder.

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.tide.config import TideConfig
from featurizers.tide.featurizer import Tide

__all__ = ["Tide", "TideConfig"]
