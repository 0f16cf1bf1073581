"""CellProfiler's single cells: what real CellProfiler wrote (``fixture.cppipe``) becomes a row per well.

The fixtures under ``cellprofiler/`` are its CSV files and, as SQL text, its two kinds of SQLite database.
"""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.__main__ import main
from bench.datasets.cells import collect, csvs, is_cells, parquet, sqlite
from bench.datasets.importing import import_profiles
from bench.datasets.load import load
from bench.errors import DatasetError, UsageError

REAL = Path(__file__).parent / "cellprofiler"
COMPARTMENTS = ("Nuclei", "Cells", "Cytoplasm")
KEYS = ["ImageNumber", "ObjectNumber"]


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("Image", *COMPARTMENTS):
        shutil.copy(REAL / f"{name}.csv", out)
    return out


@pytest.fixture
def database(tmp_path):
    def make(name):
        path = tmp_path / f"{name}.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript((REAL / f"{name}.sql").read_text())
        connection.close()
        return path

    return make


@pytest.fixture(scope="module")
def joined():
    """One row per cell by pandas' merge, in CytoTable's names."""
    image = pd.read_csv(REAL / "Image.csv")
    image = image.rename(columns={c: f"Image_{c}" for c in image.columns if c != "ImageNumber"})
    tables = {}
    for name in COMPARTMENTS:
        table = pd.read_csv(REAL / f"{name}.csv")
        tables[name] = table.rename(columns={c: f"{name}_{c}" for c in table.columns if c != "ImageNumber"})
    frame = tables["Cytoplasm"]
    for name in ("Nuclei", "Cells"):
        frame = frame.merge(
            tables[name],
            left_on=["ImageNumber", f"Cytoplasm_Parent_{name}"],
            right_on=["ImageNumber", f"{name}_ObjectNumber"],
        )
    frame = frame.merge(image, on="ImageNumber")
    frame = frame.rename(
        columns={"ImageNumber": "Metadata_ImageNumber", "Cytoplasm_ObjectNumber": "Metadata_ObjectNumber"}
    )
    return frame.rename(
        columns={"Image_Metadata_Plate": "Metadata_Plate", "Image_Metadata_Well": "Metadata_Well"}
    )


@pytest.fixture
def cytotable(tmp_path, joined):
    joined.to_parquet(tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet"


def cytominer(tmp_path, joined):
    """The layout of cytominer-database: a TableNumber, prefixes, no index."""
    path = tmp_path / "plate.sqlite"
    with sqlite3.connect(path) as connection:
        image = pd.read_csv(REAL / "Image.csv")
        image = image.rename(columns={c: f"Image_{c}" for c in image.columns if c != "ImageNumber"})
        image.assign(TableNumber=image["ImageNumber"] * 1000, ImageNumber=1).to_sql(
            "Image", connection, index=False
        )
        for name in COMPARTMENTS:
            table = pd.read_csv(REAL / f"{name}.csv").sample(frac=1, random_state=0)  # in no order
            table = table.rename(columns={c: f"{name}_{c}" for c in table.columns if c not in KEYS})
            table.assign(TableNumber=table["ImageNumber"] * 1000, ImageNumber=1).to_sql(
                name, connection, index=False
            )
    connection.close()
    return path


@pytest.mark.parametrize("operation", ["median", "mean"])
def test_wells_are_aggregated_as_pycytominer_aggregates_them(folder, joined, operation):
    from pycytominer import aggregate

    ours = collect(str(folder), operation)
    cells = [c for c in ours.frame.columns if c.startswith(COMPARTMENTS)]
    theirs = aggregate(joined, ["Metadata_Plate", "Metadata_Well"], features=cells, operation=operation)
    np.testing.assert_allclose(ours.frame[cells], theirs[cells], rtol=1e-6)
    assert ours.frame["Metadata_Well"].tolist() == ["A01", "B02"]
    assert ours.frame["Metadata_Object_Count"].tolist() == ["9", "10"]
    assert ours.frame["Metadata_Site_Count"].tolist() == ["2", "2"]
    sites = pd.read_csv(REAL / "Image.csv").groupby("Metadata_Well")["Count_Cells"].agg(operation)
    np.testing.assert_allclose(ours.frame["Image_Count_Cells"], sites)


def test_numbers_and_links_are_no_features_and_names_keep_cellprofilers_grammar(folder):
    columns = collect(str(folder)).frame.columns
    assert "Cells_Neighbors_NumberOfNeighbors_Adjacent" in columns
    assert "Nuclei_AreaShape_Area" in columns
    assert "Image_Intensity_MeanIntensity_DNA" in columns
    assert not [c for c in columns if "Object_Number" in c or "Parent" in c or "ClosestObjectNumber" in c]
    assert not [c for c in columns if "ExecutionTime" in c or "FileName" in c or "ModuleError" in c]


def test_every_layout_gives_the_same_profiles(folder, database, cytotable, tmp_path, joined):
    expected = collect(str(folder)).frame
    sources = {
        "cellprofiler-sqlite": [database("per_object"), database("single"), cytominer(tmp_path, joined)],
        "cytotable-parquet": [cytotable],
    }
    for layout, paths in sources.items():
        for path in paths:
            found = collect(str(path))
            assert found.layout == layout
            left = set(expected.columns) - set(found.frame.columns)
            assert {c.split("_")[1] for c in left} <= {"Children"}, path  # databases do not have these
            for name in found.frame.columns:
                if name.startswith("Metadata_"):
                    assert found.frame[name].tolist() == expected[name].tolist()
                else:
                    np.testing.assert_allclose(
                        found.frame[name], expected[name], rtol=1e-5, err_msg=f"{path} {name}"
                    )


def test_small_pieces_and_many_folders_change_nothing(folder, cytotable, database, tmp_path, monkeypatch):
    expected = collect(str(folder)).frame
    monkeypatch.setattr(csvs, "CHUNK_BYTES", 2048)
    monkeypatch.setattr(parquet, "ROWS", 3)
    monkeypatch.setattr(sqlite, "ROWS", 3)
    pd.testing.assert_frame_equal(collect(str(folder)).frame, expected)
    np.testing.assert_allclose(
        collect(str(cytotable)).frame[expected.columns[4:]], expected.iloc[:, 4:], rtol=1e-6
    )
    assert len(collect(str(database("per_object"))).frame) == 2
    image = pd.read_csv(folder / "Image.csv")
    for number in image["ImageNumber"]:  # as JUMP exports: a folder per site, each with a prefix
        site = tmp_path / "sites" / f"P1-{number}"
        site.mkdir(parents=True)
        for name in ("Image", *COMPARTMENTS):
            table = pd.read_csv(folder / f"{name}.csv")
            table[table["ImageNumber"] == number].to_csv(site / f"MyExpt_{name}.csv.gz", index=False)
    apart = collect(str(tmp_path / "sites")).frame
    pd.testing.assert_frame_equal(apart[expected.columns], expected, rtol=1e-6)


def test_rows_of_a_cytotable_may_come_in_any_order(cytotable, joined, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS", 4)
    joined.sample(frac=1, random_state=1).to_parquet(tmp_path / "mixed.parquet")
    mixed = collect(str(tmp_path / "mixed.parquet")).frame.sort_values("Metadata_Well").reset_index(drop=True)
    pd.testing.assert_frame_equal(mixed, collect(str(cytotable)).frame)


def test_plates_whose_image_numbers_begin_anew_stay_apart_in_one_cytotable(joined, tmp_path):
    other = joined.assign(Metadata_Plate="P2", Cytoplasm_AreaShape_Area=0.0)
    both = pd.concat([joined, other], ignore_index=True)
    for name, table in (("both", both), ("numberless", both.drop(columns="Metadata_ObjectNumber"))):
        table.to_parquet(tmp_path / f"{name}.parquet")
        frame = collect(str(tmp_path / f"{name}.parquet")).frame
        assert frame["Metadata_Plate"].tolist() == ["P1", "P1", "P2", "P2"]
        assert frame["Metadata_Object_Count"].tolist() == ["9", "10"] * 2
        assert frame["Metadata_Site_Count"].tolist() == ["2"] * 4
        assert (frame["Cytoplasm_AreaShape_Area"] == 0).tolist() == [False, False, True, True]


def test_a_copy_of_an_export_is_not_counted_twice(folder):
    copy = folder / "backup"
    copy.mkdir()
    for name in ("Image", *COMPARTMENTS):
        shutil.copy(folder / f"{name}.csv", copy)
    with pytest.raises(DatasetError, match=r"image 1 is also in .*Image.csv; remove the copy"):
        collect(str(folder))
    edit(copy / "Image.csv", lambda t: t.assign(Metadata_Plate="P2"))
    assert len(collect(str(folder)).frame) == 4


def test_a_renamed_column_takes_the_place_of_another_and_must_be_there(folder, database, cytotable):
    swap = {"Metadata_Site": "Metadata_Well", "Metadata_Well": "Metadata_Site"}
    prefixed = {f"Image_{k}": v for k, v in swap.items()}
    both = {"Image_Metadata_Site": "Metadata_Well"}
    objects, single = database("per_object"), database("single")
    for source, rename in (
        (folder, swap),
        (folder, {"Metadata_Site": "Metadata_Well"}),
        (objects, prefixed),
        (single, both),
        (cytotable, both),
    ):
        wells = collect(str(source), rename=rename).frame["Metadata_Well"]
        assert sorted(wells) == ["1", "2"], (source, rename)
    for source in (folder, single, cytotable):
        with pytest.raises(DatasetError, match=r"no column Metadata_Nope to rename; the images have .*Site"):
            collect(str(source), rename={"Metadata_Nope": "Metadata_Well"})


def edit(path, change):
    table = pd.read_csv(path)
    change(table).to_csv(path, index=False)


def drop_rows(n):
    return lambda table: table.iloc[:-n]


def with_text(table):
    return table.astype({"AreaShape_Area": object}).assign(AreaShape_Area=["x", *table["AreaShape_Area"][1:]])


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("Cells", drop_rows(2), "image 4: Cells has 3 rows and Image.csv counts 5; the file is cut off"),
        ("Cytoplasm", lambda t: pd.concat([t, t.tail(1)]), "Cytoplasm has 6 rows and Image.csv counts 5"),
        ("Nuclei", lambda t: t.assign(ObjectNumber=1), "object 1 of Nuclei occurs twice"),
        ("Cytoplasm", lambda t: t.assign(Parent_Cells=9), "belongs to object 9 of Cells, which is not there"),
        ("Image", lambda t: t.drop(columns="Metadata_Well"), "no Metadata_Well; .*Site=Metadata_Well"),
        ("Image", lambda t: t.assign(Metadata_Plate=""), "Metadata_Plate is empty"),
        ("Image", lambda t: pd.concat([t, t]), "an ImageNumber occurs twice"),
        ("Cells", lambda t: t.iloc[::-1], "not sorted by image"),
        ("Cells", lambda t: t.drop(columns="ObjectNumber"), "no column ObjectNumber"),
        ("Cytoplasm", lambda t: t.drop(columns="Parent_Cells"), "Parent_ columns.*RelateObjects"),
        ("Cells", with_text, "cannot be read"),
    ],
)
def test_a_wrong_csv_is_one_sentence(folder, name, change, sentence):
    edit(folder / f"{name}.csv", change)
    with pytest.raises(DatasetError, match=sentence):
        collect(str(folder))


def test_a_truncated_csv_is_found_wherever_it_was_cut(folder):
    whole = (folder / "Cells.csv").read_bytes()
    for cut in (1, 2, 40, 400, 2000):
        (folder / "Cells.csv").write_bytes(whole[:-cut])
        with pytest.raises(DatasetError, match=r"Cells(\.csv)?[: ].*(cut off|counts)"):
            collect(str(folder))


def test_a_missing_compartment_is_named_and_can_be_left_out(folder):
    (folder / "Cytoplasm.csv").unlink()
    with pytest.raises(
        DatasetError, match=r"no Cytoplasm.csv; it has Cells.csv, Image.csv, Nuclei.csv.*--compartments"
    ):
        collect(str(folder))
    found = collect(str(folder), compartments=("Nuclei", "Cells")).frame
    assert not [c for c in found.columns if c.startswith("Cytoplasm")]
    assert len(collect(str(folder), compartments=("Nuclei",)).frame) == 2


def test_objects_without_a_partner_are_left_out_and_counted(folder):
    edit(folder / "Cytoplasm.csv", lambda t: t.assign(Parent_Nuclei=[0, *t["Parent_Nuclei"][1:]]))
    found = collect(str(folder))
    assert found.orphans == 1
    assert found.frame["Metadata_Object_Count"].tolist() == ["8", "10"]


def test_a_well_without_cells_is_left_out_and_named(folder):
    for name in COMPARTMENTS:
        edit(folder / f"{name}.csv", lambda t: t[t["ImageNumber"] > 2])
    edit(folder / "Image.csv", lambda t: t.assign(**{f"Count_{c}": [0, 0, 5, 5] for c in COMPARTMENTS}))
    found = collect(str(folder))
    assert found.empty == ("P1/A01",)
    assert found.frame["Metadata_Well"].tolist() == ["B02"]


def test_undefined_values_do_not_reach_a_well(folder):
    edit(folder / "Cells.csv", lambda t: t.assign(AreaShape_Area=[np.nan, np.inf, *t["AreaShape_Area"][2:]]))
    found = collect(str(folder), "mean").frame
    rest = pd.read_csv(REAL / "Cells.csv")["AreaShape_Area"][2:9].mean()
    assert found["Cells_AreaShape_Area"][0] == pytest.approx(rest)


def test_what_is_no_database_is_one_sentence(tmp_path, database):
    fake = tmp_path / "fake.sqlite"
    fake.write_text("no database")
    with pytest.raises(DatasetError, match="cannot be read as SQLite"):
        collect(str(fake))
    fake.write_bytes(b"")
    with pytest.raises(DatasetError, match="no table of images"):
        collect(str(fake))
    with pytest.raises(DatasetError, match="no such file"):
        collect(str(tmp_path / "none.db"))
    path = database("per_object")
    for statement, sentence in (
        ("DELETE FROM P1_Per_Cells WHERE rowid = 3", "Cells has 4 rows and the image counts 5"),
        ("DROP TABLE P1_Per_Cytoplasm", "no table of Cytoplasm; it has"),
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(DatasetError, match=sentence):
            collect(str(path))


def test_a_database_is_not_written_to(database):
    path = database("single")
    path.chmod(0o444)
    before = path.read_bytes()
    collect(str(path))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.glob("single*")] == ["single.sqlite"]


def test_a_wrong_cytotable_is_one_sentence(tmp_path, joined):
    path = tmp_path / "cells.parquet"
    for frame, sentence in (
        (pd.concat([joined, joined.head(1)]), "occurs twice"),
        (joined.drop(columns="Metadata_Well"), "no Metadata_Well"),
        (joined[[c for c in joined if not c.startswith("Cytoplasm")]], "no measurement of Cytoplasm"),
        (joined.drop(columns="Metadata_ImageNumber"), "single-cell table"),
    ):
        frame.to_parquet(path)
        with pytest.raises(DatasetError, match=sentence):
            collect(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        collect(str(path))


def test_sources_are_recognised_by_what_they_are(folder, cytotable, database, tmp_path):
    assert all(is_cells(str(p)) for p in (folder, cytotable, database("single")))
    pq.write_table(pa.table({"Metadata_Plate": ["1"], "f": [1.0]}), tmp_path / "profiles.parquet")
    assert not is_cells(str(tmp_path / "profiles.parquet"))
    assert not is_cells("s3://bucket/folder")
    with pytest.raises(UsageError, match="is none of"):
        collect(str(folder), "mode")
    with pytest.raises(UsageError, match="distinct"):
        collect(str(folder), compartments=("Cells", "Cells"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no Image"):
        collect(str(tmp_path / "empty"))


@pytest.fixture
def plate(small):
    """The small dataset with the fixture's wells."""
    wells = pd.read_csv(small / "wells.csv", dtype=str).head(2)
    wells.assign(Metadata_Plate="P1", Metadata_Well=["A01", "B02"]).to_csv(small / "wells.csv", index=False)
    return small


def test_single_cells_enter_the_store_and_the_dataset(plate, folder, tmp_path):
    arguments = {"name": "cellprofiler-real", "root": plate, "store": tmp_path / "store"}
    done = import_profiles(str(folder), **arguments)
    assert (done["wells"], done["cells"], done["written"], done["aggregate"]) == (2, 19, 1, "median")
    (table,) = [t for t in load(plate).features if t.name == "cellprofiler-real"]
    assert Path(table.table) == plate / "profiles" / "cellprofiler-real.parquet"
    assert pq.read_schema(table.table).metadata[b"wellbench.layout"] == b"cellprofiler-csv"
    again = import_profiles(str(folder), **arguments)
    assert (again["written"], again["recorded"]) == (0, False)
    other = import_profiles(str(folder), aggregate="mean", **arguments)
    assert other["written"] == 1


def test_an_import_that_fails_leaves_the_old_profiles(plate, folder, tmp_path):
    arguments = {"root": plate, "store": tmp_path / "store"}
    import_profiles(str(folder), name="cp", **arguments)
    made = plate / "profiles" / "cp.parquet"
    before = made.read_bytes()
    edit(folder / "Image.csv", lambda t: t.assign(Metadata_Well="P24"))
    for name, kept in (("cp", True), ("new", False)):
        with pytest.raises(DatasetError, match="none of its wells"):
            import_profiles(str(folder), name=name, **arguments)
        assert (plate / "profiles" / f"{name}.parquet").is_file() == kept
    assert made.read_bytes() == before
    with pytest.raises(DatasetError, match="choose another --name"):
        import_profiles(str(folder), name="ready", **arguments)


def test_the_command_says_how_many_cells_it_read(plate, folder, tmp_path, capsys):
    words = ["features", "import", str(folder), "--name", "cp", "--dataset", str(plate)]
    with pytest.raises(SystemExit) as stop:
        main(
            [*words, "--store", str(tmp_path / "s"), "--aggregate", "mean", "--compartments", "Nuclei, Cells"]
        )
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "2 wells on 1 plate" in said
    assert "mean of each well's cells, 19 cells in all, from cellprofiler-csv" in said
