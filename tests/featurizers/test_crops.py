from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurizers.base import Channel, FeaturizerError, Field
from featurizers.crops import cut


def field_of(centres, *, shape=(20, 30), channels=2, radius=4, seed=0) -> Field:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for k, (row, column) in enumerate(centres):
        labels[(abs(rows - row) <= radius) & (abs(columns - column) <= radius) & (labels == 0)] = k + 1
    return Field(
        metadata={"Metadata_Plate": "P", "Metadata_Well": "A01", "Metadata_Site": "2"},
        channels=tuple(Channel(f"c{k}") for k in range(channels)),
        pixels=rng.integers(1, 1000, (channels, *shape)).astype(np.uint16),
        masks={"cells": labels, "nuclei": np.where(labels > 0, labels, 0).astype(np.int32)},
        centres=np.array(centres, np.float32).reshape(-1, 2),
        ids=np.arange(1, len(centres) + 1, dtype=np.int32),
    )


def slow_crop(field, centre, own, size, mask):
    """One crop, pixel by pixel."""
    pixels = np.zeros((len(field.pixels), size, size), np.float32)
    inside = np.zeros((size, size), bool)
    height, width = field.pixels.shape[1:]
    for i in range(size):
        for j in range(size):
            row = int(np.floor(centre[0] + 0.5)) - size // 2 + i
            column = int(np.floor(centre[1] + 0.5)) - size // 2 + j
            if 0 <= row < height and 0 <= column < width:
                pixels[:, i, j] = field.pixels[:, row, column]
                inside[i, j] = mask == "none" or field.masks[mask][row, column] == own
    return pixels, inside


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), min_size=1, max_size=4, unique=True),
    st.integers(1, 13),
    st.sampled_from(["cells", "none"]),
)
def test_crops_equal_a_loop_over_pixels(centres, size, mask):
    field = field_of(centres)
    crops = cut(field, size, mask=mask, background="keep")
    for k, own in enumerate(crops.ids):
        pixels, inside = slow_crop(field, field.centres[own - 1], own, size, mask)
        np.testing.assert_array_equal(crops.pixels[k], pixels)
        np.testing.assert_array_equal(crops.inside[k], inside)


def test_a_zero_background_hides_everything_but_the_own_object():
    field = field_of([(8, 8), (8, 14)])
    kept, zeroed = cut(field, 15, background="keep"), cut(field, 15)
    assert (field.masks["cells"][1:16, 1:16] == 2).any()
    np.testing.assert_array_equal(zeroed.pixels, kept.pixels * kept.inside[:, None])
    assert (zeroed.pixels[:, :, ~zeroed.inside[0]][0] == 0).all()
    assert (kept.pixels[0][:, ~kept.inside[0]] > 0).any()


def test_crops_at_the_border_are_padded_or_dropped():
    field = field_of([(1, 1), (10, 15)])
    padded = cut(field, 9, border="pad", background="keep")
    assert padded.ids.tolist() == [1, 2]
    assert (padded.pixels[0, :, :3] == 0).all()
    assert not padded.inside[0, :3].any()
    assert cut(field, 9, border="drop").ids.tolist() == [2]


def test_a_window_that_touches_the_border_from_inside_is_kept():
    field = field_of([(4, 4), (15, 25)])
    assert cut(field, 9, border="drop").ids.tolist() == [1, 2]
    assert cut(field, 11, border="drop").ids.tolist() == []


def test_rows_come_in_ascending_order_of_id_whatever_the_order_of_centres():
    field = field_of([(5, 5), (5, 20), (14, 12)])
    order = [2, 0, 1]
    mixed = replace(field, centres=field.centres[order], ids=field.ids[order])
    first, second = cut(field, 9), cut(mixed, 9)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_a_field_without_objects_gives_no_crops():
    crops = cut(field_of([]), 9)
    assert crops.pixels.shape == (0, 2, 9, 9)
    assert crops.inside.shape == (0, 9, 9)
    assert crops.ids.shape == (0,)


def test_an_object_without_a_pixel_in_the_mask_is_left_out():
    field = field_of([(5, 5), (14, 20)])
    nuclei = np.where(field.masks["cells"] == 2, 2, 0).astype(np.int32)
    field = replace(field, masks={**field.masks, "nuclei": nuclei})
    assert cut(field, 9, mask="nuclei").ids.tolist() == [2]
    assert cut(field, 9, mask="cells").ids.tolist() == [1, 2]


def test_the_outermost_mask_is_cells_then_objects_then_nuclei():
    field = field_of([(5, 5), (14, 20)])
    whole, core = field.masks["cells"], np.zeros_like(field.masks["cells"])
    core[5, 5], core[14, 20] = 1, 2
    for masks, expected in (
        ({"nuclei": core, "cells": whole}, whole),
        ({"nuclei": core, "objects": whole}, whole),
        ({"nuclei": core}, core),
    ):
        found = cut(replace(field, masks=masks), 9).inside
        assert found.sum() == (expected > 0).sum()


def test_scaling_shows_a_larger_part_and_mixes_no_labels():
    field = field_of([(10, 15)], radius=6)
    flat = replace(field, pixels=np.full((2, 20, 30), 500, np.uint16))
    half = cut(flat, 10, scale=0.5)
    assert half.inside[0].sum() == pytest.approx(field.masks["cells"].astype(bool).sum() / 4, rel=0.2)
    np.testing.assert_allclose(half.pixels[0][:, half.inside[0]], 500)
    double = cut(flat, 30, scale=2.0)
    assert double.inside[0].sum() == 4 * (field.masks["cells"] > 0).sum()


def test_the_field_is_not_changed():
    field = field_of([(5, 5)])
    pixels, labels = field.pixels.copy(), field.masks["cells"].copy()
    cut(field, 9)
    np.testing.assert_array_equal(field.pixels, pixels)
    np.testing.assert_array_equal(field.masks["cells"], labels)


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ({"pixels": None}, {}, "no .* pixels"),
        ({"masks": {}}, {}, "no mask of cells, objects, nuclei"),
        ({"masks": {"cells": np.zeros((3, 3), np.int32)}}, {}, r"\(3, 3\)"),
        ({"pixels": np.full((2, 20, 30), np.nan, np.float32)}, {}, "NaN"),
        ({}, {"mask": "tissue"}, "choose one of"),
        ({}, {"scale": 0.0}, "positive"),
    ],
)
def test_wrong_input_is_said_in_one_sentence_with_the_place(change, options, reason):
    field = replace(field_of([(5, 5)]), **change)
    with pytest.raises(FeaturizerError, match=reason) as caught:
        cut(field, 9, **options)
    if change:
        assert "well A01" in str(caught.value)
