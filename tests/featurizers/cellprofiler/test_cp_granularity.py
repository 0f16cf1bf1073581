import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk, erosion

from featurizers.base import FeaturizerError
from featurizers.cellprofiler import granularity
from featurizers.cellprofiler.granularity import GranularityConfig, measure_granularity
from featurizers.cellprofiler.objects import find_objects

CELLPROFILER_DEFAULTS = GranularityConfig(subsample=0.25, background_subsample=0.25)


@pytest.mark.parametrize("radius", [1, 2, 7, 10])
def test_the_disk_minimum_is_an_erosion(radius):
    image = np.random.default_rng(radius).random((17, 26))
    assert np.array_equal(granularity._disk_minimum(image, radius), erosion(image, disk(radius)))


def test_the_cross_minimum_is_an_erosion():
    image = np.random.default_rng(0).random((9, 12))
    assert np.array_equal(granularity._erode(image), erosion(image, disk(1)))


def test_bilinear_sampling_equals_scipy_and_is_zero_outside():
    image = np.random.default_rng(0).random((9, 7))
    rows, cols = np.array([0, 0.3, 4.5, 8.0, 8.0000001]), np.array([0.0, 5.99, 6.0, 6.2])
    expected = ndimage.map_coordinates(image, np.meshgrid(rows, cols, indexing="ij"), order=1)
    np.testing.assert_allclose(granularity._bilinear(image, rows, cols), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        CELLPROFILER_DEFAULTS,
        GranularityConfig(),
        GranularityConfig(subsample=1, background_subsample=0.3, radius=4, length=5),
        GranularityConfig(subsample=0.7, background_subsample=1, radius=3, length=4),
    ],
    ids=["CellProfiler's defaults", "JUMP", "full size", "odd factors"],
)
def test_granularity_equals_cp_measure_in_all_compartments_at_once(field, config, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    masks = [field.nuclei, field.cells, field.cytoplasm]
    ours = measure_granularity([find_objects(mask) for mask in masks], field.pixels[:2], config)
    for mask, mine in zip(masks, ours, strict=True):
        for c in range(2):
            theirs = core["granularity"](
                mask,
                field.pixels[c],
                subsample_size=config.subsample,
                image_sample_size=config.background_subsample,
                element_size=config.radius,
                granular_spectrum_length=config.length,
            )
            # Where the spectrum has ended, m(n - 1) - m(n) is a difference of equal sums: rounding only.
            for n in range(config.length):
                name = f"Granularity_{n + 1}"
                np.testing.assert_allclose(mine[:, c, n], theirs[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_black_constant_and_tiny_objects_equal_cp_measure(tiny_objects):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    rng = np.random.default_rng(1)
    pixels = np.stack([0.0 * tiny_objects, np.full(tiny_objects.shape, 0.25), rng.random(tiny_objects.shape)])
    ours = measure_granularity([find_objects(tiny_objects)], pixels, CELLPROFILER_DEFAULTS)[0]
    for c, image in enumerate(pixels):
        theirs = core["granularity"](tiny_objects, image)
        expected = np.stack([theirs[f"Granularity_{n + 1}"] for n in range(16)], axis=1)
        np.testing.assert_allclose(ours[:, c], expected, rtol=1e-6, atol=1e-9)


def test_an_image_too_small_to_subsample_is_undefined():
    objects = find_objects(np.ones((6, 6), np.int32))
    assert np.isnan(measure_granularity([objects], np.ones((1, 6, 6)), CELLPROFILER_DEFAULTS)[0]).all()


def test_a_field_without_objects_gives_empty_spectra(field):
    empty = find_objects(np.zeros(field.cells.shape, np.int32))
    full = find_objects(field.cells)
    assert measure_granularity([empty], field.pixels)[0].shape == (0, 3, 16)
    assert [len(x) for x in measure_granularity([empty, full], field.pixels)] == [0, len(full)]


@pytest.mark.parametrize(
    "settings", [{"subsample": 0}, {"background_subsample": 1.5}, {"radius": 0}, {"length": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(FeaturizerError, match="granularity needs"):
        GranularityConfig(**settings)
