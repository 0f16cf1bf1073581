"""A dataset from file names, a platemap and readouts."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.datasets import check, image_manifest, join, load
from bench.datasets.platemap import ReadoutTable, _colrow, pairs
from bench.datasets.regex import Source, from_regex, row_letter
from bench.errors import DatasetError, UsageError


@pytest.fixture
def source(tmp_path):
    """Four wells as ``01A.tif``, two planes each, one stray file, a platemap and a readout table."""
    folder = tmp_path / "images ü"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for name in ("01A", "01B", "02A", "10A"):
        tifffile.imwrite(folder / f"{name}.tif", generator.integers(0, 256, (2, 8, 9), dtype=np.uint8))
    (folder / "notes.txt").write_text("hello")
    (tmp_path / "map.csv").write_text("colrow,treatment\n01A,control\n01B,drug\n02A,other\n10A,drug\n")
    (tmp_path / "out.tsv").write_text(
        "colrow\tname\tsize\n10A\tx\t4.5\n01A\tx\t1.5\n02A\tx\t3.5\n01B\tx\t2.5\n"
    )
    return Source(
        folder=folder,
        pattern=r"(?P<col>\d\d)(?P<row>[A-H])\.tif$",
        name="plate of four",
        channels=("BF", "GFP"),
        bit_depth=8,
        imaging="foreground",
        wells=tmp_path / "map.csv",
        rename={"colrow": "Metadata_Well", "treatment": "Metadata_Compound"},
        well_rule="colrow",
        negative=("control",),
        readouts=(ReadoutTable(tmp_path / "out.tsv", "size", exclude=("name",)),),
    )


def test_files_platemap_and_readouts_become_a_sound_dataset(source, tmp_path):
    found = from_regex(source, tmp_path / "set")
    assert (found.images, found.wells, found.unmatched) == (8, 4, ("notes.txt",))
    data = load(tmp_path / "set")
    assert check(data) == []
    assert data.images["Metadata_Well"].tolist() == ["A01", "A01", "B01", "B01", "A02", "A02", "A10", "A10"]
    assert data.images["Plane"].tolist() == [0, 1] * 4
    assert data.images["Channel"].tolist() == ["BF", "GFP"] * 4
    assert data.wells["Metadata_pert_type"].tolist() == ["negcon", "trt", "trt", "trt"]
    task = join(data, data.layer("size"), data.wells)
    assert dict(zip(task.units["Metadata_Well"], task.Y[:, 0], strict=True)) == {
        "A01": 1.5,
        "A02": 3.5,
        "A10": 4.5,
        "B01": 2.5,
    }
    assert data.imaging == {"method": "foreground"}
    assert image_manifest(data, "plate-1")[0]["path"] == "01A.tif"


def test_groups_say_plate_site_and_channel(tmp_path):
    folder = tmp_path / "in"
    for plate in ("P1", "P2"):
        (folder / plate).mkdir(parents=True)
        for name in ("b3_s1_w1", "b3_s1_w2", "b3_s2_w1", "b3_s2_w2"):
            tifffile.imwrite(folder / plate / f"{name}.tif", np.eye(4, dtype=np.uint16))
    pattern = r"(?P<plate>[^/]+)/(?P<well>[a-p]\d+)_s(?P<site>\d+)_w(?P<channel>\d)"
    source = Source(folder=folder, pattern=pattern, name="n", channels=("1", "2"), nucleus="1")
    found = from_regex(source, tmp_path / "set")
    data = load(tmp_path / "set")
    assert found.images == 8
    assert sorted(set(data.images["Metadata_Plate"])) == ["P1", "P2"]
    assert set(data.images["Metadata_Well"]) == {"B03"}
    assert sorted(set(data.images["Metadata_Site"])) == ["1", "2"]
    assert [c.role for c in data.channels] == ["nucleus", ""]
    with pytest.raises(DatasetError, match=r"channel '2' is none of 1; name it under --channels"):
        from_regex(replace(source, channels=("1",), nucleus=""), tmp_path / "other")
    with pytest.raises(DatasetError, match="a second image of plate-1/B03, site 1"):
        from_regex(replace(source, pattern=pattern.split(")/")[1]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_pattern_without_a_match_shows_itself_and_three_files(source, tmp_path):
    with pytest.raises(DatasetError) as error:
        from_regex(replace(source, pattern=r"(?P<well>[Q-Z]\d\d)"), tmp_path / "set")
    assert "(?P<well>[Q-Z]\\d\\d)" in str(error.value)
    assert "01A.tif, 01B.tif, 02A.tif and 2 more" in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "(?P<well>"}, "is no regular expression"),
        ({"pattern": "(?P<wel>.)"}, "unknown group wel"),
        ({"pattern": "(?P<row>.)"}, "needs"),
        ({"channels": ()}, "name the channels"),
        ({"well_rule": "snake"}, "'snake' is none of rowcol, colrow"),
        (
            {"rename": {"colrow": "Metadata_Well", "treatmnt": "Metadata_Compound"}},
            "no table has a column treatmnt",
        ),
    ],
)
def test_a_wrong_option_is_a_usage_error(source, tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        from_regex(replace(source, **change), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_platemap_without_well_or_perturbation_says_how_to_name_them(source, tmp_path):
    with pytest.raises(DatasetError, match="--map colrow=Metadata_Well"):
        from_regex(replace(source, rename={"treatment": "Metadata_Compound"}), tmp_path / "set")
    with pytest.raises(DatasetError, match="--map treatment=Metadata_Compound"):
        from_regex(replace(source, rename={"colrow": "Metadata_Well"}), tmp_path / "set")


def test_wells_that_the_platemap_lacks_are_named(source, tmp_path):
    source.wells.write_text(source.wells.read_text().replace("10A,drug\n", ""))
    assert from_regex(source, tmp_path / "set").wells_without_row == ("plate-1/A10",)


def test_a_folder_with_files_is_left_alone(source, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("x")
    with pytest.raises(DatasetError, match="not empty"):
        from_regex(source, tmp_path / "set")
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["mine"]


@pytest.mark.parametrize(("text", "well"), [("01B", "B01"), ("12h", "H12"), ("1AA", "AA01"), ("B01", "B01")])
def test_column_first_wells_are_turned_round(text, well):
    assert _colrow(text) == well


@pytest.mark.parametrize(
    ("row", "letters"), [("1", "A"), ("26", "Z"), ("27", "AA"), ("32", "AF"), ("c", "C")]
)
def test_a_row_may_be_a_number(row, letters):
    assert row_letter(row) == letters


def test_a_mapping_needs_both_sides():
    assert pairs(["a=b", "c=d=e"], "--map") == {"a": "b", "c=d": "e"}
    for word in ("a", "=b", "a="):
        with pytest.raises(UsageError, match="write OLD=NEW"):
            pairs([word], "--map")
