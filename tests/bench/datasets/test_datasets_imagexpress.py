"""ImageXpress folders: names, thumbnails, z-steps by a named rule, time points."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest
import tifffile

from bench.datasets import check, image_manifest, load
from bench.datasets.imagexpress import ImageXpress, from_imagexpress
from bench.errors import DatasetError, UsageError
from bench.imaging import field_source, preprocessing_key


def guid(number):
    return str(UUID(int=number * 2**96 + number)).upper()


def image(path, seed, shape=(6, 7)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 60000, shape, dtype=np.uint16)
    tifffile.imwrite(path, pixels)
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Wells A01 and B12, two sites, wavelength 1 flat, wavelength 2 three z-steps and a projection."""
    plate = tmp_path / "screen" / "2024-01-01" / "7"
    for i, (well, site) in enumerate([("A01", 1), ("A01", 2), ("B12", 1), ("B12", 2)]):
        image(plate / f"my_exp_{well}_s{site}_w1{guid(11 + i)}.tif", i)
        image(plate / f"my_exp_{well}_s{site}_w2{guid(21 + i)}.tif", 50 + i)
        image(plate / f"my_exp_{well}_s{site}_w1_thumb{guid(31 + i)}.tif", i, (2, 2))
        for z in (1, 2, 10):
            image(plate / f"ZStep_{z}" / f"my_exp_{well}_s{site}_w2{guid(100 * z + i)}.tif", 100 * z + i)
    (plate / "notes.txt").write_text("x")
    return tmp_path / "screen"


def made(folder, tmp_path, **more):
    return from_imagexpress(ImageXpress(folder=folder, name="ix", **more), tmp_path / "set")


def plane(folder, well, site, wave, z=""):
    where = folder / "2024-01-01" / "7" / (f"ZStep_{z}" if z else "")
    (path,) = where.glob(f"my_exp_{well}_s{site}_w{wave}[!_]*.tif")
    return tifffile.imread(path)


def fields(data):
    return {(f.metadata["Metadata_Well"], f.metadata["Metadata_Site"]): f.pixels for f in field_source(data)}


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_z_steps_are_projected_by_the_named_rule_and_thumbnails_left_aside(folder, tmp_path, rule):
    found = made(folder, tmp_path, channels=("DNA", "ER"), nucleus="DNA", projection=rule)
    assert (found.images, found.wells) == (4 + 12, 2)
    assert len([n for n in found.unmatched if "_thumb" in n]) == 4
    assert len(found.unmatched) == 4 + 4 + 1  # thumbnails, the instrument's projections, the notes
    data = load(tmp_path / "set")
    assert [f for f in check(data) if f.severity == "error" and "image" in f.code] == []
    assert [(c.name, c.role) for c in data.channels] == [("DNA", "nucleus"), ("ER", "")]
    assert set(data.images["Metadata_Plate"]) == {"7"}
    pixels = fields(data)
    assert len(pixels) == 4
    for (well, site), field in pixels.items():
        np.testing.assert_array_equal(field[0], plane(folder, well, site, 1))
        stack = np.stack([plane(folder, well, site, 2, z) for z in (1, 2, 10)])
        expected = stack.max(0) if rule == "max" else np.rint(stack.astype(float).mean(0))
        np.testing.assert_array_equal(field[1], expected)
    assert preprocessing_key(data)["projection"] == rule
    assert len(image_manifest(data, "7")) == 16


def test_one_plane_or_the_instruments_projection_may_be_chosen(folder, tmp_path):
    made(folder, tmp_path, projection="none:10")
    data = load(tmp_path / "set")
    assert "Z" not in data.images.columns
    assert data.projection == ""
    np.testing.assert_array_equal(fields(data)["B12", "2"][1], plane(folder, "B12", 2, 2, 10))
    from_imagexpress(ImageXpress(folder=folder, name="ix", projection="instrument"), tmp_path / "other")
    other = load(tmp_path / "other")
    np.testing.assert_array_equal(fields(other)["B12", "2"][1], plane(folder, "B12", 2, 2))
    assert "projection" not in preprocessing_key(other)


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({}, UsageError, r"z-stacks \(planes 1, 2, 10\); name a rule"),
        ({"projection": "sum"}, UsageError, "none of max, mean, none:Z"),
        ({"projection": "none:3"}, DatasetError, "no stack has a plane 3; planes are 1, 2, 10"),
        ({"projection": "max", "channels": ("DNA",)}, UsageError, r"2 channels \(w1, w2\)"),
        ({"projection": "max", "nucleus": "DAPI"}, UsageError, "'DAPI' is none of the channels w1, w2"),
        ({"projection": "max", "timepoint": "2"}, UsageError, "no time point 2"),
    ],
)
def test_what_is_not_settled_is_asked_for_and_nothing_is_written(folder, tmp_path, more, kind, message):
    with pytest.raises(kind, match=message):
        made(folder, tmp_path, **more)
    assert not (tmp_path / "set").exists()


def test_a_plane_without_the_instruments_projection_is_named(folder, tmp_path):
    next((folder / "2024-01-01" / "7").glob("*B12_s2_w2*.tif")).unlink()
    with pytest.raises(
        DatasetError, match=r"3 planes have no projection by the instrument, e.g. B12 channel w2"
    ):
        made(folder, tmp_path, projection="instrument")


def test_of_several_time_points_one_must_be_chosen(tmp_path):
    for time in (1, 2):
        image(tmp_path / "in" / "p" / f"TimePoint_{time}" / f"e_A01_w1{guid(time)}.tif", time)
    with pytest.raises(UsageError, match="choose one with --timepoint 2"):
        made(tmp_path / "in", tmp_path)
    found = made(tmp_path / "in", tmp_path, timepoint="1")
    assert (found.images, len(found.unmatched)) == (1, 1)
    data = load(tmp_path / "set")
    assert data.images["Metadata_Plate"].tolist() == ["p"]
    np.testing.assert_array_equal(
        fields(data)["A01", "1"][0], np.random.default_rng(1).integers(1, 60000, (6, 7), dtype=np.uint16)
    )


def test_a_damaged_plane_fails_its_field_and_the_plate_goes_on(folder, tmp_path):
    made(folder, tmp_path, projection="max")
    next((folder / "2024-01-01" / "7" / "ZStep_2").glob("*A01_s1*.tif")).write_bytes(b"II*\0")
    failures = []
    data = load(tmp_path / "set")
    good = list(field_source(data, on_failure=lambda m, r: failures.append((m["Metadata_Well"], r))))
    assert len(good) == 3
    assert failures[0][0] == "A01"
    assert "ZStep_2" in failures[0][1]


def test_planes_of_unequal_size_are_no_stack(folder, tmp_path):
    made(folder, tmp_path, projection="mean")
    image(next((folder / "2024-01-01" / "7" / "ZStep_2").glob("*A01_s1*.tif")), 0, (3, 3))
    failures = []
    list(field_source(load(tmp_path / "set"), on_failure=lambda _, r: failures.append(r)))
    assert len(failures) == 1
    assert "this plane of a z-stack is (3, 3) uint16, the first (6, 7) uint16" in failures[0]


def test_stacks_without_a_rule_are_an_error_of_the_check_and_of_the_field(folder, tmp_path):
    made(folder, tmp_path, projection="max")
    toml = tmp_path / "set" / "dataset.toml"
    toml.write_text(toml.read_text().replace('projection = "max"\n', ""))
    data = load(tmp_path / "set")
    assert "no-projection" in {f.code for f in check(data, "skip")}
    failures = []
    assert list(field_source(data, on_failure=lambda _, r: failures.append(r))) == []
    assert "3 images of one channel of one site and no rule" in failures[0]


def test_other_names_are_pointed_to_the_pattern(tmp_path):
    image(tmp_path / "in" / "r01c01.tif", 0)
    with pytest.raises(DatasetError, match=r"none of 1 files .*bench dataset from regex"):
        made(tmp_path / "in", tmp_path)


@pytest.mark.realdata
def test_the_real_folder_becomes_a_dataset(realdata, tmp_path):
    folder = realdata / "images_hcs_faim"
    found = made(folder, tmp_path, channels=("first", "second", "third"), nucleus="first")
    assert (found.images, found.wells, found.unmatched) == (12, 2, ("README.md",))
    data = load(tmp_path / "set")
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert sorted(set(zip(data.images["Metadata_Well"], data.images["Metadata_Site"], strict=True))) == [
        ("E07", "1"),
        ("E07", "2"),
        ("E08", "1"),
        ("E08", "2"),
    ]
    assert data.pixel_size_um == pytest.approx(1.3668)
    assert data.channels[1].stain == "FITC_05"
    pixels = fields(data)
    for key, field in pixels.items():
        assert field.shape == (3, 512, 512)
        for wave in (1, 2, 3):
            (path,) = folder.rglob(f"*_{key[0]}_s{key[1]}_w{wave}*.tif")
            np.testing.assert_array_equal(field[wave - 1], tifffile.imread(path))
