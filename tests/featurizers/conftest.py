from __future__ import annotations

import numpy as np
import pytest
import torch

from featurizers.mae import MaeConfig
from tests.featurizers.training.fields import Source, make_field


@pytest.fixture(autouse=True)
def same_draws_in_any_order() -> None:
    """Seed torch's and NumPy's global generators, so that no test draws what those before it left."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # libraries draw from the legacy generator


@pytest.fixture
def source() -> Source:
    return Source([make_field(seed) for seed in range(6)])


@pytest.fixture
def config() -> MaeConfig:
    """As small as the real thing gets: 16 patches of which 4 are seen, two blocks."""
    return MaeConfig(
        crop=24,
        patch=6,
        dim=16,
        depth=2,
        heads=2,
        decoder_dim=16,
        decoder_heads=2,
        mask_ratio=0.75,
        steps=8,
        batch=6,
    )
