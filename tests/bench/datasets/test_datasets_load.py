"""dataset.toml is strict, and tables come in as they are."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.datasets import join, join_report, load
from bench.datasets.settings import quoted
from bench.datasets.tables import as_text, column_names, natural, normalise_well, read_frame
from bench.errors import DatasetError


def test_a_dataset_is_read_with_text_identities_and_absolute_images(small):
    data = load(small)
    assert (data.name, data.version, data.bit_depth, data.pixel_size_um) == ("small", "1", 12, 0.65)
    assert [(c.name, c.stain, c.role) for c in data.channels] == [
        ("DNA", "Hoechst", "nucleus"),
        ("Actin", "", ""),
    ]
    assert set(data.wells["Metadata_Plate"]) == {"001"}
    assert data.wells["Metadata_Compound"].tolist()[2] == "NA"
    assert data.wells["Metadata_Concentration"].dtype == np.float64
    assert data.images["URI"].tolist()[0] == str(small / "images" / "A01_DNA.tif")
    assert data.images["Plane"].dtype == np.int64
    assert data.images["Metadata_Site"].tolist()[0] == "1"
    assert data.imaging == {"method": "otsu-log"}
    assert load(small / "dataset.toml").digest() == data.digest()


def test_readout_names_are_kept_verbatim(small):
    data = load(small)
    assert join(data, data.layer("rna"), data.wells).readouts == ("<script>", 'a","b', "TP53")


def test_every_fault_of_the_settings_is_named_at_once(small, edit):
    edit("dataset.toml", "pixel_size_um = 0.65", "pixel_size = 0.65")
    edit("dataset.toml", 'kind = "abundance"', 'kind = "abundence"')
    edit("dataset.toml", "bit_depth = 12", "bit_depth = 13")
    with pytest.raises(DatasetError) as error:
        load(small)
    text = str(error.value)
    assert "dataset.toml: unknown key 'pixel_size'; did you mean 'pixel_size_um'?" in text
    assert "[[layers]] 1: kind = 'abundence' is none of" in text
    assert "bit_depth = 13" in text
    assert text.startswith("3 faults")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version is 2"),
        ('perturbation = "Metadata_Compound"', 'perturbation = "Metadata_Gene"', "no column 'Metadata_Gene'"),
        ('name = "small"', "name = 3", "name = 3 should be text"),
        ('name = "small"', 'name = ""', "name is empty"),
        ('name = "Actin"', 'name = "DNA"', "names occur twice: DNA"),
        ('key = ["Metadata_Plate", "Metadata_Well"]', "", "key is missing"),
        (
            'key = ["Metadata_Plate", "Metadata_Well"]',
            'key = ["plate"]',
            "'plate' should start with Metadata_",
        ),
        ('scale = "log"', 'scale = "log"\njoin = "broadcast"\ndose_rule = "mean"', "averages wells"),
        ('table = "wells.csv"', 'table = "gone.csv"', "gone.csv: no such file"),
        ('table = "wells.csv"', 'table = "wells.xlsx"', "not a known table"),
        ("[wells]", "[walls]", r"\[wells\] is missing"),
        ('version = "1"', 'version = "1', "not valid TOML"),
        ("pixel_size_um = 0.65", "pixel_size_um = -1.0", "should be positive"),
        ('scale = "log"', 'scale = "log"\nlayer = "raw"', "is for .h5ad tables only"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_its_key(small, edit, old, new, message):
    edit("dataset.toml", old, new, 1)
    with pytest.raises(DatasetError, match=message):
        load(small)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("wells.csv", "Metadata_pert_type", "pert_type", "pert_type.*rename them"),
        ("wells.csv", "10.0,uM", "10 uM,uM", "row 4: Metadata_Concentration is '10 uM'"),
        ("wells.csv", "001,B02", "001,", "row 6: Metadata_Well is empty"),
        ("wells.csv", "Metadata_Well", "Metadata_Wel", "no column Metadata_Well"),
        ("wells.csv", "uM\n001,B02", "uM,extra,fields\n001,B02", "cannot be read as csv"),
        ("images.csv", "Channel", "Colour", "no column Channel"),
        ("images.csv", "images/B02_Actin.tif", "", "row 12: URI is empty"),
        ("images.csv", "tif,0\n001,A02", "tif,-1\n001,A02", "Plane is '-1'"),
    ],
)
def test_a_wrong_table_is_one_sentence_with_its_row(small, edit, table, old, new, message):
    edit(table, old, new, 1)
    with pytest.raises(DatasetError, match=message) as error:
        load(small)
    assert table in str(error.value)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (";", "semicolons, not commas; save it with commas as the separator$"),
        ("\t", "tabs, not commas; save it with commas as the separator, or name it .tsv$"),
    ],
)
def test_another_separator_is_said(small, mark, message):
    wells = small / "wells.csv"
    wells.write_text(wells.read_text().replace(",", mark))
    with pytest.raises(DatasetError, match=r"wells\.csv: its columns are separated by " + message):
        load(small)


def test_a_parquet_file_overwritten_with_zeros_is_one_sentence(small, edit):
    edit("dataset.toml", "rna.csv", "rna.parquet")
    (small / "rna.parquet").write_bytes(bytes(1000))
    data = load(small)
    with pytest.raises(DatasetError, match=r"rna\.parquet: cannot be read as parquet"):
        data.layer("rna").read()


def test_a_damaged_gzip_is_one_sentence(small, edit):
    import gzip

    packed = gzip.compress((small / "wells.csv").read_bytes())
    for broken in (packed[:-20], packed[:30] + b"\xff" * 9 + packed[39:]):
        (small / "wells.csv.gz").write_bytes(broken)
        if "wells.csv.gz" not in (small / "dataset.toml").read_text():
            edit("dataset.toml", "wells.csv", "wells.csv.gz")
        with pytest.raises(DatasetError, match=r"wells\.csv\.gz: cannot be read as csv"):
            load(small)


def test_a_text_readout_is_named_with_its_row_and_can_be_excluded(small, edit):
    edit("rna.csv", "TP53", "TP53,note", 1)
    text = (small / "rna.csv").read_text().splitlines()
    (small / "rna.csv").write_text(
        "\n".join([text[0], text[1] + ",", *(line + ",see me" for line in text[2:])])
    )
    with pytest.raises(DatasetError, match=r"rna\.csv, row 2: readout 'note'"):
        load(small).layer("rna").read()
    edit("dataset.toml", 'kind = "abundance"', 'kind = "abundance"\nexclude = ["note"]')
    assert load(small).layer("rna").read().columns[2:].tolist() == ["<script>", 'a","b', "TP53"]


def test_regulation_calls_may_be_words(small, edit):
    (small / "calls.csv").write_text("Metadata_Compound,g\nNA,UP\nx-2,down\nx-10,not\nDMSO,\n")
    edit("dataset.toml", 'table = "rna.csv"\nkind = "abundance"', 'table = "calls.csv"\nkind = "regulation"')
    edit("dataset.toml", '"Metadata_Plate", "Metadata_Well"', '"Metadata_Compound"')
    values = load(small).layer("rna").read()["g"].tolist()
    assert values[:3] == [1.0, -1.0, 0.0]
    assert np.isnan(values[3])


def test_an_unknown_layer_lists_those_there_are(small):
    with pytest.raises(DatasetError, match="no readout layer 'rnaa'; it has: rna"):
        load(small).layer("rnaa")


def test_profiles_per_treatment_need_no_plates(tmp_path):
    (tmp_path / "wells.csv").write_text("Metadata_Compound\nb\na\nb\n")
    (tmp_path / "dataset.toml").write_text(
        'schema_version = 1\nname = "t"\nversion = "1"\nperturbation = "Metadata_Compound"\n'
        '[wells]\ntable = "wells.csv"\n'
    )
    wells = load(tmp_path).wells
    assert wells["Metadata_Plate"].tolist() == ["-", "-", "-"]
    assert wells["Metadata_Well"].tolist() == ["b", "a", "b#2"]
    assert set(wells["Metadata_pert_type"]) == {"trt"}


def test_a_treatment_without_a_name_is_called_by_its_row(tmp_path):
    (tmp_path / "wells.csv").write_text("Metadata_Compound,Metadata_x\nb,1\n,2\n")
    (tmp_path / "rna.csv").write_text("Metadata_Compound,g\nb,1.0\n,2.0\n")
    (tmp_path / "dataset.toml").write_text(
        'schema_version = 1\nname = "t"\nversion = "1"\nperturbation = "Metadata_Compound"\n'
        '[wells]\ntable = "wells.csv"\n'
        '[[layers]]\nname = "rna"\ntable = "rna.csv"\nkind = "abundance"\nscale = "log"\n'
        'key = ["Metadata_Compound"]\n'
    )
    dataset = load(tmp_path)
    report = join_report(dataset, dataset.layer("rna"), dataset.wells)
    assert report.wells_unnamed == ("-/row 2",)
    assert report.rows_without_wells == ("row 2",)


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "parquet", "h5ad", "h5ad-sparse", "h5ad-layer"])
def test_every_table_format_gives_the_same_readouts(small, edit, form):
    from anndata import AnnData
    from scipy import sparse

    before = load(small)
    expected = join(before, before.layer("rna"), before.wells)
    frame = before.layer("rna").read()
    key, values = frame.iloc[:, :2], frame.iloc[:, 2:]
    name = "rna2." + form.split("-")[0]
    if form.startswith("h5ad"):
        matrix = values.to_numpy()
        obs = key.set_axis([str(i) for i in range(len(key))])
        data = AnnData(X=np.zeros_like(matrix) if form == "h5ad-layer" else matrix, obs=obs)
        data.var_names = list(values.columns)
        if form == "h5ad-sparse":
            data.X = sparse.csr_matrix(matrix)
        if form == "h5ad-layer":
            data.layers["log"] = matrix
            edit("dataset.toml", 'scale = "log"', 'scale = "log"\nlayer = "log"')
        data.write_h5ad(small / name)
    elif form == "parquet":
        frame.to_parquet(small / name)
    else:
        frame.to_csv(small / name, index=False, sep="\t" if form == "tsv" else ",")
    edit("dataset.toml", "rna.csv", name)
    after = load(small)
    got = join(after, after.layer("rna"), after.wells)
    assert got.readouts == expected.readouts
    np.testing.assert_array_equal(got.Y, expected.Y)
    pd.testing.assert_frame_equal(got.units, expected.units)


def test_a_column_named_twice_is_refused_not_renamed(small, edit):
    edit("rna.csv", "TP53", "<script>", 1)
    assert column_names(str(small / "rna.csv")).count("<script>") == 2
    with pytest.raises(DatasetError, match="occur twice"):
        load(small).layer("rna").read()


def test_numbers_as_identities_become_plain_text(tmp_path):
    pd.DataFrame({"Metadata_Plate": [1.0, np.nan], "Metadata_Well": ["b7", "AA3"]}).to_parquet(
        tmp_path / "t.parquet"
    )
    frame = read_frame(str(tmp_path / "t.parquet"))
    assert frame["Metadata_Plate"].tolist() == ["1", ""]
    assert frame["Metadata_Well"].tolist() == ["B07", "AA03"]


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffMetadata_Plate,x\r\nP1,2\r\n".encode())
    frame = read_frame(str(path))
    assert frame.columns.tolist() == ["Metadata_Plate", "x"]
    assert frame["x"].tolist() == [2]


@given(st.text("abzAB", min_size=1, max_size=2), st.integers(1, 99), st.integers(0, 3))
def test_a_well_has_one_spelling(letters, column, zeros):
    assert normalise_well(f"{letters}{'0' * zeros}{column}") == f"{letters.upper()}{column:02d}"


@given(st.text(max_size=12))
def test_normalising_a_well_twice_changes_nothing(text):
    assert normalise_well(normalise_well(text)) == normalise_well(text)


@given(st.lists(st.text("aB1029²", max_size=5), min_size=2, max_size=6))
def test_natural_order_tells_names_apart_and_puts_numbers_by_size(names):
    assert len({natural(n) for n in names}) == len(set(names))
    assert sorted(["P10", "P2", "P1"], key=natural) == ["P1", "P2", "P10"]


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1))
def test_whole_numbers_read_as_floats_lose_nothing(numbers):
    assert as_text([float(n) for n in numbers]) == [str(n) for n in numbers]


@given(st.text(st.characters(exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=20))
def test_any_text_survives_as_a_toml_string(text):
    import tomllib

    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}
    assert json.loads(quoted(text)) == text
