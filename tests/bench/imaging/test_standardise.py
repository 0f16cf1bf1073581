"""Standardised pixels have the mean and deviation that they should have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import DatasetError
from bench.imaging.standardise import moments, standardise


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e6]))
def test_moments_over_fields_are_those_of_all_pixels_together(n, seed, offset):
    rng = np.random.default_rng(seed)
    fields = [rng.normal(offset, 3.0, (2, 4 + i, 5)) for i in range(n)]
    together = np.concatenate([f.reshape(2, -1) for f in fields], axis=1)
    expected = np.stack([together.mean(axis=1), together.std(axis=1)])
    np.testing.assert_allclose(moments(iter(fields)), expected, rtol=1e-9, atol=1e-9)


def test_a_field_standardised_by_itself_has_mean_0_and_deviation_1():
    pixels = np.random.default_rng(0).integers(0, 65535, (3, 30, 30)).astype(np.uint16)
    scaled = standardise(pixels, moments([pixels]))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=(1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(1, 2)), 1.0, rtol=1e-5)


@pytest.mark.parametrize("level", [0, 500, 65535])
def test_a_channel_of_one_grey_level_becomes_zero(level):
    pixels = np.full((1, 6, 6), level, np.uint16)
    assert (standardise(pixels, moments([pixels])) == 0.0).all()


def test_no_field_is_an_error():
    with pytest.raises(DatasetError, match="at least one field"):
        moments([])
