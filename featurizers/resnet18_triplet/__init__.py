"""ResNet18 trained by a multiple-instance triplet loss over wells (Image2Omics, Mehrizi et al. 2023).

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.resnet18_triplet.config import TripletConfig
from featurizers.resnet18_triplet.featurizer import ResNet18Triplet

__all__ = ["ResNet18Triplet", "TripletConfig"]
