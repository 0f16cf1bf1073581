from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.training.pixels import Statistics, cut_cells, dihedral, prepare
from tests.featurizers.training.fields import make_field


def prepared(field, config, statistics=None):
    crops = cut_cells(field, config)
    images = prepare(torch.from_numpy(crops.pixels), torch.from_numpy(crops.inside), config, statistics)
    return images.numpy(), crops


def test_crop_scaling_uses_the_own_object_only_and_then_blackens_the_rest(config):
    images, crops = prepared(make_field(0), replace(config, standardise="crop-inside-mask"))
    for image, raw, inside in zip(images, crops.pixels, crops.inside, strict=True):
        for channel in range(2):
            own = raw[channel][inside].astype(np.float64)
            np.testing.assert_allclose(
                image[channel][inside], (own - own.mean()) / own.std(), rtol=1e-4, atol=1e-4
            )
            assert (image[channel][~inside] == 0).all()
            assert image[channel][inside].std() == pytest.approx(1, rel=1e-4)


def test_zero_background_would_have_dominated_the_scale(config):
    """The trap this order avoids: scaled after masking, the same object has another mean and spread."""
    crops = cut_cells(make_field(0), config)
    black = crops.pixels[0, 0] * crops.inside[0]
    own = crops.pixels[0, 0][crops.inside[0]]
    assert black.std() > 3 * own.std()


def test_field_scaling_keeps_the_ratio_between_cells(config):
    field = make_field(1)
    brighter = field.pixels.astype(np.float64)
    brighter[:, field.masks["cells"] == 1] *= 3
    field = replace(field, pixels=brighter.astype(np.uint16))
    images, crops = prepared(field, replace(config, standardise="field"))
    whole = field.pixels.astype(np.float64)
    mean, std = whole.mean(axis=(1, 2)), whole.std(axis=(1, 2))
    raw = cut_cells(field, config).pixels
    expected = ((raw - mean[:, None, None]) / std[:, None, None]) * crops.inside[:, None]
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-5)
    assert images[0, 0][crops.inside[0]].mean() > images[1, 0][crops.inside[1]].mean() + 1


def test_dataset_scaling_uses_the_given_statistics(config):
    statistics = Statistics(np.array([500.0, 100.0], np.float32), np.array([50.0, 0.0], np.float32))
    images, crops = prepared(make_field(2), config, statistics)
    np.testing.assert_allclose(images[:, 0], (crops.pixels[:, 0] - 500) / 50 * crops.inside, rtol=1e-6)
    assert (images[:, 1] == 0).all(), "a channel without variance says nothing"


@pytest.mark.parametrize("standardise", ["field", "crop-inside-mask"])
def test_a_constant_channel_becomes_zero(config, standardise):
    field = make_field(3)
    field = replace(field, pixels=np.stack([np.full_like(field.pixels[0], 7777), field.pixels[1]]))
    images, _ = prepared(field, replace(config, standardise=standardise))
    assert (images[:, 0] == 0).all()
    assert np.isfinite(images).all()
    assert images[:, 1].any()


def test_a_kept_background_stays(config):
    config = replace(config, standardise="crop-inside-mask", background="keep")
    images, crops = prepared(make_field(4), config)
    assert (images[0, 0][~crops.inside[0]] != 0).any()


def test_dihedral_applies_each_symmetry_of_the_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = dihedral(image.repeat(8, 1, 1, 1), torch.arange(8))
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    for k in range(8):
        by_hand = np.rot90(image[0, 0].numpy(), k % 4)
        np.testing.assert_array_equal(turned[k, 0].numpy(), np.fliplr(by_hand) if k >= 4 else by_hand)
