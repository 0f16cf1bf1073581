import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.granularity import GranularityConfig, measure_field_granularity
from featurizers.cellprofiler.image_texture import measure_image_texture
from featurizers.cellprofiler.texture import grey_levels


@pytest.mark.parametrize("levels", [256, 8])
def test_texture_of_an_image_equals_mahotas(field, levels):
    mahotas = pytest.importorskip("mahotas")
    pixels = np.stack([field.pixels[0], field.pixels[1] * 0.02])  # many levels, and few with much at level 0
    ours = measure_image_texture(pixels, (1, 3, 10), levels)
    for c in range(2):
        for s, scale in enumerate((1, 3, 10)):
            theirs = mahotas.features.haralick(grey_levels(pixels[c], levels), distance=scale)
            np.testing.assert_allclose(ours[c, s], theirs, rtol=1e-7, atol=1e-7)


def test_a_direction_without_pairs_has_no_texture():
    ours = measure_image_texture(np.random.default_rng(0).random((1, 4, 20)), (5,))
    assert np.isnan(ours[0, 0, 1:]).all()
    assert np.isfinite(ours[0, 0, 0]).all()
    with pytest.raises(FeaturizerError, match="scales of 1 pixel"):
        measure_image_texture(np.zeros((1, 4, 4)), (0,))


def test_granularity_of_an_image_is_what_reconstructions_take_from_its_mean(field):
    from skimage.morphology import dilation, disk, erosion, reconstruction

    config = GranularityConfig(subsample=1, background_subsample=1, radius=4, length=5)
    image = field.pixels[1]
    _, ours = measure_field_granularity([], field.pixels[1:2], config)
    flat = np.maximum(image - dilation(erosion(image, disk(4)), disk(4)), 0)
    eroded, means = flat, [flat.mean()]
    for _ in range(5):
        eroded = erosion(eroded, disk(1))
        means.append(reconstruction(eroded, flat, footprint=disk(1)).mean())
    np.testing.assert_allclose(ours[0], -np.diff(means) * 100 / means[0], rtol=1e-9)
