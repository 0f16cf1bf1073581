"""Neural Stain Learning: eleven numbers per gene, from the colours of an H&E image (Dawood et al. 2021).

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.stain.config import StainConfig
from featurizers.stain.predictor import Stain

__all__ = ["Stain", "StainConfig"]
