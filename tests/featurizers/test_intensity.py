from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from featurizers.base import Channel, FeaturizerError, Field
from featurizers.intensity import Intensity, IntensityConfig
from featurizers.synthetic import PAINTING, synthetic_fields


def column(featurizer, fields, name):
    names = featurizer.columns(fields[0].channels)
    return featurizer.embed(fields).values[:, names.index(name)]


def test_the_default_names_two_regions_five_channels_and_nine_statistics():
    names = Intensity().columns(PAINTING)
    assert len(names) == len(set(names)) == 2 * 5 * 9
    assert names[0] == "Image_Intensity_MeanIntensity_DNA"
    assert "Objects_Intensity_Percentile95_ER" in names


@pytest.mark.parametrize("bit_depth", [8, 12, 16, 32])
def test_whole_field_statistics_equal_a_loop_over_planes(bit_depth):
    fields = synthetic_fields(bit_depth=bit_depth)
    scale = 1 if bit_depth == 32 else 2**bit_depth - 1
    for c, channel in enumerate(PAINTING):
        for i, field in enumerate(fields):
            x = field.pixels[c].astype(np.float64) / scale
            expected = {
                "MeanIntensity": sum(x.ravel()) / x.size,
                "StdIntensity": np.sqrt(np.mean((x - x.mean()) ** 2)),
                "Percentile50": np.sort(x.ravel())[x.size // 2 - 1 : x.size // 2 + 1].mean(),
            }
            for name, value in expected.items():
                found = column(Intensity(), fields, f"Image_Intensity_{name}_{channel.name}")[i]
                assert found == pytest.approx(value, rel=1e-6)


def test_the_object_mean_equals_scipys_over_the_label_image():
    fields = synthetic_fields()
    field = fields[0]
    expected = ndimage.mean(field.pixels[1] / 65535, field.masks["cells"] > 0, index=True)
    assert column(Intensity(), fields, "Objects_Intensity_MeanIntensity_ER")[0] == pytest.approx(
        expected, rel=1e-6
    )


def test_where_nothing_was_segmented_the_objects_are_the_whole_field():
    fields = synthetic_fields(cells=(0,))
    row = Intensity().embed(fields).values[0]
    half = len(row) // 2
    assert np.array_equal(row[:half], row[half:])


def test_a_tiny_spread_on_a_bright_background_survives_accumulation():
    pixels = np.full((1, 512, 512), 60000, np.uint16)
    pixels[0, ::2] += 1
    field = Field({}, (Channel("DNA"),), pixels)
    config = IntensityConfig(regions=("image",), statistics=("std",), percentiles=())
    assert Intensity(config).embed([field]).values[0, 0] == pytest.approx(0.5 / 65535, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pixels": None}, "given none"),
        ({"masks": {}}, "needs object masks"),
        ({"channels": PAINTING[:2]}, "each of the 2 channels"),
        ({"pixels": np.zeros((5, 0, 4), np.uint16)}, "shape"),
    ],
)
def test_a_field_without_what_is_needed_is_refused_by_its_name(change, sentence):
    field = replace(synthetic_fields()[2], **change)
    with pytest.raises(FeaturizerError, match=sentence) as error:
        Intensity().embed([field])
    assert "plate P1 well B01 site 1" in str(error.value)


def test_a_nan_pixel_is_refused_by_plate_well_and_channel():
    field = synthetic_fields(bit_depth=32)[0]
    field.pixels[3, 5, 5] = np.nan
    with pytest.raises(FeaturizerError, match=r"plate P1 well A01 site 1: channel AGP holds NaN"):
        Intensity().embed([field])


def test_a_field_without_metadata_is_still_named_in_the_error():
    with pytest.raises(FeaturizerError, match="a field without Metadata_Plate"):
        Intensity().embed([Field({}, (Channel("DNA"),))])


@pytest.mark.parametrize(
    "settings",
    [
        {"regions": ("cytoplasm",)},
        {"regions": ()},
        {"statistics": ("mean", "mean")},
        {"percentiles": (101.0,)},
        {"percentiles": (5.0, 5.0)},
        {"statistics": (), "percentiles": ()},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(FeaturizerError, match="intensity"):
        IntensityConfig(**settings)


def test_the_config_of_another_featurizer_is_refused():
    with pytest.raises(FeaturizerError, match="takes a IntensityConfig, not a str"):
        Intensity("mean")
