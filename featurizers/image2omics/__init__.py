"""Image2Omics' own head: a linear model on bags of tiles over a frozen ResNet18 (Mehrizi et al. 2023).

Importing this package loads no torch; the rooms that need it are imported by the methods that use them.
"""

from featurizers.image2omics.config import Image2OmicsConfig
from featurizers.image2omics.predictor import Image2Omics

__all__ = ["Image2Omics", "Image2OmicsConfig"]
