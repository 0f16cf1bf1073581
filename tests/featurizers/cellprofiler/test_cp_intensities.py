import numpy as np
import pytest

from featurizers.cellprofiler.intensities import FEATURES, LOCATIONS, measure_intensity
from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.ranks import sort_by_intensity

NAMES = [f"Intensity_{name}" for name in FEATURES] + [f"Location_{name}" for name in LOCATIONS]


def measure(mask, pixels, quantiles="cellprofiler"):
    objects = find_objects(mask)
    values = gather(pixels, objects)
    return measure_intensity(objects, values, sort_by_intensity(objects, values)[0], quantiles)


@pytest.mark.parametrize("quantiles", ["cellprofiler", "linear"])
@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_intensity_equals_cp_measure(field, compartment, quantiles, assert_equal_values):
    bulk = pytest.importorskip("cp_measure.bulk")
    core = bulk.get_core_measurements(legacy=quantiles == "cellprofiler")
    mask = getattr(field, compartment)
    ours = measure(mask, field.pixels, quantiles)
    for c, image in enumerate(field.pixels):
        theirs = core["intensity"](mask, image)
        for f, name in enumerate(NAMES):
            assert_equal_values(ours[:, c, f], theirs[name], name)


@pytest.mark.parametrize("quantiles", ["cellprofiler", "linear"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tiny_objects_and_odd_channels_equal_cp_measure(tiny_objects, quantiles, assert_equal_values):
    bulk = pytest.importorskip("cp_measure.bulk")
    core = bulk.get_core_measurements(legacy=quantiles == "cellprofiler")
    rng = np.random.default_rng(7)
    shape = tiny_objects.shape
    pixels = np.stack(
        [rng.random(shape), rng.integers(0, 4, shape) / 255, np.full(shape, 0.3), np.zeros(shape)]
    )
    ours = measure(tiny_objects, pixels, quantiles)
    for c, image in enumerate(pixels):
        theirs = core["intensity"](tiny_objects, image)
        for f, name in enumerate(NAMES):
            assert_equal_values(ours[:, c, f], theirs[name], f"channel {c} {name}")


def test_quantiles_are_those_of_the_rules():
    mask = np.ones((1, 7), np.int32)
    values = np.array([[[0.1, 0.9, 0.3, 0.7, 0.2, 0.4, 0.8]]])
    cellprofiler = dict(zip(NAMES, measure(mask, values)[0, 0], strict=True))
    linear = dict(zip(NAMES, measure(mask, values, "linear")[0, 0], strict=True))
    assert linear["Intensity_MedianIntensity"] == 0.4
    assert cellprofiler["Intensity_MedianIntensity"] == pytest.approx(0.55)  # position 3.5 of 0 ... 6
    assert cellprofiler["Intensity_LowerQuartileIntensity"] == pytest.approx(0.275)  # position 1.75
    assert linear["Intensity_MADIntensity"] == pytest.approx(np.median(abs(values - 0.4)))


def test_an_object_without_edge_or_without_intensity_is_handled():
    whole = dict(zip(NAMES, measure(np.ones((4, 5), np.int32), np.zeros((1, 4, 5)))[0, 0], strict=True))
    assert whole["Intensity_MeanIntensityEdge"] == whole["Intensity_MaxIntensityEdge"] == 0
    assert np.isnan(whole["Intensity_MassDisplacement"])
