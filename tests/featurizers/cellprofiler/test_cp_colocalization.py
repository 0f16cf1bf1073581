import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.colocalization import measure_colocalization
from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.ranks import rank_together, sort_by_intensity


def measure(mask, pixels, threshold=15.0):
    objects = find_objects(mask)
    values = gather(pixels, objects)
    return measure_colocalization(objects, values, sort_by_intensity(objects, values)[1], threshold)


def cp_measure_pair(mask, first, second):
    from cp_measure.core import measurecolocalization as cp

    pair = {"pixels_1": first, "pixels_2": second, "masks": find_objects(mask).labels}
    out = {}
    for function in (cp.get_correlation_pearson, cp.get_correlation_manders_fold, cp.get_correlation_rwc):
        out.update(function(**pair))
    if first.any() and second.any():  # it divides by zero otherwise
        out.update(cp.get_correlation_overlap(**pair))
    return {name.removeprefix("Correlation_"): np.array(value) for name, value in out.items()}


def compare(ours, theirs, a, b, check, skip_correlation=False):
    if not skip_correlation:
        check(ours.correlation[:, a, b], theirs["Pearson"], f"Pearson {a} {b}")
        check(ours.slope[:, a, b], theirs["Slope"], f"Slope {a} {b}")
    directed = [("Manders", ours.manders), ("RWC", ours.rwc)]
    if "Overlap" in theirs:
        check(ours.overlap[:, a, b], theirs["Overlap"], f"Overlap {a} {b}")
        directed.append(("K", ours.k))
    for name, mine in directed:
        check(mine[:, a, b], theirs[f"{name}_1"], f"{name} {a} {b}")
        check(mine[:, b, a], theirs[f"{name}_2"], f"{name} {b} {a}")


@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_colocalization_equals_cp_measure(field, compartment, assert_equal_values):
    pytest.importorskip("cp_measure")
    mask = getattr(field, compartment)
    ours = measure(mask, field.pixels)
    for a, b in [(0, 1), (2, 0), (1, 2)]:
        theirs = cp_measure_pair(mask, field.pixels[a], field.pixels[b])
        compare(ours, theirs, a, b, assert_equal_values)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tiny_objects_and_odd_channels_equal_cp_measure(tiny_objects, assert_equal_values):
    pytest.importorskip("cp_measure")
    rng = np.random.default_rng(9)
    shape = tiny_objects.shape
    few = rng.integers(0, 3, shape) / 255  # ties and zeros
    pixels = np.stack([rng.random(shape), few, np.full(shape, 0.25), np.zeros(shape)])
    ours = measure(tiny_objects, pixels)
    for a, b in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        theirs = cp_measure_pair(tiny_objects, pixels[a], pixels[b])
        compare(ours, theirs, a, b, assert_equal_values, skip_correlation=True)


def test_pearson_of_varying_tiny_objects_equals_numpy(tiny_objects):
    pixels = np.random.default_rng(11).random((2, *tiny_objects.shape))
    ours = measure(tiny_objects, pixels)
    for k, label in enumerate(find_objects(tiny_objects).ids):
        x, y = pixels[:, tiny_objects == label]
        if len(x) < 2:
            assert np.isnan([ours.correlation[k, 0, 1], ours.slope[k, 0, 1]]).all()
        else:
            assert ours.correlation[k, 0, 1] == pytest.approx(np.corrcoef(x, y)[0, 1])
            assert ours.slope[k, 0, 1] == pytest.approx(np.polyfit(x, y, 1)[0])


def test_a_constant_channel_has_no_correlation_rather_than_a_noisy_or_clipped_one(field):
    pixels = field.pixels.copy()
    pixels[1] = 0.1  # not a binary fraction: its mean is off by an ulp, and a naive r is ±1 or noise
    ours = measure(field.cells, pixels)
    assert np.isnan(ours.correlation[:, 0, 1]).all()
    assert np.isnan(ours.correlation[:, 1, 0]).all()
    assert (ours.slope[:, 0, 1] == 0).all()
    assert np.isnan(ours.slope[:, 1, 0]).all()


def test_channels_never_bright_together_do_not_colocalize():
    mask = np.ones((1, 4), np.int32)
    ours = measure(mask, np.array([[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]))
    for value in (ours.overlap, ours.k, ours.manders, ours.rwc):
        assert value[0, 0, 1] == value[0, 1, 0] == 0


def test_a_threshold_that_is_no_percentage_is_refused(field):
    with pytest.raises(FeaturizerError, match="percentage"):
        measure(field.cells, field.pixels, threshold=100)


@pytest.mark.parametrize("grid", [65535, 4, None])
def test_ranks_of_the_field_weight_as_cellprofiler_defines(field, grid):
    pixels = field.pixels if grid is None else np.rint(field.pixels * grid) / grid
    objects = find_objects(field.cells)
    values = gather(pixels, objects)
    rank, levels = rank_together(values)
    ours = measure_colocalization(objects, values, rank, 15.0, levels).rwc
    x, y = values[0], values[2]
    ranks = [np.unique(v, return_inverse=True)[1] for v in (x, y)]
    most = max(r.max() for r in ranks) + 1
    weight = (most - np.abs(ranks[0] - ranks[1])) / most
    for k, (first, last) in enumerate(zip(objects.start[:-1], objects.start[1:], strict=True)):
        a, b, w = x[first:last], y[first:last], weight[first:last]
        both = (a >= 0.15 * a.max()) & (b >= 0.15 * b.max())
        assert ours[k, 0, 2] == pytest.approx((a * w)[both].sum() / a[a >= 0.15 * a.max()].sum())
        assert ours[k, 2, 0] == pytest.approx((b * w)[both].sum() / b[b >= 0.15 * b.max()].sum())
