"""Contrastive learning of images and molecules (CLOOME, Sanchez-Fernandez et al. 2023).

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.cloome.config import CloomeConfig
from featurizers.cloome.featurizer import Cloome
from featurizers.cloome.pretrained import CloomePretrained, CloomePretrainedConfig

__all__ = ["Cloome", "CloomeConfig", "CloomePretrained", "CloomePretrainedConfig"]
