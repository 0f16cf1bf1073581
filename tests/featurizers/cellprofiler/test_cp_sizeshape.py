import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import regionprops

from featurizers.cellprofiler.distance import squared_distances
from featurizers.cellprofiler.hull import convex_hulls
from featurizers.cellprofiler.objects import find_objects
from featurizers.cellprofiler.sizeshape import ADVANCED, EXTRA, STANDARD, measure_shape


def measure(mask):
    objects = find_objects(mask)
    return measure_shape(objects, squared_distances(objects)[0], convex_hulls(objects))


def cp_measure_shape(mask):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    with np.errstate(divide="ignore"):
        return core["sizeshape"](mask, None) | core["feret"](mask, None)


def compare(ours, theirs, check):
    assert set(ours) == set(theirs) == {*STANDARD, *ADVANCED, *EXTRA}
    for name in ours:
        if name in ("CentralMoment_0_1", "CentralMoment_1_0"):  # 0 but for rounding
            np.testing.assert_allclose(theirs[name], 0, atol=1e-6)
            assert not ours[name].any()
        elif name == "Orientation":  # of a direction, so modulo 180°, and undefined for a round object
            turn = np.remainder(ours[name] - theirs[name] + 90, 180) - 90
            np.testing.assert_allclose(turn[theirs["Eccentricity"] > 1e-6], 0, atol=1e-6)
        elif name == "Eccentricity":  # √(1 - minor / major) magnifies rounding where it is 0
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-6)
        else:
            check(ours[name], theirs[name], name)


@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_size_and_shape_equal_cp_measure(field, compartment, assert_equal_values):
    mask = getattr(field, compartment)
    compare(measure(mask), cp_measure_shape(mask), assert_equal_values)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tiny_broken_and_hollow_objects_equal_cp_measure(tiny_objects, assert_equal_values):
    compare(measure(tiny_objects), cp_measure_shape(tiny_objects), assert_equal_values)


@settings(max_examples=100)
@given(arrays(np.int32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 1)))
def test_counts_on_any_mask_equal_scikit_image(mask):
    if not mask.any():
        return
    ours = {name: value[0] for name, value in measure(mask).items()}
    theirs = regionprops(mask)[0]
    assert ours["Perimeter"] == pytest.approx(theirs.perimeter)
    assert ours["PerimeterCrofton"] == pytest.approx(theirs.perimeter_crofton)
    assert ours["EulerNumber"] == theirs.euler_number
    assert ours["ConvexArea"] == theirs.area_convex
    assert ours["FilledArea"] == theirs.area_filled
    assert ours["Center_X"] == pytest.approx(theirs.centroid[1])
    radii = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask > 0]
    assert ours["MaximumRadius"] == radii.max()
    assert ours["MeanRadius"] == pytest.approx(radii.mean())
    assert ours["MedianRadius"] == pytest.approx(np.median(radii))


def test_central_moments_far_from_the_origin_lose_no_digits():
    small = np.zeros((8, 9), np.int32)
    small[1:7, 2:6] = small[3, 6] = 1
    far = np.zeros((3000, 3000), np.int32)
    far[2990:2998, 2980:2989] = small
    near, distant = measure(small), measure(far)
    for name in ADVANCED:
        assert np.array_equal(near[name], distant[name], equal_nan=True), name


def test_known_shapes_measure_as_geometry_says():
    square = np.zeros((12, 12), np.int32)
    square[2:10, 3:7] = 1
    found = {name: value[0] for name, value in measure(square).items()}
    assert found["Area"] == found["ConvexArea"] == found["BoundingBoxArea"] == 32
    assert (found["Extent"], found["Solidity"], found["EulerNumber"]) == (1, 1, 1)
    assert (found["Center_X"], found["Center_Y"], found["Orientation"]) == (4.5, 5.5, 0)
    assert (found["MinFeretDiameter"], found["MaximumRadius"]) == (3, 2)
    assert found["NormalizedMoment_2_0"] == pytest.approx((8**2 - 1) / 12 / 32)
