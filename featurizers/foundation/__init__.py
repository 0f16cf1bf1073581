"""Networks that a user has weights for, behind the featurizer contract: one adapter for all of them.

Importing this package loads no torch.
"""

from featurizers.foundation.adapter import FoundationModel
from featurizers.foundation.config import FoundationConfig

__all__ = ["FoundationConfig", "FoundationModel"]
