import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featurizers.cellprofiler.hull import convex_hulls, enclosing_circles, feret_diameters
from featurizers.cellprofiler.objects import find_objects

BLOBS = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))


def feret_by_rotation(points):
    """Extents over the directions normal to any pair of points, and the longest pair."""
    pairs = (points[:, None] - points[None]).reshape(-1, 2)
    lengths = np.hypot(*pairs.T)
    pairs, lengths = pairs[lengths > 0], lengths[lengths > 0]
    if not len(pairs):
        return 0.0, 0.0
    normals = np.column_stack([-pairs[:, 1], pairs[:, 0]]) / lengths[:, None]
    return np.ptp(points @ normals.T, axis=0).min(), lengths.max()


@settings(max_examples=150)
@given(BLOBS)
def test_hull_circle_and_calipers_hold_all_pixels_and_no_smaller_ones_do(mask):
    objects = find_objects(mask)
    if not len(objects):
        return
    points = np.argwhere(mask).astype(float)
    vertex, begin = convex_hulls(objects)
    row, col, radius = enclosing_circles(vertex, begin)[0]
    distance = np.hypot(points[:, 0] - row, points[:, 1] - col)
    assert distance.max() == pytest.approx(radius, abs=1e-9)
    # Smallest: the pixels on the circle are not all on one side of any line through its centre.
    on_circle = points[distance > radius - 1e-7] - [row, col]
    if radius > 0:
        angles = np.sort(np.arctan2(*on_circle.T))
        gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
        assert gaps.max() <= np.pi + 1e-6
    smallest, largest = feret_diameters(vertex, begin)[0]
    expected = feret_by_rotation(points)
    assert largest == pytest.approx(expected[1], abs=1e-12)
    assert smallest == pytest.approx(expected[0], abs=1e-9)


def test_hulls_and_circles_equal_centrosome(field, tiny_objects):
    centrosome = pytest.importorskip("centrosome.cpmorphology")
    for mask in (field.nuclei, field.cells, field.cytoplasm, tiny_objects):
        objects = find_objects(mask)
        hull, count = centrosome.convex_hull(objects.labels, np.arange(1, len(objects) + 1))
        vertex, begin = convex_hulls(objects)
        assert np.array_equal(vertex, hull[:, 1:])
        assert np.array_equal(np.diff(begin), count)
        centre, radius = centrosome.minimum_enclosing_circle(objects.labels, np.arange(1, len(objects) + 1))
        circle = enclosing_circles(vertex, begin)
        assert np.array_equal(circle[:, :2], centre)
        assert np.array_equal(circle[:, 2], radius)  # to the last bit: it decides which pixels are inside


def test_feret_diameters_equal_cp_measure(field, tiny_objects, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    for mask in (field.nuclei, field.cells, field.cytoplasm, tiny_objects):
        objects = find_objects(mask)
        ours = feret_diameters(*convex_hulls(objects))
        theirs = core["feret"](mask, None)
        assert_equal_values(ours[:, 0], theirs["MinFeretDiameter"], "MinFeretDiameter")
        assert_equal_values(ours[:, 1], theirs["MaxFeretDiameter"], "MaxFeretDiameter")


def test_degenerate_hulls_have_a_smallest_diameter_of_zero(tiny_objects):
    objects = find_objects(tiny_objects)
    smallest = dict(zip(objects.ids.tolist(), feret_diameters(*convex_hulls(objects))[:, 0], strict=True))
    assert [smallest[label] for label in (3, 7, 8, 11, 21, 40)] == [0] * 6
    assert smallest[12] == 3
