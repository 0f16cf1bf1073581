"""OME-Zarr plates of both versions, written by ome-zarr-py itself."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from bench.datasets import check, image_manifest, load
from bench.datasets.ome_zarr import OmeZarr, from_ome_zarr
from bench.errors import DatasetError, UsageError
from bench.imaging import field_source, preprocessing_key
from bench.imaging.zarrs import ZarrReader

pytest.importorskip("ome_zarr", reason="ome-zarr-py writes the plates of these tests")
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

pytestmark = pytest.mark.filterwarnings("ignore")
WELLS = {"A/1": "A01", "B/12": "B12"}
READER = ZarrReader()


def pixels(well, site, shape):
    seed = [list(WELLS).index(well), int(site)]
    return np.random.default_rng(seed).integers(1, 60000, shape, dtype=np.uint16)


def plate(path, version="0.5", axes="czyx", shape=(2, 3, 20, 21), listed=None, images=None):
    """Write a plate of two wells and two sites; a chunk is a quarter of a plane."""
    form = FormatV04() if version == "0.4" else FormatV05()
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    write_plate_metadata(group, ["A", "B"], ["1", "12"], [*WELLS, *(listed or [])], fmt=form)
    for well in WELLS:
        below = group.require_group(well)
        write_well_metadata(below, images or ["0", "1"], fmt=form)
        for site in ("0", "1"):
            chunks = (*(1,) * (len(shape) - 2), 10, 11)
            write_image(
                pixels(well, site, shape),
                below.require_group(site),
                fmt=form,
                axes=axes,
                storage_options={"chunks": chunks},
            )
    return path


def made(source, tmp_path, **more):
    return from_ome_zarr(OmeZarr(folder=source, name="zarr", **more), tmp_path / "set")


def fields(data):
    return {(f.metadata["Metadata_Well"], f.metadata["Metadata_Site"]): f.pixels for f in field_source(data)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("rule", ["max", "none:2"])
def test_both_versions_give_the_pixels_that_were_written(tmp_path, version, rule):
    made(
        plate(tmp_path / "p 1.zarr", version),
        tmp_path,
        projection=rule,
        channels=("DNA", "ER"),
        nucleus="DNA",
    )
    data = load(tmp_path / "set")
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert set(data.images["Metadata_Plate"]) == {"p 1"}
    assert [(c.name, c.role) for c in data.channels] == [("DNA", "nucleus"), ("ER", "")]
    read = fields(data)
    assert len(read) == 4
    for (well, site), field in read.items():
        written = pixels({v: k for k, v in WELLS.items()}[well], site, (2, 3, 20, 21))
        np.testing.assert_array_equal(field, written.max(1) if rule == "max" else written[:, 2])
    assert preprocessing_key(data)["readers"] == {"zarr": "1"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plane_reads_only_its_own_chunks(tmp_path, version):
    array = plate(tmp_path / "p.zarr", version) / "A/1/0"
    (level,) = [p for p in array.iterdir() if p.is_dir() and p.name in ("0", "s0")]
    chunks = [p for p in level.rglob("*") if p.is_file() and not p.name.startswith(("zarr", ".z"))]
    assert len(chunks) == 2 * 3 * 2 * 2
    for path in chunks:
        where = path.relative_to(level).as_posix().removeprefix("c/").replace(".", "/")
        if not where.startswith("1/2/"):
            path.write_bytes(b"no chunk")
    np.testing.assert_array_equal(READER.read(str(level), 5), pixels("A/1", "0", (2, 3, 20, 21))[1, 2])
    with pytest.raises(DatasetError, match="cannot be read as a Zarr array"):
        READER.read(str(level), 4)
    with pytest.raises(DatasetError, match="has 6 planes and plane 6 is asked for"):
        READER.read(str(level), 6)


def test_time_points_depth_and_acquisitions_are_asked_for(tmp_path):
    source = plate(tmp_path / "t.zarr", axes="tczyx", shape=(2, 2, 3, 8, 9))
    with pytest.raises(UsageError, match="2 time points; choose one with --timepoint"):
        made(source, tmp_path, projection="max")
    with pytest.raises(UsageError, match="name a rule: --projection"):
        made(source, tmp_path, timepoint="1")
    made(source, tmp_path, timepoint="1", projection="none:0")
    np.testing.assert_array_equal(
        fields(load(tmp_path / "set"))["A01", "1"], pixels("A/1", "1", (2, 2, 3, 8, 9))[1, :, 0]
    )
    runs = [{"path": "0", "acquisition": 3}, {"path": "1", "acquisition": 4}]
    several = plate(tmp_path / "a.zarr", axes="yx", shape=(8, 9), images=runs)
    with pytest.raises(UsageError, match="acquisitions 3, 4; choose one with --acquisition 3"):
        made(several, tmp_path)
    found = from_ome_zarr(OmeZarr(folder=several, name="z", acquisition="4"), tmp_path / "one")
    assert found.images == 2
    data = load(tmp_path / "one")
    assert set(data.images["Metadata_Site"]) == {"1"}
    np.testing.assert_array_equal(fields(data)["B12", "1"][0], pixels("B/12", "1", (8, 9)))


def test_wells_that_the_plate_lists_and_are_missing_are_named(tmp_path):
    source = plate(tmp_path / "p.zarr", axes="cyx", shape=(2, 8, 9), listed=["A/12"])
    shutil.rmtree(source / "B/12")
    found = made(source, tmp_path)
    assert (found.images, found.wells, found.unmatched) == (4, 1, ("p.zarr/B/12", "p.zarr/A/12"))
    shutil.rmtree(source / "A/1")
    with pytest.raises(DatasetError, match="no well of the plate holds an image"):
        from_ome_zarr(OmeZarr(folder=source, name="z"), tmp_path / "other")


def test_a_chunk_that_changes_changes_its_plate_and_no_other(tmp_path):
    for name in ("p", "q"):
        plate(tmp_path / "in" / f"{name}.zarr", axes="cyx", shape=(2, 8, 9))
    made(tmp_path / "in", tmp_path)
    data = load(tmp_path / "set")
    before = {p: image_manifest(data, p) for p in ("p", "q")}
    assert len(before["p"]) == 8
    (level,) = (p for p in (tmp_path / "in/p.zarr/A/1/0").iterdir() if p.name in ("0", "s0"))
    chunk = level / "c/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert image_manifest(data, "q") == before["q"]
    after = image_manifest(data, "p")
    assert [a["sha256"] != b["sha256"] for a, b in zip(after, before["p"], strict=True)] == [True] * 2 + [
        False
    ] * 6
    failures = []
    list(field_source(data, on_failure=lambda m, r: failures.append((m["Metadata_Plate"], r))))
    assert len(failures) == 1
    assert "p.zarr/A/1/0" in failures[0][1]


def test_truncated_or_foreign_metadata_are_one_sentence(tmp_path):
    source = plate(tmp_path / "p.zarr", axes="cyx", shape=(2, 8, 9))
    file = source / "A/1/0/zarr.json"
    text = file.read_text()
    file.write_text(text[:100])
    with pytest.raises(DatasetError, match=r"A/1/0/zarr\.json is damaged or truncated"):
        made(source, tmp_path)
    document = json.loads(text)
    del document["attributes"]["ome"]["multiscales"][0]["axes"]
    file.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="A/1/0: its image metadata lack 'axes'"):
        made(source, tmp_path)
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    with pytest.raises(DatasetError, match="lacks the `plate` metadata"):
        made(tmp_path / "other.zarr", tmp_path)
    with pytest.raises(DatasetError, match=r"no plate whose name ends in \.zarr"):
        made(tmp_path / "nowhere", tmp_path)
    assert not (tmp_path / "set").exists()


def test_an_absurd_size_is_refused_before_memory_is_asked_for(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr/0"), shape=(100_000, 100_000), chunks=(64, 64), dtype="uint16")
    zarr.create_array(
        str(tmp_path / "b.zarr/0"), shape=(90, 9000, 9000), chunks=(90, 9000, 9000), dtype="uint16"
    )
    for name, message in (("a", "100000 x 100000 pixels"), ("b", "in chunks of 7290000000")):
        with pytest.raises(DatasetError, match=message):
            READER.read(str(tmp_path / f"{name}.zarr/0"), 0)
        with pytest.raises(DatasetError, match=message):
            READER.probe(str(tmp_path / f"{name}.zarr/0"))
    with pytest.raises(DatasetError, match="does not exist"):
        READER.read(str(tmp_path / "c.zarr/0"), 0)


def test_pixel_size_and_labels_are_those_of_the_first_site(tmp_path):
    source = plate(tmp_path / "p.zarr", axes="cyx", shape=(2, 8, 9))
    for file in source.rglob("zarr.json"):
        document = json.loads(file.read_text())
        ome = document.get("attributes", {}).get("ome", {})
        if "multiscales" in ome:
            level = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
            level[0] = {"type": "scale", "scale": [1.0, 0.65, 0.65]}
            ome["multiscales"][0]["axes"][-1]["unit"] = "micrometer"
            ome["omero"] = {"channels": [{"label": "Hoechst"}, {"label": "GFP"}]}
            file.write_text(json.dumps(document))
    made(source, tmp_path)
    data = load(tmp_path / "set")
    assert data.pixel_size_um == 0.65
    assert [c.name for c in data.channels] == ["Hoechst", "GFP"]
