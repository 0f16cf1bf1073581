"""Masks from files: found by pattern, ids kept, and what is wrong with one is said of its field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.datasets import load
from bench.errors import DatasetError
from bench.featurize import plate_content
from bench.imaging import field_source, mask_files
from bench.store import digest, file_digest

PATTERNS = {"method": "masks", "nuclei": "masks/{DNA}_n.tif", "cells": "masks/{plate}-{well}-{site}.tif"}


def label(broken, wells, nuclei, cells):
    (broken / "masks").mkdir(exist_ok=True)
    for well in wells:
        tifffile.imwrite(broken / "masks" / f"{well}_s1_DNA_n.tif", nuclei)
        tifffile.imwrite(broken / "masks" / f"plate-1-{well}-1.tif", cells)


@pytest.fixture
def masked(broken):
    nuclei, cells = np.zeros((2, 176, 176), np.uint16)
    nuclei[20:30, 40:60], cells[15:35, 30:70] = 7, 7
    nuclei[100:104, 80:82], cells[90:110, 70:90] = 300, 300
    cells[150:160, 150:160] = 12
    dataset = load(broken)
    label(broken, dataset.wells["Metadata_Well"], nuclei, cells)
    return replace(dataset, imaging=PATTERNS)


def fields(dataset):
    failures = []
    source = field_source(dataset, None, ("objects",), lambda m, reason: failures.append((m, reason)))
    return list(source), failures


def test_ids_with_gaps_are_kept_and_the_first_mask_decides_the_objects(masked):
    found, failures = fields(masked)
    assert failures == []
    assert len(found) == 34
    field = found[0]
    assert field.ids.tolist() == [7, 300]
    assert np.unique(field.masks["nuclei"]).tolist() == [0, 7, 300]
    assert np.unique(field.masks["cells"]).tolist() == [0, 7, 300]
    np.testing.assert_allclose(field.centres, [[24.5, 49.5], [101.5, 80.5]])


def test_a_mask_of_another_size_or_none_fails_its_field_only(masked, broken):
    wells = sorted(masked.wells["Metadata_Well"])
    tifffile.imwrite(broken / "masks" / f"{wells[1]}_s1_DNA_n.tif", np.zeros((100, 176), np.uint16))
    (broken / "masks" / f"plate-1-{wells[3]}-1.tif").unlink()
    tifffile.imwrite(broken / "masks" / f"{wells[5]}_s1_DNA_n.tif", np.full((176, 176), 0.5, np.float32))
    found, failures = fields(masked)
    assert len(found) == 31
    assert [m["Metadata_Well"] for m, _ in failures] == [wells[1], wells[3], wells[5]]
    words = ("100 x 176 pixels, the field's images 176 x 176", "does not exist", "a whole number")
    for (_, reason), expected in zip(failures, words, strict=True):
        assert expected in reason


def test_a_mask_without_objects_is_a_field_without_cells(masked, broken):
    label(broken, sorted(masked.wells["Metadata_Well"])[:1], *np.zeros((2, 176, 176), np.uint16))
    found, failures = fields(masked)
    assert failures == []
    assert len(found[0].ids) == len(found[0].centres) == 0


def test_one_object_that_covers_the_field_is_one_object(masked, broken):
    label(broken, sorted(masked.wells["Metadata_Well"])[:1], *np.full((2, 176, 176), 5, np.uint16))
    found, _ = fields(masked)
    assert found[0].ids.tolist() == [5]
    np.testing.assert_allclose(found[0].centres, [[87.5, 87.5]])


def test_binary_masks_are_divided_into_connected_parts(masked):
    binary = replace(masked, imaging={"method": "masks", "cells": PATTERNS["cells"], "labels": "binary"})
    found, _ = fields(binary)
    assert found[0].ids.tolist() == [1, 2, 3]


def test_what_the_masks_hold_is_part_of_what_features_are_made_of(masked, broken):
    def content(needs):
        return digest(plate_content(masked, "plate-1", needs, file_digest))

    before = content(("pixels", "objects")), content(("pixels",))
    assert len(mask_files(masked, "plate-1")) == 68
    path = sorted((broken / "masks").iterdir())[0]
    mask = tifffile.imread(path)
    mask[0, 0] = 7
    tifffile.imwrite(path, mask)
    assert content(("pixels", "objects")) != before[0]
    assert content(("pixels",)) == before[1]
    assert mask_files(load(broken), "plate-1") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs at least one of nuclei, cells, objects, cytoplasm"),
        ({"cells": "{GFP}.tif"}, r"uses {GFP}; known are {plate}, {well}, {site}, {DNA}"),
        ({"cells": "a.tif", "nuclei": "b.tif", "labels": "binary"}, "'binary' is for one mask"),
        ({"nucleus": "a.tif"}, "no setting 'nucleus'; it has: nuclei"),
        ({"cells": "a.tif", "labels": "colours"}, "labels is one of ids, binary"),
    ],
)
def test_wrong_settings_are_said_before_a_file_is_read(screen, settings, words):
    dataset = replace(load(screen), imaging={"method": "masks", **settings})
    with pytest.raises(DatasetError, match=words):
        field_source(dataset, None, ("objects",))
