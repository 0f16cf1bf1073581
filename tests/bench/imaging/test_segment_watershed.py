"""otsu-watershed: nuclei by shape, cells along the image, cytoplasm as the rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, sparse
from skimage.draw import disk

from bench.imaging.segment_watershed import Watershed, otsu_watershed, propagate

SHAPE = (160, 200)


def discs(centres, radius: float, level: float, background: float = 300.0) -> np.ndarray:
    image = np.full(SHAPE, background)
    for centre in centres:
        image[disk(centre, radius, shape=SHAPE)] = level
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return np.round(ndimage.gaussian_filter(image, 1.0) + noise).clip(0, 65535).astype(np.uint16)


def run(nucleus, stain=None, **settings):
    channels = np.stack([nucleus, nucleus if stain is None else stain])
    return otsu_watershed(nucleus, channels, Watershed(**settings))


CENTRES = [(30, 30), (40, 150), (110, 60), (110, 77), (120, 160)]


def test_nuclei_that_touch_are_divided_and_cells_and_cytoplasm_share_their_ids():
    found = run(discs(CENTRES, 9, 3000.0), discs(CENTRES, 18, 2000.0))
    nuclei, cells, cytoplasm = (found.masks[n] for n in ("nuclei", "cells", "cytoplasm"))
    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    assert np.abs(found.centres - np.array(CENTRES)).max() <= 3
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
    np.testing.assert_array_equal(cytoplasm, np.where(nuclei > 0, 0, cells))
    areas = np.bincount(cells.ravel())[1:]
    assert areas[[0, 1, 4]] == pytest.approx(np.pi * 18**2, rel=0.2)
    for label in found.ids:
        assert ndimage.label(cells == label)[1] == 1


def test_a_long_nucleus_stays_one_unless_every_maximum_counts():
    image = np.full(SHAPE, 300.0)
    for column in range(80, 100, 2):
        image[disk((80, column), 8 + 0.6 * (column % 4 == 0), shape=SHAPE)] = 3000
    image[disk((30, 30), 8)] = 3000
    image = ndimage.gaussian_filter(image, 1.0)
    assert len(run(image).ids) == 2


@pytest.mark.parametrize("level", [0, 700, 65535])
def test_a_constant_field_holds_no_object(level):
    found = run(np.full(SHAPE, level, np.uint16))
    assert len(found.ids) == 0
    assert all(mask.shape == SHAPE and not mask.any() for mask in found.masks.values())


def test_noise_holds_no_object():
    assert len(run(discs([], 9, 3000.0)).ids) == 0


def test_one_cell_that_covers_the_field_is_one_cell():
    nucleus = discs([(80, 100)], 25, 3000.0)
    stain = discs([(80, 100)], 400, 2000.0)
    stain[:8, :8] = 100
    found = otsu_watershed(nucleus, stain[None], Watershed())
    assert found.ids.tolist() == [1]
    assert (found.masks["cells"] > 0).mean() > 0.95


def test_objects_at_the_border_are_kept_or_dropped_by_name():
    nucleus = discs([(4, 60), (80, 100)], 10, 3000.0)
    assert len(run(nucleus).ids) == 2
    assert len(run(nucleus, border="drop").ids) == 1


def naive(seeds, guide, territory, regularisation):
    """The same distance by Dijkstra over the pixel graph, one seed at a time."""
    height, width = seeds.shape
    span = float(guide.max() - guide.min()) or 1.0
    rows, columns = np.gradient(guide.astype(float) / span)
    cost = np.sqrt(rows**2 + columns**2 + regularisation**2)
    open_ = territory | (seeds > 0)
    edges = []
    for r in range(height):
        for c in range(width):
            for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
                a, b = r + dr, c + dc
                if a < height and 0 <= b < width and open_[r, c] and open_[a, b]:
                    edges.append(
                        (r * width + c, a * width + b, np.hypot(dr, dc) * (cost[r, c] + cost[a, b]) / 2)
                    )
    i, j, w = map(np.array, zip(*edges, strict=True))
    graph = sparse.coo_matrix((w, (i, j)), (height * width,) * 2)
    distance = [
        sparse.csgraph.dijkstra(graph, False, np.flatnonzero(seeds == s), min_only=True)
        for s in range(1, seeds.max() + 1)
    ]
    return np.stack(distance).reshape(-1, height, width)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("regularisation", [0.02, 1.0])
def test_every_pixel_goes_to_a_seed_at_the_least_distance_along_the_image(seed, regularisation):
    rng = np.random.default_rng(seed)
    guide = ndimage.gaussian_filter(rng.normal(size=(22, 27)), 2.0).astype(np.float32)
    territory = ndimage.gaussian_filter(rng.normal(size=guide.shape), 3.0) > -0.05
    seeds = np.zeros(guide.shape, np.int32)
    for label, (r, c) in enumerate(rng.integers(1, 20, (3, 2)), start=1):
        seeds[r : r + 2, c : c + 2] = label
    found = propagate(seeds, guide, territory, regularisation)
    distance = naive(seeds, guide, territory, regularisation)
    nearest = distance.min(axis=0)
    free = territory & (seeds == 0)
    np.testing.assert_array_equal(found > 0, (free & np.isfinite(nearest)) | (seeds > 0))
    own = np.take_along_axis(distance, np.maximum(found - 1, 0)[None].astype(int), axis=0)[0]
    there = free & (found > 0)
    np.testing.assert_allclose(own[there], nearest[there], rtol=1e-9)


def test_an_edge_of_the_image_holds_a_cell_back():
    seeds = np.zeros((21, 41), np.int32)
    seeds[10, 5], seeds[10, 35] = 1, 2
    guide = np.zeros(seeds.shape, np.float32)
    guide[:, 28:] = 1.0
    everywhere = np.ones(seeds.shape, bool)
    assert propagate(seeds, guide, everywhere, 0.01)[10, 24] == 1
    assert propagate(seeds, guide, everywhere, 100.0)[10, 24] == 2
