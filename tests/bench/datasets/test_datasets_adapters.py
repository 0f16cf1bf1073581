"""``bench dataset from KIND``: every kind takes the shared options and writes the same folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from bench.__main__ import main
from bench.datasets import check, load
from bench.imaging import field_source


def bench(*words):
    try:
        main([str(w) for w in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture
def images(tmp_path):
    """Three wells of one plate, two channels, named as an ImageXpress does; and the tables about them."""
    folder = tmp_path / "p1"
    folder.mkdir()
    for w, well in enumerate(("A01", "A02", "A03")):
        for wave in (1, 2):
            pixels = np.random.default_rng([w, wave]).integers(0, 256, (5, 6), dtype=np.uint8)
            tifffile.imwrite(folder / f"x_{well}_s1_w{wave}.tif", pixels)
    rows = [f"x_{w}_s1_w1.tif,p1,x_{w}_s1_w2.tif,p1,p1,{w},1" for w in ("A01", "A02", "A03")]
    head = "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,Metadata_Plate,Metadata_Well"
    (tmp_path / "load_data.csv").write_text("\n".join([head + ",Metadata_Site", *rows]) + "\n")
    (tmp_path / "map.csv").write_text("well,drug\nA01,none\nA02,x\nA03,y\n")
    (tmp_path / "out.csv").write_text("Metadata_drug,n\nx,3\ny,4\n")
    return tmp_path


KINDS = {
    "imagexpress": ("p1", "--channels", "DNA,ER"),
    "jump": ("load_data.csv",),
    "regex": (
        *("p1", "--pattern", r"(?P<well>A\d\d)_s1_w(?P<channel>\d)", "--channels", "1,2"),
        *("--plate", "p1", "--bit-depth", "8"),
    ),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_takes_the_shared_options_and_writes_the_same_folder(images, kind, capsys):
    source, *more = KINDS[kind]
    nucleus = "1" if kind == "regex" else "DNA"
    code = bench(
        *("dataset", "from", kind, images / source, *more, "--out", images / "set", "--name", "three"),
        *("--wells", images / "map.csv", "--map", "well=Metadata_Well", "--map", "drug=Metadata_drug"),
        *("--perturbation", "Metadata_drug", "--negative", "none", "--nucleus", nucleus),
        *(
            "--readouts",
            images / "out.csv",
            "--key",
            "Metadata_drug",
            "--scale",
            "counts",
            "--layer",
            "cells",
        ),
    )
    said = capsys.readouterr().out
    assert code == 0
    assert "6 image planes and 3 wells" in said
    data = load(images / "set")
    assert [f for f in check(data) if f.severity == "error"] == []
    assert (data.name, data.bit_depth, data.channels[0].role) == ("three", 8, "nucleus")
    assert data.wells["Metadata_Plate"].tolist() == ["p1"] * 3
    assert data.wells["Metadata_pert_type"].tolist() == ["negcon", "trt", "trt"]
    assert data.layer("cells").scale == "counts"
    assert data.images["Metadata_Well"].tolist() == ["A01", "A01", "A02", "A02", "A03", "A03"]


def test_an_adapter_says_what_it_found_as_json(images, capsys):
    assert bench("dataset", "from", "jump", images / "load_data.csv", "--out", images / "set", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["wells"], said["absent"]) == (6, 3, [])


def test_a_wrong_source_is_one_sentence(images, capsys):
    assert bench("dataset", "from", "imagexpress", images / "nowhere", "--out", images / "set") == 1
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert not (images / "set").exists()


@pytest.mark.realdata
def test_the_nf1_plate_becomes_a_dataset_by_its_file_names(realdata, tmp_path, capsys):
    folder = realdata / "images_nf1_cellpainting" / "Plate_2_images"
    pattern = r"(?P<well>[A-H]\d+)_01_\d_(?P<site>\d)_(?P<channel>DAPI|GFP|RFP)_001\.tif$"
    words = ("--channels", "DAPI,GFP,RFP", "--nucleus", "DAPI", "--out", tmp_path / "set")
    assert bench("dataset", "from", "regex", folder, "--pattern", pattern, *words) == 0
    assert "15 image planes and 5 wells" in capsys.readouterr().out
    data = load(tmp_path / "set")
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert sorted(data.wells["Metadata_Well"]) == ["B07", "D06", "D07", "F07", "H12"]
    fields = list(field_source(data))
    assert len(fields) == 5
    for field in fields:
        assert len({plane.tobytes() for plane in field.pixels}) == 3
