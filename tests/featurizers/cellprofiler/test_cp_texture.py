import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler import texture
from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.texture import DIRECTIONS, grey_levels, measure_texture
from featurizers.cellprofiler.vocabulary import HARALICK as FEATURES


def dense_oracle(mask, image, label, scale, direction, levels=256):
    """Haralick's features by their definitions, from the dense matrix of probabilities."""
    grey = np.where(mask == label, grey_levels(image, levels), 0).astype(int)
    matrix = np.zeros((grey.max() + 1,) * 2)
    step = scale * np.array(direction)
    for r, c in np.argwhere(grey > 0):
        r2, c2 = np.array([r, c]) + step
        if 0 <= r2 < grey.shape[0] and 0 <= c2 < grey.shape[1] and grey[r2, c2]:
            matrix[grey[r, c], grey[r2, c2]] += 1
            matrix[grey[r2, c2], grey[r, c]] += 1
    if not matrix.sum():
        return np.full(13, np.nan)
    p = matrix / matrix.sum()
    i, j = np.indices(p.shape)

    def entropy(q):
        return -np.sum(q[q > 0] * np.log2(q[q > 0]))

    plus = np.bincount((i + j).ravel(), p.ravel())
    minus = np.bincount(abs(i - j).ravel(), p.ravel())
    px, k = p.sum(1), np.arange(len(p))
    mean = px @ k
    variance = px @ (k - mean) ** 2
    h, hx = entropy(p), entropy(px)
    outer = np.outer(px, px)
    hxy1 = -np.sum(p[p > 0] * np.log2(outer[p > 0]))
    hxy2 = entropy(outer)
    average = np.arange(len(plus)) @ plus
    return np.array(
        [
            (p**2).sum(),
            ((i - j) ** 2 * p).sum(),
            ((i - mean) * (j - mean) * p).sum() / variance if variance > 1e-12 else 1,
            variance,
            (p / (1 + (i - j) ** 2)).sum(),
            average,
            (np.arange(len(plus)) - average) ** 2 @ plus,
            entropy(plus),
            h,
            minus.var(),
            entropy(minus),
            (h - hxy1) / hx if hx > 0 else 0,
            np.sqrt(max(0, 1 - np.exp(-2 * (hxy2 - h)))),
        ]
    )


@pytest.mark.parametrize("contrast", [1.0, 0.05], ids=["many levels", "few levels"])
def test_texture_equals_the_definitions_on_the_dense_matrix(field, contrast):
    objects = find_objects(field.cells)
    image = field.pixels[0] * contrast
    ours = measure_texture(objects, gather(image[None], objects), scales=(3, 10))
    for k in (0, 4, 8):
        for s, scale in enumerate((3, 10)):
            for d, direction in enumerate(DIRECTIONS):
                expected = dense_oracle(field.cells, image, objects.ids[k], scale, direction)
                np.testing.assert_allclose(ours[k, 0, s, d], expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("levels", [256, 8])
@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_texture_equals_cp_measure(field, measured, compartment, levels, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    mask, objects, values = measured[compartment]
    ours = measure_texture(objects, values[:1], levels=levels)
    for s, scale in enumerate((3, 5, 10)):
        theirs = core["texture"](mask, field.pixels[0], scale=scale, gray_levels=levels)
        for d in range(4):
            for f, feature in enumerate(FEATURES):
                name = f"{feature}_{scale}_{d:02d}_{levels}"
                assert_equal_values(ours[:, 0, s, d, f], theirs[name], name)


def test_awkward_objects_and_dim_images_equal_cp_measure(tiny_objects, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    rng = np.random.default_rng(3)
    twelve_bits = rng.integers(0, 4096, tiny_objects.shape) / 65535  # at most 17 grey levels, many at 0
    constant = np.full(tiny_objects.shape, 0.4)
    signed = rng.uniform(-1, 1, tiny_objects.shape)
    pixels = np.stack([twelve_bits, constant, signed, np.zeros_like(constant)])
    objects = find_objects(tiny_objects)
    ours = measure_texture(objects, gather(pixels, objects), scales=(1, 3))
    assert np.isnan(ours[:, 3]).all()  # a black channel has no pair at all
    for c, image in enumerate(pixels[:3]):
        for s, scale in enumerate((1, 3)):
            theirs = core["texture"](tiny_objects, image, scale=scale)
            for d in range(4):
                for f, feature in enumerate(FEATURES):
                    name = f"{feature}_{scale}_{d:02d}_256"
                    tolerance = 1e-7 if feature == "InfoMeas2" else 1e-9  # √ of a rounding residue near 0
                    assert_equal_values(ours[:, c, s, d, f], theirs[name], f"{c} {name}", atol=tolerance)


def test_grey_levels_are_those_of_img_as_ubyte_for_every_16_bit_level_and_sign():
    from skimage.util import img_as_ubyte

    every = np.arange(65536) / 65535
    signed = np.random.default_rng(0).uniform(-1, 1, 1000)
    for values in (every, signed):
        assert np.array_equal(grey_levels(values, 256), img_as_ubyte(values))


def test_12_bit_data_on_a_16_bit_scale_keep_17_grey_levels():
    assert len(np.unique(grey_levels(np.arange(4096) / 65535, 256))) == 17


def test_one_empty_direction_makes_the_whole_scale_undefined():
    line = np.zeros((3, 12), np.int32)
    line[1, 1:11] = 1  # pairs exist along the line only
    objects = find_objects(line)
    assert np.isnan(measure_texture(objects, np.full((1, 10), 0.5), scales=(3,))).all()


def test_a_constant_object_is_certain_and_perfectly_correlated():
    square = np.ones((9, 9), np.int32)
    objects = find_objects(square)
    measured = measure_texture(objects, np.full((1, 81), 0.7), scales=(2,))[0, 0, 0, 0]
    row = dict(zip(FEATURES, measured, strict=True))
    assert row["AngularSecondMoment"] == row["Correlation"] == row["InverseDifferenceMoment"] == 1
    zeros = ("Contrast", "Variance", "SumVariance", "SumEntropy", "Entropy", "DifferenceEntropy")
    assert all(row[name] == 0 for name in (*zeros, "InfoMeas1", "InfoMeas2"))


def test_an_object_of_more_pairs_than_exact_integers_allow_is_still_right(monkeypatch):
    rows = []
    for limit in (4_000_000, 0):
        monkeypatch.setattr(texture, "_EXACT_PAIRS", limit)
        sums, differences, marginal = np.zeros(512, int), np.zeros(256, int), np.zeros(256, int)
        sums[[20, 25, 30]], differences[[0, 5]], marginal[[1, 2]] = [3, 4, 5], [8, 4], [10, 14]
        out = np.empty(13)
        texture.reduce_pairs.py_func(
            out, 12, 40, 20.0, sums, differences, marginal, 2, 10, 15, texture.n_log2_n()
        )
        rows.append(out)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12)


@pytest.mark.parametrize("settings", [{"scales": (0,)}, {"scales": ()}, {"levels": 1}, {"levels": 257}])
def test_impossible_settings_are_refused(settings, field):
    objects = find_objects(field.nuclei)
    with pytest.raises(FeaturizerError, match="texture needs"):
        measure_texture(objects, gather(field.pixels, objects), **settings)
