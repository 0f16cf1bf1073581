from itertools import permutations

import numpy as np
import pytest
from scipy.stats import pearsonr

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.costes import image_thresholds, measure_costes, object_thresholds
from featurizers.cellprofiler.objects import find_objects, gather

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def costes(objects, values, pairs, scale=65535):
    return measure_costes(objects, values, pairs, object_thresholds(objects, values, pairs, scale))


def brute_force(x, y, scale):
    """Costes' coefficients of one object, with a whole correlation at every step of the search."""
    cut_x, cut_y = search(x, y, scale)
    both = (x > cut_x) & (y > cut_y)
    return x[both].sum() / x[x >= cut_x].sum(), y[both].sum() / y[y >= cut_y].sum()


def search(x, y, scale, whole=False):
    lit = (x > 0) | (y > 0)
    cov = np.cov(x[lit], y[lit])
    difference = cov[1, 1] - cov[0, 0]
    slope = (difference + np.sqrt(difference**2 + 4 * cov[0, 1] ** 2)) / (2 * cov[0, 1])
    offset = y[lit].mean() - slope * x[lit].mean()

    def correlation(candidate):
        below = (x < candidate / scale) | (y < slope * (candidate / scale) + offset)
        if below.sum() < 3 or np.ptp(x[below]) == 0 or np.ptp(y[below]) == 0:
            return np.nan
        return pearsonr(x[below], y[below])[0]

    def at_least_three(candidate):
        return ((x < candidate / scale) | (y < slope * (candidate / scale) + offset)).sum() > 2

    left, right, previous, found = 1, scale, 0, None
    candidate = int((right - left) // (6 / 5)) + left
    while candidate != previous:
        r = correlation(candidate)
        if whole and np.isnan(r) and at_least_three(candidate):
            break
        if not r >= 0:
            left = candidate - 1
        else:
            right, found = candidate + 1, candidate
        previous = candidate
        candidate = int((right - left) // (6 / 5 if right - left > 6 else 2)) + left
    if whole:
        found = found or 1
    elif found is None or np.isnan(correlation(found - 1)):
        return np.nan, np.nan
    return (found - 1) / scale, slope * (found - 1) / scale + offset


@pytest.mark.parametrize("correlation", [0.95, 0.3, -0.05, -0.6])
@pytest.mark.parametrize("scale", [255, 65535])
def test_settling_pixels_finds_what_brute_force_finds(correlation, scale):
    rng = np.random.default_rng(round(100 * correlation) + scale)
    mask = np.repeat(np.arange(1, 9, dtype=np.int32), 60).reshape(8, 60)
    x = rng.normal(size=mask.shape)
    y = correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=mask.shape)
    y[4:] += 3 * (rng.random((4, 60)) < 0.05)  # a bright tail that reverses the background's sign
    pixels = np.stack([x, y])
    pixels = np.clip(0.3 + 0.1 * pixels, 0, 1)
    pixels = np.rint(pixels * scale) / scale
    objects = find_objects(mask)
    ours = costes(objects, gather(pixels, objects), [(0, 1), (1, 0)], scale)
    for k in range(8):
        expected = [brute_force(pixels[a, k], pixels[b, k], scale) for a, b in [(0, 1), (1, 0)]]
        np.testing.assert_allclose(ours[k], expected, rtol=1e-9)


@pytest.mark.parametrize("correlation", [0.95, 0.3, -0.6])
@pytest.mark.parametrize("background", [0.0, 0.02])
def test_the_threshold_of_a_whole_image_is_what_brute_force_finds(correlation, background):
    rng = np.random.default_rng(round(100 * correlation) + 100)
    x = rng.normal(size=(40, 50))
    y = correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=x.shape)
    pixels = np.where(rng.random(x.shape) < 0.3, background, np.clip(0.3 + 0.1 * np.stack([x, y]), 0, 1))
    pixels = np.rint(pixels * 65535) / 65535
    pairs = [(0, 1), (1, 0)]
    ours = image_thresholds(pixels, pairs)
    expected = [search(pixels[a].ravel(), pixels[b].ravel(), 65535, whole=True) for a, b in pairs]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_objects_share_the_threshold_of_the_image():
    pixels = np.random.default_rng(2).integers(0, 65536, (2, 8, 8)) / 65535
    mask = np.repeat(np.arange(4, dtype=np.int32), 16).reshape(8, 8)
    objects = find_objects(mask)
    ours = measure_costes(objects, gather(pixels, objects), [(0, 1)], np.array([[0.4, 0.6]]))
    for k in range(3):
        x, y = pixels[:, mask == k + 1]
        both = (x > 0.4) & (y > 0.6)
        assert ours[k, 0, 0] == pytest.approx(x[both].sum() / x[x >= 0.4].sum())
        assert ours[k, 0, 1] == pytest.approx(y[both].sum() / y[y >= 0.6].sum())
    dark = measure_costes(objects, gather(pixels, objects), [(0, 1)], np.array([[1.0, 1.0]]))
    assert (dark == 0).all()  # CellProfiler's rule where no pixel of any object lies above


@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_costes_equals_cp_measure(field, compartment):
    cp = pytest.importorskip("cp_measure.core.measurecolocalization")
    mask = getattr(field, compartment)
    objects = find_objects(mask)
    pairs = list(permutations(range(len(field.pixels)), 2))
    ours = costes(objects, gather(field.pixels, objects), pairs)
    for j, (a, b) in enumerate(pairs):
        theirs = cp.get_correlation_costes(field.pixels[a], field.pixels[b], objects.labels, scale_max=65535)
        for side in range(2):
            expected = theirs[f"Correlation_Costes_{side + 1}"]
            np.testing.assert_allclose(ours[:, j, side], expected, rtol=1e-6, atol=1e-12)


def test_tiny_objects_zeros_and_constant_channels_equal_cp_measure(tiny_objects):
    cp = pytest.importorskip("cp_measure.core.measurecolocalization")
    rng = np.random.default_rng(13)
    shape = tiny_objects.shape
    sparse = rng.integers(0, 60000, shape) * (rng.random(shape) < 0.5) / 65535
    pixels = np.stack([rng.integers(0, 65536, shape) / 65535, sparse, np.full(shape, 0.2), np.zeros(shape)])
    objects = find_objects(tiny_objects)
    pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 1), (2, 3)]
    ours = costes(objects, gather(pixels, objects), pairs)
    for j, (a, b) in enumerate(pairs):
        theirs = cp.get_correlation_costes(pixels[a], pixels[b], objects.labels, scale_max=65535)
        for side in range(2):
            expected = theirs[f"Correlation_Costes_{side + 1}"]
            np.testing.assert_allclose(ours[:, j, side], expected, rtol=1e-6, err_msg=f"{a} {b}")


def test_a_covariance_of_exactly_zero_is_not_negative():
    """Real pixels: four of them are uncorrelated to the last integer; the sign of rounding is noise."""
    levels = np.array(
        [[6168, 5654, 6425, 5911, 6682, 6939, 5911], [18761, 18761, 20560, 22873, 21074, 22102, 19789]]
    )
    assert np.cov(levels[:, [0, 1, 3, 6]])[0, 1] == 0
    objects = find_objects(np.ones((1, 7), np.int32))
    ours = costes(objects, gather(levels[:, None] / 65535, objects), [(0, 1)])
    assert np.isnan(ours).all()  # the search goes on to the lowest threshold, which has no background


@pytest.mark.parametrize("pixels", [np.full((2, 3, 3), 1.5), np.full((2, 3, 3), -0.1)])
def test_pixels_outside_the_unit_interval_are_refused(pixels):
    objects = find_objects(np.ones((3, 3), np.int32))
    with pytest.raises(FeaturizerError, match=r"need pixels in \[0, 1\]"):
        costes(objects, gather(pixels, objects), [(0, 1)])
    with pytest.raises(FeaturizerError, match=r"need pixels in \[0, 1\]"):
        image_thresholds(pixels, [(0, 1)])


def test_a_scale_without_candidates_is_refused():
    objects = find_objects(np.ones((3, 3), np.int32))
    with pytest.raises(FeaturizerError, match="scale"):
        costes(objects, np.zeros((2, 9)), [(0, 1)], scale=1)
