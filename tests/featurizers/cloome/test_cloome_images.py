"""From a field to the network's window: the published eight-bit levels, windows, scaling."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurizers.base import FeaturizerError
from featurizers.cloome.images import EIGHT_BIT, central, eight_bit, prepared, scaled
from featurizers.training.pixels import Statistics
from tests.featurizers.training.fields import make_field


def slow_eight_bit(plane, percent, top):
    """The published preprocessing, pixel by pixel: the level that the brightest reach, then scaling."""
    brightest = sorted(float(v) for v in plane.ravel())[::-1]
    count = int(np.around(len(brightest) * percent / 100))
    threshold = brightest[count - 1]
    out = np.zeros(plane.shape, np.uint8)
    for place, value in np.ndenumerate(plane):
        level = float(value) * (top / threshold) if value > 0 else 0.0
        out[place] = int(min(level, 255.0))
    return out


@pytest.mark.parametrize(("percent", "top"), [(0.01, 255.0), (0.0028, 256.0)])
def test_eight_bit_levels_are_the_published_ones(percent, top):
    plane = np.random.default_rng(0).gamma(2.0, 900.0, (220, 190)).astype(np.uint16)
    share, own_top = EIGHT_BIT[f"eight-bit-{top:.0f}"]
    assert (share * 100, own_top) == (pytest.approx(percent), top)
    np.testing.assert_array_equal(eight_bit(plane, share, top), slow_eight_bit(plane, percent, top))


def test_a_small_plane_saturates_its_brightest_pixel_and_a_dark_one_stays_dark():
    plane = np.arange(12.0).reshape(3, 4)
    levels = eight_bit(plane, 0.01e-2, 255.0)
    assert levels[2, 3] == 255
    assert levels[0, 0] == 0
    assert levels[1, 1] == int(5 * 255 / 11)
    assert not eight_bit(np.zeros((3, 4)), 0.01e-2, 255.0).any()
    assert not eight_bit(-plane, 0.01e-2, 255.0).any()


def test_a_brighter_image_has_the_same_levels():
    plane = np.random.default_rng(0).integers(0, 4000, (40, 50)).astype(np.uint16)
    np.testing.assert_array_equal(eight_bit(plane, 1e-4, 255.0), eight_bit(plane * 4, 1e-4, 255.0))


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_the_middle_is_that_of_torchvisions_center_crop(height, width, wanted_height, wanted_width):
    from featurizers.vision import import_torchvision

    import_torchvision()
    from torchvision.transforms import CenterCrop

    planes = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
    expected = CenterCrop((wanted_height, wanted_width))(torch.from_numpy(planes)).numpy()
    np.testing.assert_array_equal(central(planes, wanted_height, wanted_width), expected)


def test_levels_are_set_before_a_field_is_resampled():
    field = make_field(0)
    half = prepared(field, "eight-bit-256", 0.5)
    assert half.shape == (2, 36, 36)
    assert half.dtype == np.float32
    whole = prepared(field, "eight-bit-256", 1.0)
    assert set(np.unique(whole)) <= set(range(256))
    np.testing.assert_allclose(half.mean(axis=(1, 2)), whole.mean(axis=(1, 2)), rtol=0.05)
    np.testing.assert_array_equal(prepared(field, "raw", 1.0), field.pixels.astype(np.float32))
    with pytest.raises(FeaturizerError, match="NaN or infinite"):
        prepared(replace(field, pixels=np.full((2, 8, 8), np.nan)), "raw", 1.0)


def test_windows_are_scaled_by_the_data_set_or_by_themselves():
    windows = torch.rand(3, 2, 5, 6) * 90
    windows[:, 1] = 7.0
    statistics = Statistics(np.array([40.0, 7.0], np.float32), np.array([20.0, 0.0], np.float32))
    found = scaled(windows, "dataset", statistics)
    torch.testing.assert_close(found[:, 0], (windows[:, 0] - 40) / 20)
    assert (found[:, 1] == 0).all()
    found = scaled(windows, "field", None)
    own = windows[2, 0].numpy()
    np.testing.assert_allclose(found[2, 0], (own - own.mean()) / (own.std(ddof=1) + 1e-7), rtol=1e-4)
    assert (found[:, 1] == 0).all()


@pytest.mark.realdata
def test_the_published_example_reaches_the_checkpoints_levels():
    """The example field of the released code: its levels lie near the means that its weights expect."""
    from tifffile import imread

    from featurizers.cloome.pretrained import LEVELS

    root = os.environ.get("WELLBENCH_REALDATA")
    if not root:
        pytest.skip("WELLBENCH_REALDATA is not set")
    folder = Path(root) / "images_cloome_example"
    names = ("Mito", "ERSyto", "ERSytoBleed", "Ph_golgi", "Hoechst")
    planes = [imread(folder / f"{name}.tif") for name in names]
    assert {plane.shape for plane in planes} == {(520, 696)}
    levels = np.stack([eight_bit(plane, *EIGHT_BIT["eight-bit-255"]) for plane in planes])
    ratio = levels.mean(axis=(1, 2)) / np.array(LEVELS)
    assert ((ratio > 0.4) & (ratio < 2.5)).all(), ratio
    assert [int((plane == 255).sum()) >= 36 for plane in levels] == [True] * 5
