"""Masked autoencoder for microscopy (He et al. 2022; Kraus et al. 2024): training and embedding.

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.mae.config import MaeConfig
from featurizers.mae.featurizer import Mae

__all__ = ["Mae", "MaeConfig"]
