"""A learnt unmixing of fluorescence channels, for readouts: concentrations per pixel, pooled.

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.unmixing.config import UnmixingConfig
from featurizers.unmixing.featurizer import Unmixing

__all__ = ["Unmixing", "UnmixingConfig"]
