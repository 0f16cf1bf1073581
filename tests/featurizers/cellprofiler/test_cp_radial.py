import heapq

import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.distance import squared_distances
from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.radial import FEATURES, measure_radial_distribution


def measure(mask, pixels, bins=4):
    objects = find_objects(mask)
    return measure_radial_distribution(objects, gather(pixels, objects), squared_distances(objects)[1], bins)


def slow_oracle(mask, image, label, bins=4):
    """Rings by Dijkstra's algorithm, one object, plain Python."""
    own = {tuple(p) for p in np.argwhere(mask == label)}
    outside = np.argwhere(mask != label)
    edge = {p: np.sqrt(((outside - p) ** 2).sum(1).min()) for p in own}
    centre = max(sorted(own), key=lambda p: edge[p])
    path, queue = {}, [(0.0, centre)]
    while queue:
        d, p = heapq.heappop(queue)
        if p in path:
            continue
        path[p] = d
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                q = (p[0] + dr, p[1] + dc)
                if q in own and q not in path:
                    heapq.heappush(queue, (d + np.hypot(dr, dc), q))
    table = {}
    for p, d in path.items():
        down, right = p[0] - centre[0], p[1] - centre[1]
        wedge = (down > 0, right > 0, abs(down) > abs(right))
        table.setdefault(int(d / (d + edge[p] + 0.001) * bins), {}).setdefault(wedge, []).append(image[p])
    total = sum(image[p] for p in path)
    out = np.zeros((3, bins))
    for ring, wedges in table.items():
        values = np.concatenate(list(wedges.values()))
        means = np.array([np.mean(w) for w in wedges.values()])
        fraction = values.sum() / total
        out[:, ring] = fraction, fraction / (values.size / len(path)), means.std() / means.mean()
    return out


def test_rings_equal_dijkstra_on_touching_lobed_and_broken_objects(field, tiny_objects):
    image = np.random.default_rng(1).uniform(0.1, 0.9, tiny_objects.shape)
    ours = measure(tiny_objects, image[None])
    for k, label in enumerate(find_objects(tiny_objects).ids):
        np.testing.assert_allclose(ours[k, 0], slow_oracle(tiny_objects, image, label), rtol=1e-9, atol=1e-12)
    ring = field.cytoplasm
    label = find_objects(ring).ids[4]
    np.testing.assert_allclose(
        measure(ring, field.pixels[:1])[4, 0],
        slow_oracle(ring, field.pixels[0], label),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_radial_distribution_equals_cp_measure(field, compartment, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    mask = getattr(field, compartment)
    ours = measure(mask, field.pixels)
    for c, image in enumerate(field.pixels):
        theirs = core["radial_distribution"](mask, image)
        for f, feature in enumerate(FEATURES):
            for ring in range(4):
                name = f"RadialDistribution_{feature}_{ring + 1}of4"
                assert_equal_values(ours[:, c, f, ring], theirs[name], name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_awkward_objects_and_channels_equal_cp_measure(tiny_objects, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    rng = np.random.default_rng(5)
    pixels = np.stack([rng.random(tiny_objects.shape), np.full(tiny_objects.shape, 0.3), 0 * tiny_objects])
    ours = measure(tiny_objects, pixels, bins=3)
    for c, image in enumerate(pixels):
        theirs = core["radial_distribution"](tiny_objects, image, bin_count=3)
        for f, feature in enumerate(FEATURES):
            for ring in range(3):
                name = f"RadialDistribution_{feature}_{ring + 1}of3"
                assert_equal_values(ours[:, c, f, ring], theirs[name], f"channel {c} {name}")


def test_wedges_without_intensity_do_not_vary():
    black = measure(np.ones((1, 11, 11), np.int32)[0], np.zeros((1, 11, 11)))
    assert np.isnan(black[0, 0, :2]).any(axis=0).all()
    assert (black[0, 0, 2] == 0).all()


def test_pixels_out_of_reach_do_not_count(tiny_objects):
    image = np.where(tiny_objects == 40, 0.5, 0.0)
    k = find_objects(tiny_objects).ids.tolist().index(40)
    assert measure(tiny_objects, image[None])[k, 0, 0].tolist() == [1, 0, 0, 0]


def test_an_object_that_fills_the_image_is_measured(field):
    whole = measure(np.ones(field.cells.shape, np.int32), field.pixels)
    assert np.isfinite(whole).all()


def test_no_rings_are_refused(field):
    with pytest.raises(FeaturizerError, match="rings"):
        measure(field.nuclei, field.pixels, bins=0)
