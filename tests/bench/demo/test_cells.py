"""A latent dimension changes what it names, and leaves the mean light alone unless it is about light."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops

from bench.demo import cells
from bench.demo.settings import CHANNELS, DIMENSIONS

SIZE = 176
SILENT = (
    "nucleus_size",
    "elongation",
    "chromatin_grain",
    "er_grain",
    "mito_spread",
    "golgi_scatter",
)


def scene(dimension: str | None = None, value: float = 0.0, seed: int = 0, **kwargs) -> cells.Scene:
    state = np.zeros(len(DIMENSIONS))
    if dimension is not None:
        state[DIMENSIONS.index(dimension)] = value
    return cells.render(state, np.random.default_rng(seed), SIZE, **kwargs)


def pair(dimension: str, seed: int = 0) -> tuple[cells.Scene, cells.Scene]:
    return scene(dimension, -1.5, seed), scene(dimension, 1.5, seed)


def nuclei_of(s: cells.Scene) -> list:
    dna = s.light[0]
    return [r for r in regionprops(label(dna > 0.5 * np.percentile(dna[dna > 100], 50))) if r.area > 40]


def grain(image: np.ndarray, mask: np.ndarray) -> float:
    """Share of fine in all texture; falls as the texture becomes coarse."""
    fine = image - ndimage.gaussian_filter(image, 1.0)
    coarse = ndimage.gaussian_filter(image, 1.0) - ndimage.gaussian_filter(image, 3.0)
    return float(fine[mask].std() / coarse[mask].std())


@pytest.mark.parametrize("dimension", SILENT)
def test_shape_and_texture_leave_the_mean_light_of_every_channel_unchanged(dimension):
    low = np.mean([scene(dimension, -1.5, s).light.mean(axis=(1, 2)) for s in range(4)], axis=0)
    high = np.mean([scene(dimension, 1.5, s).light.mean(axis=(1, 2)) for s in range(4)], axis=0)
    np.testing.assert_allclose(high / low, 1.0, atol=0.025)


@pytest.mark.parametrize("dimension", [*SILENT, "rna_level", "mito_level"])
def test_only_the_count_dimension_moves_the_number_of_cells(dimension):
    low, high = pair(dimension)
    np.testing.assert_array_equal(low.centres, high.centres)


def test_the_count_dimension_changes_the_number_of_cells():
    counts = [[len(s.centres) for s in pair("count", seed)] for seed in range(5)]
    ratio = np.divide(*np.sum(counts, axis=0)[::-1])
    # exp(0.3 · 2 · 2.5 tanh(1.5 / 2.5)), less what does not find room
    assert 1.9 < ratio < 2.4


@pytest.mark.parametrize(("dimension", "moved"), [("rna_level", {"ER", "RNA"}), ("mito_level", {"Mito"})])
def test_an_intensity_dimension_brightens_its_own_channels_only(dimension, moved):
    low, high = pair(dimension)
    ratio = high.light.mean(axis=(1, 2)) / low.light.mean(axis=(1, 2))
    for name, value in zip(CHANNELS, ratio, strict=True):
        if name in moved:
            assert 1.7 < value < 2.5
        else:
            assert value == pytest.approx(1.0)


def test_nucleus_size_changes_the_area_of_nuclei():
    low, high = (np.mean([r.area for r in nuclei_of(s)]) for s in pair("nucleus_size"))
    assert high > 1.5 * low


def test_elongation_changes_the_eccentricity_of_nuclei_and_not_their_area():
    low, high = pair("elongation")
    ratio = [
        np.median([r.axis_major_length / r.axis_minor_length for r in nuclei_of(s)]) for s in (low, high)
    ]
    area = [np.median([r.area for r in nuclei_of(s)]) for s in (low, high)]
    assert ratio[1] > 1.12 * ratio[0]
    assert area[1] == pytest.approx(area[0], rel=0.08)


def test_chromatin_grain_coarsens_dna_at_equal_spread():
    low, high = pair("chromatin_grain")
    nucleus = ndimage.binary_erosion(low.light[0] > 200, iterations=2)
    assert grain(low.light[0], nucleus) > 1.3 * grain(high.light[0], nucleus)
    np.testing.assert_array_equal(low.light[1:], high.light[1:])


def test_er_grain_coarsens_er_only():
    low, high = pair("er_grain")
    body = ndimage.binary_erosion(low.light[2] > 60, iterations=3)
    assert grain(low.light[1], body) > 1.3 * grain(high.light[1], body)
    np.testing.assert_array_equal(low.light[[0, 2, 3, 4]], high.light[[0, 2, 3, 4]])


@pytest.mark.parametrize(("dimension", "channel"), [("mito_spread", "Mito"), ("golgi_scatter", "AGP")])
def test_organelle_patterns_change_their_own_channel_only(dimension, channel):
    low, high = pair(dimension)
    changed = {c for c, a, b in zip(CHANNELS, low.light, high.light, strict=True) if not np.array_equal(a, b)}
    assert changed == {channel}


def test_mitochondria_spread_away_from_the_nucleus():
    def reach(s: cells.Scene) -> float:
        y, x = np.mgrid[:SIZE, :SIZE]
        nearest = np.min([np.hypot(y - r, x - c) for r, c in s.centres], axis=0)
        return float((nearest * s.light[4]).sum() / s.light[4].sum())

    low, high = pair("mito_spread")
    assert reach(high) > reach(low) + 1.0


def test_equal_draws_give_equal_scenes_and_others_do_not():
    np.testing.assert_array_equal(scene(seed=5).light, scene(seed=5).light)
    assert not np.array_equal(scene(seed=5).light, scene(seed=6).light)


def test_a_field_without_cells_is_dark():
    empty = scene(crowding=0.0, seed=2)
    assert len(empty.centres) == 0
    assert empty.light.max() == 0.0


def test_extreme_states_still_give_cells():
    for sign in (-20.0, 20.0):
        s = cells.render(np.full(len(DIMENSIONS), sign), np.random.default_rng(0), SIZE)
        assert np.isfinite(s.light).all()
        assert 4 <= len(s.centres) <= 50


def test_nuclei_keep_their_distance():
    centres = cells.place(np.random.default_rng(0), 30, SIZE)
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    assert gaps[np.triu_indices(len(centres), 1)].min() >= 1.85 * cells.NUCLEUS_RADIUS - 1e-3
