"""Spatial transcriptomics: spots are regions of one image, decoded once, and what does not meet is named."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.datasets import check, image_manifest, join, load
from bench.datasets.spatial import Spatial, from_spatial
from bench.embed import Work, embed_wells
from bench.entrants import Spec
from bench.errors import DatasetError, UsageError
from bench.imaging import field_source, stored

SECTIONS = ("A1", "A2", "B1")
PLACES = {"2x3": (30.2, 20.7), "10x4": (70.0, 40.4), "2x10": (50.0, 60.0)}
WHERE = {
    "images": "images/{section}.png",
    "spots": "spots/{section}.tsv",
    "counts": "counts/{section}.tsv.gz",
}


def pixels(section):
    rng = np.random.default_rng(SECTIONS.index(section))
    return rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)


@pytest.fixture
def source(tmp_path):
    """Three sections of two patients; gene ``only`` is counted in the first section alone."""
    folder = tmp_path / "in"
    for name in ("images", "spots", "counts"):
        (folder / name).mkdir(parents=True)
    for number, section in enumerate(SECTIONS):
        Image.fromarray(pixels(section)).save(folder / "images" / f"{section}.png")
        rows = [(*name.split("x"), *at, 1) for name, at in PLACES.items()]
        rows += [(7, 7, 3.0, 3.0, 1), (8, 8, 50.0, 50.0, 0), (9, 9, 50.0, 50.0, 1)]
        spots = pd.DataFrame(rows, columns=["x", "y", "pixel_x", "pixel_y", "selected"])
        spots.to_csv(folder / "spots" / f"{section}.tsv", sep="\t", index=False)
        names = [*reversed(PLACES), "7x7", "8x8", "99x99"]
        counts = pd.DataFrame({"<b>": range(6), "TP53": np.arange(6) + 10 * number}, index=names)
        if number == 0:
            counts["only"] = 5
        counts.to_csv(folder / "counts" / f"{section}.tsv.gz", sep="\t")
    return folder


def made(source, out, **more):
    return from_spatial(Spatial(folder=source, name="s", **{"patch": 16, **WHERE, **more}), out)


def test_spots_become_units_with_their_pixels_counts_section_and_patient(source, tmp_path):
    found = made(source, tmp_path / "set", patient="([A-Z])")
    assert (found.images, found.wells) == (27, 9)
    data = load(tmp_path / "set")
    assert [f.code for f in check(data)] == ["no-negative-controls"]
    fields = list(field_source(data, needs=("pixels", "objects")))
    assert [f.metadata["Metadata_Well"] for f in fields[:3]] == ["2x3", "2x10", "10x4"]
    for field in fields:
        x, y = PLACES[field.metadata["Metadata_Well"]]
        left, top = round(x - 8), round(y - 8)
        whole = pixels(field.metadata["Metadata_Plate"])
        assert (field.ids.tolist(), field.centres.tolist()) == ([1], [[7.5, 7.5]])
        assert (field.masks["objects"] == 1).all()
        np.testing.assert_array_equal(
            field.pixels, np.moveaxis(whole[top : top + 16, left : left + 16], 2, 0)
        )
    units = join(data, data.layer("expression"), data.wells)
    assert units.readouts == ("<b>", "TP53")
    where = (units.units["Metadata_Plate"] == "A2") & (units.units["Metadata_Well"] == "2x3")
    np.testing.assert_array_equal(units.Y[where.to_numpy()], [[2, 12]])
    assert set(units.groups) == set(SECTIONS)
    wells = data.wells.set_index(["Metadata_Plate", "Metadata_Well"]).loc[("B1", "10x4")]
    assert wells["Metadata_Section"] == "B1"
    assert wells["Metadata_Patient"] == "B"
    assert (wells["Metadata_x"], wells["Metadata_y"]) == ("10", "4")


def test_what_does_not_meet_is_named_with_its_reason(source, tmp_path):
    found = made(source, tmp_path / "set")
    assert found.unmatched[:4] == (
        "A1/7x7 reaches beyond the image",
        "A1/8x8 is not selected",
        "A1/9x9 has no counts",
        "A1/99x99 has counts and no spot",
    )
    assert len(found.unmatched) == 12
    assert "Metadata_Patient" not in load(tmp_path / "set").wells


def test_genes_of_every_section_or_of_any(source, tmp_path):
    made(source, tmp_path / "set", genes="all")
    frame = load(tmp_path / "set").layer("expression").read()
    assert list(frame.columns[2:]) == ["<b>", "TP53", "only"]
    assert frame["only"].tolist() == [5.0] * 3 + [0.0] * 6


def test_each_band_of_an_image_is_decoded_once(source, tmp_path, monkeypatch):
    made(source, tmp_path / "set")
    data = load(tmp_path / "set")
    decoded = []
    read = stored.read_plane
    monkeypatch.setattr(stored, "read_plane", lambda *place: decoded.append(place) or read(*place))
    stored._whole.cache_clear()
    assert len(list(field_source(data))) == 9
    assert len(decoded) == 9  # three bands of three images, not of nine spots


def test_a_changed_image_is_decoded_again(source, tmp_path):
    made(source, tmp_path / "set")
    data = load(tmp_path / "set")
    before = next(iter(field_source(data))).pixels
    Image.fromarray(255 - pixels("A1")).save(source / "images" / "A1.png", compress_level=0)
    np.testing.assert_array_equal(next(iter(field_source(data))).pixels, 255 - before)


def test_a_moved_spot_changes_its_sections_images_and_no_others(source, tmp_path):
    made(source, tmp_path / "set")
    data = load(tmp_path / "set")
    table = tmp_path / "set" / "images.csv"
    table.write_text(table.read_text().replace("22,13,16,16", "23,13,16,16", 3))
    moved = load(tmp_path / "set")
    assert image_manifest(data, "A1") != image_manifest(moved, "A1")
    assert image_manifest(data, "A2") == image_manifest(moved, "A2")


def test_a_region_beyond_its_image_fails_its_spot_only(source, tmp_path):
    made(source, tmp_path / "set")
    table = tmp_path / "set" / "images.csv"
    table.write_text(table.read_text().replace("22,13,16,16", "90,13,16,16", 3))
    rows = embed_wells(str(tmp_path / "set"), (Work("k", Spec("intensity")),), "A1", None, ["2x3", "10x4"])[
        "k"
    ]
    assert rows.wells == ["10x4"]
    assert (
        "region 90,13,16,16 reaches beyond the image, which is 100 wide and 80 high"
        in rows.failures[0].reason
    )
    found = {f.code: f for f in check(load(tmp_path / "set"))}
    assert len(found["unreadable-image"].rows) == 3


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "-1,0,5,5", "1,1,0,5"])
def test_a_region_that_is_none_is_refused_with_its_row(source, tmp_path, text):
    made(source, tmp_path / "set")
    table = tmp_path / "set" / "images.csv"
    table.write_text(table.read_text().replace("22,13,16,16", text, 1))
    with pytest.raises(DatasetError, match=r"row 1: Region is .*; write x,y,width,height"):
        load(tmp_path / "set")


def test_planes_of_one_channel_share_a_region(source, tmp_path):
    made(source, tmp_path / "set")
    table = tmp_path / "set" / "images.csv"
    text = table.read_text()
    row = next(line for line in text.splitlines() if line.startswith("A1,2x3"))
    table.write_text(text + row.replace("22,13", "23,13") + "\n")
    with pytest.raises(DatasetError, match="A1/2x3/1/R has planes of several regions"):
        load(tmp_path / "set")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"images": "a.jpg"}, UsageError, r"--images 'a.jpg' needs \{section\} once"),
        ({"patch": 0}, UsageError, "--patch 0"),
        ({"genes": "any"}, UsageError, "none of shared, all"),
        ({"patient": "["}, UsageError, "no regular expression"),
        ({"patient": "A"}, UsageError, "has 0 groups"),
        ({"patient": "(C)"}, DatasetError, "section 'A1': --patient .* does not match"),
        ({"spots": "nowhere/{section}"}, DatasetError, "no file nowhere/"),
        ({"channels": ("R",)}, DatasetError, "A1.png has 3 bands and --channels names 1"),
        ({"patch": 90}, DatasetError, "no spot has counts and lies inside its image; A1/2x3 reaches"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence_and_nothing_is_written(
    source, tmp_path, more, kind, message
):
    with pytest.raises(kind, match=message):
        made(source, tmp_path / "set", **more)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: edit(f / "spots/A1.tsv", "pixel_x", "px"), "no column pixel_x; a spot has x, y"),
        (
            lambda f: edit(f / "spots/A1.tsv", "30.2", "left"),
            "row 1: x, y, pixel_x, pixel_y are not",
        ),
        (lambda f: edit(f / "spots/A1.tsv", "10\t4", "2\t3"), "spots occur twice: 2x3"),
        (lambda f: (f / "images" / "A2.png").unlink(), "A2.png is not there, and section A2 has spots"),
        (lambda f: (f / "counts" / "B1.tsv.gz").unlink(), "B1.tsv.gz is not there"),
        (
            lambda f: pd.DataFrame({"g": ["x"]}, index=["2x3"]).to_csv(f / "counts/A1.tsv.gz", sep="\t"),
            "g holds text; rows are spots",
        ),
        (
            lambda f: pd.DataFrame({"g": [1]}, index=["2x3"]).to_csv(f / "counts/A1.tsv.gz", sep="\t"),
            "no gene is counted in every section; take --genes all",
        ),
    ],
)
def test_a_broken_source_is_one_sentence(source, tmp_path, break_it, message):
    break_it(source)
    with pytest.raises(DatasetError, match=message):
        made(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_the_command_hands_every_option_on(source, tmp_path, capsys):
    from bench.__main__ import main

    words = ["dataset", "from", "spatial", str(source), "--out", str(tmp_path / "set"), "--json"]
    words += [w for name, path in WHERE.items() for w in (f"--{name}", path)]
    words += ["--patch", "16", "--patient", "([A-Z])", "--genes", "all", "--channels", "a,b,c"]
    with pytest.raises(SystemExit) as exit_code:
        main(words)
    assert exit_code.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)["wells"] == 9
    data = load(tmp_path / "set")
    assert [c.name for c in data.channels] == ["a", "b", "c"]
    assert data.perturbation == "Metadata_Section"
    assert set(data.wells["Metadata_Patient"]) == {"A", "B"}
    assert "only" in data.layer("expression").read()


@pytest.mark.realdata
def test_three_sections_of_her2st_become_551_spots(realdata, tmp_path):
    source = Spatial(folder=realdata / "her2st", name="her2st", patient="([A-Z])")
    found = from_spatial(source, tmp_path / "set")
    assert (found.wells, len(found.unmatched)) == (551, 5)
    data = load(tmp_path / "set")
    assert set(data.wells["Metadata_Patient"]) == {"C"}
    chosen = data.wells[data.wells["Metadata_Plate"] == "C2"].head(3)
    fields = list(field_source(data, chosen))
    assert [f.pixels.shape for f in fields] == [(3, 224, 224)] * 3
    assert all(f.pixels.mean() > 100 for f in fields)  # tissue on glass, not black
    units = join(data, data.layer("expression"), data.wells)
    assert units.Y.shape == (551, 14721)
    assert units.Y.sum() > 1e6
