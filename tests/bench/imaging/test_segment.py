"""Segmentation against known geometry and slow oracles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.draw import disk, ellipse

from bench.demo import Settings, cells, optics
from bench.demo.settings import DIMENSIONS
from bench.errors import DatasetError
from bench.imaging import labels as labels_of
from bench.imaging import segment
from bench.imaging.segment import Foreground, OtsuLog

SHAPE = (160, 200)


def noisy(image: np.ndarray, seed: int = 0) -> np.ndarray:
    return (image + np.random.default_rng(seed).normal(100.0, 5.0, image.shape)).clip(0).astype(np.uint16)


def discs(centres: list[tuple[int, int]], radius: float = 8.0) -> np.ndarray:
    image = np.zeros(SHAPE)
    for centre in centres:
        image[disk(centre, radius, shape=SHAPE)] = 400.0
    return image


def run(image: np.ndarray, **settings) -> segment.Objects:
    return segment.otsu_log(image, image[None], OtsuLog(**settings))


def test_separate_discs_are_found_where_and_as_large_as_they_are():
    centres = [(30, 30), (40, 100), (90, 60), (120, 150)]
    found = run(noisy(discs(centres)))
    np.testing.assert_allclose(found.centres, centres, atol=1.5)
    areas = np.bincount(found.masks["nuclei"].ravel())[1:]
    np.testing.assert_allclose(areas, np.pi * 64, rtol=0.12)
    np.testing.assert_array_equal(found.ids, [1, 2, 3, 4])


@pytest.mark.parametrize("gap", [13, 16])
def test_touching_nuclei_are_cut_apart_between_their_centres(gap):
    found = run(noisy(discs([(80, 80), (80, 80 + gap), (30, 150)])), radius_px=8.0)
    assert len(found.ids) == 3
    labels = found.masks["nuclei"]
    middle = 80 + gap / 2
    assert set(np.unique(labels[75:86, 74 : int(middle - 2)])) == {2}
    assert set(np.unique(labels[75:86, int(middle + 3) : 80 + gap + 4])) == {3}


def test_an_elongated_nucleus_stays_one():
    image = np.zeros(SHAPE)
    image[ellipse(80, 100, 7, 12, shape=SHAPE, rotation=0.5)] = 400.0
    image[disk((30, 40), 9, shape=SHAPE)] = 400.0
    assert len(run(noisy(image)).ids) == 2


def ridge(*heights: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A response that zigzags along a row, its watershed labels and its peaks (the even positions)."""
    response = np.array([heights], np.float32).repeat(2, axis=0)
    columns = np.arange(0, len(heights), 2)
    labels = (np.arange(len(heights)) // 2 + 1)[None].repeat(2, axis=0).astype(np.int32)
    return labels, np.stack([np.zeros_like(columns), columns], axis=1), response


@pytest.mark.parametrize(
    ("heights", "depth", "expected"),
    [
        # Saddles 0.2 and 0.05 below the lower of their maxima.
        ((0.7, 0.4, 0.6, 0.55, 0.65), 0.01, [0, 2, 4]),
        ((0.7, 0.4, 0.6, 0.55, 0.65), 0.1, [0, 4]),
        ((0.7, 0.4, 0.6, 0.55, 0.65), 0.3, [0]),
        # The low middle joins its higher neighbour; what is left is judged by the maxima, not by the middle.
        ((0.7, 0.4, 0.45, 0.41, 0.65), 0.1, [0, 4]),
        # Of two equal maxima the first stays.
        ((0.5, 0.48, 0.5), 0.1, [0]),
    ],
)
def test_maxima_are_joined_over_shallow_saddles_highest_first(heights, depth, expected):
    labels, peaks, response = ridge(*heights)
    joined, kept = labels_of.merged(labels, peaks, response, depth)
    assert kept[:, 1].tolist() == expected
    assert joined.max() == len(expected)
    assert (joined > 0).all()
    np.testing.assert_array_equal(joined[kept[:, 0], kept[:, 1]], np.arange(1, len(expected) + 1))


@pytest.mark.parametrize("axes", [(9, 12), (7, 13)])
def test_a_nucleus_twice_as_large_or_as_long_as_the_others_stays_one(axes):
    image = discs([(25, 25), (25, 60), (130, 30), (140, 180), (20, 180)], 7.0)
    image[ellipse(80, 110, *axes, shape=SHAPE)] = 400.0
    assert len(run(noisy(image)).ids) == 6
    assert len(run(noisy(image), min_saddle=0.0).ids) == 7


def test_the_centres_are_the_maxima_of_the_scale_normalised_laplacian():
    """The fast path (separable filters, ranked peaks) against the definition, pixel by pixel."""
    image = noisy(discs([(40, 40), (52, 48), (100, 150)], 7.0))
    radius = 7.0
    found = run(image, radius_px=radius, min_area=0.0)
    smooth = ndimage.gaussian_filter(image.astype(float), 1.0)
    binary = ndimage.binary_fill_holes(smooth > naive_otsu(smooth)).astype(float)
    sigma = radius / np.sqrt(2)
    reach = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    kernel = np.exp(-np.add.outer(reach**2, reach**2) / (2 * sigma**2))
    kernel *= (2 * sigma**2 - np.add.outer(reach**2, reach**2)) / sigma**2
    kernel /= 2 * np.pi * sigma**2
    response = ndimage.convolve(binary, kernel - kernel.mean())
    for row, column in found.centres.astype(int):
        window = response[max(row - 5, 0) : row + 6, max(column - 5, 0) : column + 6]
        assert response[row, column] >= window.max() - 0.01
    assert len(found.ids) == 3


def naive_otsu(image: np.ndarray, bins: int = 256) -> float:
    """The threshold of largest between-class variance, by trying every one."""
    counts, edges = np.histogram(image, bins)
    middle = (edges[:-1] + edges[1:]) / 2
    best, threshold = -1.0, 0.0
    for k in range(1, bins):
        low, high = counts[:k], counts[k:]
        if low.sum() == 0 or high.sum() == 0:
            continue
        gap = (low * middle[:k]).sum() / low.sum() - (high * middle[k:]).sum() / high.sum()
        score = low.sum() * high.sum() * gap**2
        if score > best * (1 + 1e-12):
            best, threshold = score, middle[k - 1]
    return threshold


def test_the_foreground_of_nuclei_is_otsus_cut():
    image = noisy(discs([(40, 40), (100, 150)]))
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    found = run(image, min_area=0.0)
    np.testing.assert_array_equal(found.masks["nuclei"] > 0, smooth > naive_otsu(smooth))


@pytest.mark.parametrize("seed", range(5))
def test_a_field_of_noise_holds_no_cell(seed):
    found = run(noisy(np.zeros(SHAPE), seed))
    assert len(found.ids) == 0
    assert found.centres.shape == (0, 2)
    assert found.masks["nuclei"].max() == found.masks["cells"].max() == 0


@pytest.mark.parametrize("value", [0, 65535])
def test_a_constant_field_holds_no_cell(value):
    assert len(run(np.full(SHAPE, value, np.uint16)).ids) == 0


def test_specks_are_no_nuclei():
    image = discs([(40, 40), (100, 150)])
    image[20:22, 120:122] = 3000.0
    assert len(run(noisy(image), radius_px=8.0).ids) == 2


def test_the_border_rule_drops_nuclei_that_touch_the_edge():
    image = noisy(discs([(3, 60), (80, 80), (100, 198)]))
    assert len(run(image, border="keep").ids) == 3
    dropped = run(image, border="drop")
    np.testing.assert_allclose(dropped.centres, [[80, 80]], atol=1.5)
    assert set(np.unique(dropped.masks["cells"])) == {0, 1}


def test_cells_hold_their_nuclei_and_do_not_leave_reach_or_stain():
    nuclei = discs([(60, 60), (60, 95)])
    body = np.zeros(SHAPE)
    for column in (60, 95):
        body[disk((60, column), 20, shape=SHAPE)] = 300.0
    channels = np.stack([noisy(nuclei), noisy(body, 1)])
    found = segment.otsu_log(channels[0], channels, OtsuLog(radius_px=8.0, reach_px=10.0))
    nucleus, cell = found.masks["nuclei"], found.masks["cells"]
    assert (cell[nucleus > 0] == nucleus[nucleus > 0]).all()
    for i in found.ids:
        away = ndimage.distance_transform_edt(nucleus != i)
        assert away[cell == i].max() <= 10.0
    grown = (cell > 0) & (nucleus == 0)
    assert (body[grown] > 0).mean() > 0.97
    # Each grown pixel belongs to its nearest nucleus.
    distances = np.stack([ndimage.distance_transform_edt(nucleus != i) for i in found.ids])
    nearest = distances.min(axis=0)
    assert np.allclose(np.take_along_axis(distances, cell[None] - 1, axis=0)[0][grown], nearest[grown])


def test_ids_run_in_raster_order_of_centres_and_label_their_own_pixels():
    found = run(noisy(discs([(120, 30), (30, 150), (30, 40), (90, 90)])))
    assert [tuple(c) for c in found.centres] == sorted(tuple(c) for c in found.centres)
    for i, (row, column) in zip(found.ids, found.centres.astype(int), strict=True):
        assert found.masks["nuclei"][row, column] == i
    assert found.masks["nuclei"].dtype == found.ids.dtype == np.int32


def test_grey_levels_scale_without_moving_an_object():
    image = noisy(discs([(40, 40), (52, 50), (100, 150)]))
    np.testing.assert_array_equal(run(image).masks["nuclei"], run(image * np.uint16(4)).masks["nuclei"])


def test_demo_nuclei_are_found_as_the_simulator_placed_them():
    settings = Settings()
    light_path = optics.illumination(settings, 0)
    hits = found = true = 0
    counts = []
    for seed in range(8):
        state = np.random.default_rng(seed).normal(0.0, 1.0, len(DIMENSIONS))
        scene = cells.render(state, np.random.default_rng(seed), settings.size)
        grey = optics.expose(scene.light, light_path, np.ones(5), np.random.default_rng(seed))
        objects = segment.otsu_log(grey[0], grey, OtsuLog())
        gap = np.hypot(*(scene.centres[:, None] - objects.centres[None]).transpose(2, 0, 1))
        rows, columns = linear_sum_assignment(np.minimum(gap, 20.0))
        hits += int((gap[rows, columns] < 5.0).sum())
        found, true = found + len(objects.ids), true + len(scene.centres)
        counts.append((len(objects.ids), len(scene.centres)))
    assert 2 * hits / (found + true) > 0.97
    assert np.corrcoef(np.transpose(counts))[0, 1] > 0.98


def brightfield(dark: float, texture: float) -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((270, 270), bool)
    truth[ellipse(140, 120, 60, 80)] = True
    rng = np.random.default_rng(0)
    image = 130.0 + 0.03 * np.arange(270)[None] + rng.normal(0.0, 2.0, truth.shape)
    grain = ndimage.gaussian_filter(rng.normal(0.0, 1.0, truth.shape), 1.0)
    image = image - truth * (dark + texture * grain / grain.std())
    return image.clip(0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(("dark", "texture"), [(50.0, 0.0), (-50.0, 0.0), (0.0, 25.0), (40.0, 15.0)])
def test_an_object_darker_brighter_or_rougher_than_the_background_is_found_whole(dark, texture):
    image, truth = brightfield(dark, texture)
    found = segment.foreground(image, Foreground())
    mask = found.masks["objects"] > 0
    assert len(found.ids) == 1
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    np.testing.assert_allclose(found.centres[0], [140, 120], atol=4)


def test_an_empty_brightfield_holds_no_object():
    image = 130.0 + np.random.default_rng(1).normal(0.0, 2.0, (270, 270))
    assert len(segment.foreground(image.astype(np.uint8), Foreground()).ids) == 0


def test_foreground_keeps_the_largest_objects_above_the_least_area():
    truth = np.zeros((200, 200))
    truth[disk((50, 50), 30)] = 60
    truth[disk((150, 140), 22)] = 60
    truth[disk((30, 170), 4)] = 60
    image = noisy(truth)
    assert len(segment.foreground(image, Foreground(max_objects=5)).ids) == 2
    one = segment.foreground(image, Foreground())
    np.testing.assert_allclose(one.centres, [[50, 50]], atol=2)


def test_foreground_drops_objects_on_the_border_when_told():
    truth = np.zeros((200, 200))
    truth[disk((10, 100), 30, shape=truth.shape)] = 60
    image = noisy(truth)
    assert len(segment.foreground(image, Foreground(border="keep")).ids) == 1
    assert len(segment.foreground(image, Foreground(border="drop")).ids) == 0


def test_settings_become_a_typed_config():
    assert segment.configure({}) == ("otsu-log", OtsuLog())
    assert segment.configure({"method": "otsu-log", "radius_px": 7}) == ("otsu-log", OtsuLog(radius_px=7.0))
    method, config = segment.configure({"method": "foreground", "channel": "BF", "max_objects": 3})
    assert (method, config) == ("foreground", Foreground(channel="BF", max_objects=3))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"method": "magic"},
            "unknown method 'magic'; known: otsu-log, otsu-watershed, foreground, whole, cellpose, masks",
        ),
        ({"radius": 3}, "no setting 'radius'; it has: radius_px"),
        ({"radius_px": "seven"}, "radius_px is a number of at least 0, not 'seven'"),
        ({"radius_px": -1}, "radius_px is a number of at least 0"),
        ({"smooth_px": True}, "smooth_px is a number"),
        ({"border": "maybe"}, "border is one of keep, drop"),
        ({"method": "foreground", "max_objects": 0}, "max_objects is a number of at least 1"),
        ({"method": "foreground", "max_objects": 1.5}, "max_objects is a number of at least 1"),
    ],
)
def test_wrong_settings_are_refused_with_what_there_is(settings, words):
    with pytest.raises(DatasetError, match=words):
        segment.configure(settings)


def test_the_whole_field_is_one_object_centred_in_it():
    found = segment.whole((4, 7))
    assert (found.masks["objects"] == np.ones((4, 7))).all()
    assert (found.ids.tolist(), found.centres.tolist()) == ([1], [[1.5, 3.0]])
