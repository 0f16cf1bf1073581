"""Self-distillation without labels on multi-channel crops (DINO, Caron et al. 2021): training and embedding.

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.dino.config import DinoConfig
from featurizers.dino.featurizer import Dino

__all__ = ["Dino", "DinoConfig"]
