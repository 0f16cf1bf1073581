"""Forward passes of one size: halved where memory ends, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featurizers.base import FeaturizerError
from featurizers.crops import Crops
from featurizers.passes import embed_cells, in_memory
from featurizers.stain import StainConfig
from featurizers.stain.model import StainRegressors
from featurizers.stain.train import predict
from featurizers.synthetic import synthetic_fields
from featurizers.training.featurizer import Origin, Trained
from featurizers.unmixing import Unmixing, UnmixingConfig
from featurizers.unmixing.model import Unmixer

CPU = torch.device("cpu")


def limited(rows):
    def forward(images, scale):
        if len(images) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.sum(dim=1, keepdim=True) * scale[:, None]

    return forward


def test_a_pass_that_does_not_fit_is_halved_until_it_does_and_says_so():
    images, scale = torch.rand(32, 3), torch.rand(32)
    with pytest.warns(UserWarning, match="memory ended at 32 crops at once; going on with 16"):
        found = in_memory(limited(8), images, scale, device=CPU)
    torch.testing.assert_close(found, in_memory(limited(32), images, scale, device=CPU))


def test_a_single_crop_that_does_not_fit_is_an_error_with_a_remedy():
    with (
        pytest.warns(UserWarning, match="going on with 1"),
        pytest.raises(FeaturizerError, match="does not hold one crop; choose a smaller crop"),
    ):
        in_memory(limited(0), torch.rand(2, 3), torch.rand(2), device=CPU)


def test_crops_that_do_not_fit_on_their_way_to_the_device_are_halved_too(monkeypatch):
    move = torch.Tensor.to

    def narrow(self, *given, **named):
        if self.ndim == 4 and len(self) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(self, *given, **named)

    def embedded():
        pixels = np.random.default_rng(0).random((5, 5, 4, 4), np.float32)
        return embed_cells(
            synthetic_fields()[:1],
            lambda _: Crops(pixels, np.ones((5, 4, 4), bool), np.arange(1, 6, dtype=np.int32)),
            lambda images, inside: images.mean(dim=(2, 3)),
            channels=5,
            edge=4,
            width=5,
            device=CPU,
        )

    whole = embedded()
    monkeypatch.setattr(torch.Tensor, "to", narrow)
    with pytest.warns(UserWarning, match="memory ended at 32 crops at once; going on with 16"):
        np.testing.assert_array_equal(embedded().values, whole.values)


def test_a_field_that_does_not_fit_is_an_error_with_the_setting_to_change(monkeypatch):
    def ended(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    fields = synthetic_fields()[:1]
    unmixing = Unmixing(UnmixingConfig(pixels=16))
    unmixing._trained = Trained(unmixing.architecture(len(fields[0].channels)))
    unmixing._origin = Origin(tuple(channel.name for channel in fields[0].channels))
    monkeypatch.setattr(Unmixer, "forward", ended)
    with pytest.raises(FeaturizerError, match="one field; lower pixels or concentrations, or device=cpu"):
        unmixing.embed(fields)
    monkeypatch.setattr(StainRegressors, "forward", ended)
    with pytest.raises(FeaturizerError, match="does not hold one field; lower pixels, or device=cpu"):
        predict(StainRegressors(StainConfig(), 2), np.zeros((1, 16, 3), np.float32))
