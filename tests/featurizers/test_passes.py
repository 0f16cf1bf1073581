"""Forward passes of one size: halved where memory ends, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from featurizers.base import FeaturizerError
from featurizers.passes import in_memory


def limited(rows):
    def forward(images, scale):
        if len(images) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.sum(dim=1, keepdim=True) * scale[:, None]

    return forward


def test_a_pass_that_does_not_fit_is_halved_until_it_does_and_says_so():
    images, scale = torch.rand(32, 3), torch.rand(32)
    with pytest.warns(UserWarning, match="memory ended at 32 crops at once; going on with 16"):
        found = in_memory(limited(8), images, scale)
    torch.testing.assert_close(found, in_memory(limited(32), images, scale))


def test_a_single_crop_that_does_not_fit_is_an_error_with_a_remedy():
    with (
        pytest.warns(UserWarning, match="going on with 1"),
        pytest.raises(FeaturizerError, match="does not hold one crop; choose a smaller crop"),
    ):
        in_memory(limited(0), torch.rand(2, 3), torch.rand(2))
