import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.neighbors import FEATURES, measure_neighbors
from featurizers.cellprofiler.objects import find_objects

METHODS = {
    "adjacent": ("Adjacent", "Adjacent", 5),
    "within": ("Within a specified distance", "4", 4),
    "within far": ("Within a specified distance", "8", 8),
    "expand": ("Expand until adjacent", "Expanded", 5),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("compartment", ["nuclei", "cells"])
def test_neighbours_equal_cp_measure(field, compartment, method, assert_equal_values):
    cp = pytest.importorskip("cp_measure.multimask.measureobjectneighbors")
    spelled, scale, distance = METHODS[method]
    objects = find_objects(getattr(field, compartment))
    ours = measure_neighbors(objects, method.split()[0], distance)
    theirs = cp.measureobjectneighbors(objects.labels, objects.labels, spelled, distance)
    for f, feature in enumerate(FEATURES):
        if method == "expand" and feature != "PercentTouching":
            continue  # it expands the objects but not their neighbours; CellProfiler expands both
        assert_equal_values(ours[:, f], theirs[f"Neighbors_{feature}_{scale}"], feature)


def brute_force(labels, radius):
    """Number of neighbours and percentage of touched outline, pixel by pixel."""
    out = []
    padded = np.pad(labels, 1, constant_values=-1)
    for k in range(1, labels.max() + 1):
        own, other = np.argwhere(labels == k), np.argwhere((labels != k) & (labels > 0))
        squared = ((own[:, None] - other[None]) ** 2).sum(2)
        count = len(set(labels[tuple(other[(squared <= radius**2).any(0)].T)].tolist()))
        rim = np.array([(padded[r : r + 3, c : c + 3] != k).any() for r, c in own])
        reach = (abs(own[:, None] - other[None]).max(2) <= radius) & (squared <= (radius + 0.5) ** 2)
        out.append((count, 100 * (rim & reach.any(1)).sum() / rim.sum()))
    return np.array(out)


@pytest.mark.parametrize("distance", [1, 3, 6])
def test_contacts_equal_brute_force_on_awkward_objects(tiny_objects, distance):
    objects = find_objects(tiny_objects)
    ours = measure_neighbors(objects, "within", distance)
    np.testing.assert_allclose(ours[:, :2], brute_force(objects.labels, distance))


def test_expanding_gives_the_background_to_the_nearest_object(tiny_objects):
    objects = find_objects(tiny_objects)
    nearest = distance_transform_edt(objects.labels == 0, return_distances=False, return_indices=True)
    ours = measure_neighbors(objects, "expand")
    np.testing.assert_allclose(ours[:, :2], brute_force(objects.labels[tuple(nearest)], 1))


def test_distances_and_angles_are_those_of_the_centroids():
    mask = np.zeros((30, 30), np.int32)
    for label, (r, c) in {4: (2, 2), 6: (2, 12), 9: (22, 2)}.items():
        mask[r : r + 3, c : c + 3] = label
    for method in ("adjacent", "expand"):
        found = dict(zip(FEATURES, measure_neighbors(find_objects(mask), method)[0], strict=True))
        assert found["FirstClosestDistance"] == 10
        assert found["SecondClosestDistance"] == 20
        assert found["AngleBetweenNeighbors"] == pytest.approx(90)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_objects_have_zeros_where_nothing_can_be_measured(n):
    mask = np.zeros((9, 20), np.int32)
    mask[4, 3 : 3 + 7 * n : 7] = np.arange(1, n + 1)
    out = measure_neighbors(find_objects(mask))
    assert out.shape == (n, 5)
    assert not out[:, 3:].any()
    assert (out[:, 2] == (7 if n == 2 else 0)).all()


@pytest.mark.parametrize("settings", [{"method": "near"}, {"method": "within", "distance": 0}])
def test_unknown_methods_are_refused(tiny_objects, settings):
    with pytest.raises(FeaturizerError, match="neighbours need"):
        measure_neighbors(find_objects(tiny_objects), **settings)
