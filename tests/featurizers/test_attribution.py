"""SmoothGrad on networks whose maps are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from bench.entrants import known
from featurizers.attribution import Differentiable, smoothgrad
from featurizers.base import FeaturizerError, FitContext
from featurizers.synthetic import synthetic_fields
from featurizers.training.featurizer import Trained
from featurizers.training.pixels import Statistics

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(100, 30, (3, 8, 8)).astype(np.float32)
INSIDE = np.zeros((8, 8), bool)
INSIDE[2:6, 1:7] = True
SPAN = np.ptp(PIXELS, axis=(1, 2))[:, None, None]
WEIGHT = RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)
PIXEL_STATISTICS = Statistics(np.full(5, 9000, np.float32), np.full(5, 4000, np.float32))
DIRECTION = np.array([1.0, -2.0, 0.5, 3.0])


def linear(pixels, inside):
    return torch.einsum("nchw,dchw->nd", pixels * inside[:, None], torch.from_numpy(WEIGHT))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_map_of_a_linear_network_is_its_weights(noise):
    found = smoothgrad(linear, PIXELS, INSIDE, DIRECTION, noise=noise, samples=7)
    expected = np.einsum("d,dchw->chw", DIRECTION, WEIGHT) * INSIDE * SPAN
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert not found[:, ~INSIDE].any()


def test_without_noise_it_is_the_plain_gradient():
    def cubic(pixels, inside):
        return (pixels / 100).pow(3).sum(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0]

    found = smoothgrad(cubic, PIXELS, INSIDE, np.ones(1), noise=0.0)
    np.testing.assert_allclose(found, 3 * (PIXELS / 100) ** 2 / 100 * SPAN, rtol=1e-4)


def test_noise_smooths_a_kink_as_the_normal_distribution_says():
    """E d/du relu(u + ε - 1/2) = Φ((u - 1/2) / σ)."""
    u = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)

    def kink(pixels, inside):
        return torch.relu(pixels - 0.5).flatten(1).sum(dim=1, keepdim=True)

    whole = np.ones((8, 8), bool)
    plain = smoothgrad(kink, u, whole, np.ones(1), noise=0.0)
    np.testing.assert_array_equal(plain, u > 0.5)
    smooth = smoothgrad(kink, u, whole, np.ones(1), noise=0.2, samples=4000)
    np.testing.assert_allclose(smooth, norm.cdf((u - 0.5) / 0.2), atol=0.05)
    again = smoothgrad(kink, u, whole, np.ones(1), noise=0.2, samples=4000)
    np.testing.assert_array_equal(smooth, again)


def test_a_flat_channel_has_an_empty_map_and_a_wrong_head_is_refused():
    flat = PIXELS.copy()
    flat[1] = 7.0
    found = smoothgrad(linear, flat, INSIDE, DIRECTION)
    assert not found[1].any()
    assert found[0].any()
    with pytest.raises(FeaturizerError, match="rows of 4 numbers, the head takes 3"):
        smoothgrad(linear, PIXELS, INSIDE, np.ones(3))


@pytest.mark.parametrize("name", ["mae", "dino", "resnet18-triplet"])
def test_the_differentiable_rows_of_trained_entrants_are_those_they_embed(name, tmp_path):
    cls = known(()).get("featurizers", name)
    with torch.random.fork_rng():
        network = cls(cls.presets["tiny"]).architecture(5).eval()
    featurizer = cls(cls.presets["tiny"])
    fields = synthetic_fields(cells=(4, 3))
    featurizer.train = lambda *_: Trained(network, PIXEL_STATISTICS)  # weights as they begin
    table = pd.DataFrame({"Metadata_Plate": ["p"], "perturbation": ["x"]})
    featurizer.fit(fields, table, FitContext(tmp_path))
    assert isinstance(featurizer, Differentiable)
    crops = featurizer.crops(fields[0])
    rows = featurizer.differentiable()(torch.from_numpy(crops.pixels), torch.from_numpy(crops.inside))
    assert rows.requires_grad
    own, embedded = rows.detach().numpy(), featurizer.embed(fields[:1])
    if featurizer.level == "field":  # a bag of one tile
        embedded = featurizer.embed([replace(fields[0], ids=crops.ids[:1], centres=fields[0].centres[:1])])
        own = own[:1]
    np.testing.assert_allclose(own, embedded.values, rtol=1e-3, atol=1e-5)
    found = smoothgrad(
        featurizer.differentiable(), crops.pixels[0], crops.inside[0], np.arange(own.shape[1]), samples=2
    )
    assert found.any()


def test_an_entrant_without_weights_refuses_and_others_are_not_differentiable():
    cls = known(()).get("featurizers", "mae")
    with pytest.raises(FeaturizerError, match="no weights yet"):
        cls(cls.presets["tiny"]).differentiable()
    assert not isinstance(known(()).get("featurizers", "intensity")(), Differentiable)
