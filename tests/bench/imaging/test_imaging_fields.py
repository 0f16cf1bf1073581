"""The stream of fields: order, what is read, what is skipped and why, what enters the key."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.datasets import load
from bench.errors import DatasetError
from bench.imaging import field_source, preprocessing_key, readers
from featurizers.base import Channel


@pytest.fixture(scope="module")
def dataset(screen):
    return load(screen)


def place(field):
    return tuple(field.metadata[f"Metadata_{k}"] for k in ("Plate", "Well", "Site"))


def test_fields_come_sorted_by_plate_well_and_site_by_value(dataset):
    images = dataset.images
    plates = {"P10": "P10", "P2": "P2"}
    extra = [images.assign(Metadata_Plate=p, Metadata_Site=s) for p in plates for s in ("10", "9")]
    shuffled = pd.concat(extra).sample(frac=1.0, random_state=0)
    source = field_source(replace(dataset, images=shuffled), needs=("position",))
    places = [place(f) for f in source]
    assert len(source) == len(places) == 34 * 4
    assert places == sorted(places, key=lambda p: (int(p[0][1:]), p[1], int(p[2])))
    assert [p[2] for p in places[:2]] == ["9", "10"]


def test_iterating_twice_gives_equal_fields(dataset):
    source = field_source(dataset, dataset.wells.head(3), ("pixels", "objects"))
    for a, b in zip(source, source, strict=True):
        assert a.metadata == b.metadata
        np.testing.assert_array_equal(a.pixels, b.pixels)
        np.testing.assert_array_equal(a.masks["cells"], b.masks["cells"])


def test_pixels_are_the_files_own(dataset, screen):
    field = next(iter(field_source(dataset, dataset.wells.head(1), ("pixels",))))
    assert field.pixels.dtype == np.uint16
    assert field.pixels.shape == (5, 176, 176)
    assert [c.name for c in field.channels] == ["DNA", "ER", "RNA", "AGP", "Mito"]
    for channel, plane in zip(field.channels, field.pixels, strict=True):
        name = f"{field.metadata['Metadata_Well']}_s1_{channel.name}.tif"
        np.testing.assert_array_equal(plane, tifffile.imread(screen / "images" / "plate-1" / name))
    assert field.masks == {}
    assert field.bit_depth == 16


def test_only_what_is_needed_is_read(dataset, monkeypatch):
    wells = dataset.wells.head(1)
    objects = next(iter(field_source(dataset, wells, ("objects",))))
    assert objects.pixels is None
    assert set(objects.masks) == {"nuclei", "cells"}
    assert len(objects.ids) == len(objects.centres) > 3
    monkeypatch.setattr(readers.TiffReader, "read", lambda *_: pytest.fail("a file was opened"))
    bare = next(iter(field_source(dataset, wells, ("position",))))
    assert bare.pixels is None
    assert bare.masks == {}


def test_metadata_never_names_the_perturbation(dataset):
    field = next(iter(field_source(dataset, needs=("position",))))
    assert set(field.metadata) == {"Metadata_Plate", "Metadata_Well", "Metadata_Site"}


def test_the_latent_state_is_there_only_for_who_needs_it(dataset):
    field = next(iter(field_source(dataset, needs=("latent",))))
    state = {k: v for k, v in field.metadata.items() if k.startswith("Latent_")}
    row = dataset.latent[dataset.latent["Metadata_Well"] == field.metadata["Metadata_Well"]].iloc[0]
    assert len(state) == 9
    assert all(row[k] == v for k, v in state.items())
    with pytest.raises(DatasetError, match="no latent table"):
        field_source(replace(dataset, latent=None), needs=("latent",))


def test_wells_may_be_written_with_or_without_zeros(dataset):
    wells = dataset.wells.head(5)
    loose = wells.assign(Metadata_Well=[f"{w[0].lower()}{int(w[1:])}" for w in wells["Metadata_Well"]])
    assert [place(f) for f in field_source(dataset, loose, ())] == [
        place(f) for f in field_source(dataset, wells, ())
    ]


def failures_of(dataset, needs=("pixels",)):
    failures = []
    source = field_source(dataset, None, needs, lambda metadata, reason: failures.append((metadata, reason)))
    return list(source), failures


def spoil_truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def spoil_missing(path):
    path.unlink()


def spoil_shape(path):
    tifffile.imwrite(path, np.zeros((100, 176), np.uint16))


def spoil_text(path):
    path.write_text("not an image", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_truncated, "truncated|damaged"),
        (spoil_missing, "does not exist"),
        (spoil_shape, "100 x 176 pixels.*176 x 176"),
        (spoil_text, "not a TIFF"),
    ],
)
def test_a_broken_field_is_reported_with_its_file_and_the_others_go_on(broken, spoil, words):
    dataset = load(broken)
    victim = sorted((broken / "images" / "plate-1").glob("*_ER.tif"))[4]
    spoil(victim)
    fields, failures = failures_of(dataset)
    assert len(fields) == 33
    ((metadata, reason),) = failures
    assert metadata["Metadata_Well"] == victim.name[:3]
    assert str(victim) in reason
    assert re.search(words, reason)


def test_a_channel_without_a_row_fails_its_field_only(dataset):
    images = dataset.images
    first = (images["Metadata_Well"] == images["Metadata_Well"].iloc[0]) & (images["Channel"] == "AGP")
    fields, failures = failures_of(replace(dataset, images=images[~first]))
    assert len(fields) == 33
    assert "no row for channel 'AGP'" in failures[0][1]


def test_without_a_listener_broken_fields_are_skipped(broken):
    sorted((broken / "images" / "plate-1").glob("*.tif"))[0].unlink()
    assert len(list(field_source(load(broken), None, ("pixels",)))) == 33


def test_a_field_without_cells_is_a_field_without_objects(broken):
    dark = np.random.default_rng(0).normal(250.0, 20.0, (176, 176)).astype(np.uint16)
    well = sorted((broken / "images" / "plate-1").glob("*_DNA.tif"))[0]
    for path in well.parent.glob(f"{well.name[:3]}_*.tif"):
        tifffile.imwrite(path, dark)
    fields, failures = failures_of(load(broken), ("objects",))
    assert failures == []
    assert len(fields[0].ids) == 0
    assert fields[0].masks["nuclei"].max() == 0


def test_planes_of_one_stack_can_be_channels(dataset, tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (2, 40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "A01.tif", stack, photometric="minisblack")
    images = pd.DataFrame(
        {
            "Metadata_Plate": "1",
            "Metadata_Well": "A01",
            "Metadata_Site": "1",
            "Channel": ["BF", "GFP"],
            "URI": str(tmp_path / "A01.tif"),
            "Plane": [0, 1],
        }
    )
    two = replace(
        dataset, images=images, channels=(Channel("GFP"), Channel("BF")), imaging={"method": "foreground"}
    )
    field = next(iter(field_source(two)))
    np.testing.assert_array_equal(field.pixels, stack[::-1])


def test_otsu_log_without_a_nuclear_channel_says_what_to_set(dataset):
    blind = replace(dataset, channels=tuple(replace(c, role="") for c in dataset.channels))
    with pytest.raises(DatasetError, match=r'role = "nucleus".*method = "foreground"'):
        field_source(blind, needs=("objects",))
    assert len(field_source(blind, needs=("pixels",))) == 34


def test_foreground_on_an_unknown_channel_lists_those_there_are(dataset):
    wrong = replace(dataset, imaging={"method": "foreground", "channel": "GFP"})
    with pytest.raises(DatasetError, match="no channel 'GFP'; channels: DNA"):
        field_source(wrong, needs=("objects",))


def test_a_dataset_without_images_has_fields_for_who_needs_none(dataset):
    bare = replace(dataset, images=None)
    assert len(list(field_source(bare, needs=("latent",)))) == 34
    with pytest.raises(DatasetError, match="has no images"):
        field_source(bare, needs=("pixels",))


def test_every_setting_of_the_segmentation_changes_the_key(dataset):
    base = preprocessing_key(dataset)
    assert base["readers"] == {"tiff": "1"}
    variants = [
        replace(dataset, imaging={"method": "otsu-log", "radius_px": 9.0}),
        replace(dataset, imaging={"method": "otsu-log", "border": "drop"}),
        replace(dataset, imaging={"method": "foreground"}),
        replace(dataset, channels=tuple(replace(c, role="") for c in dataset.channels)),
        replace(dataset, bit_depth=12),
    ]
    keys = [preprocessing_key(v) for v in variants]
    assert all(k != base for k in keys)
    assert preprocessing_key(replace(dataset, imaging={"border": "keep"})) == base
