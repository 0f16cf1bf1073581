"""CurveCurator's files: what becomes of each decision, and what a damaged file says."""

import gzip

import numpy as np
import pandas as pd
import pytest

from bench.datasets import curves, load
from bench.datasets.tables import column_names, read_frame
from bench.errors import DatasetError

HEADER = ["Name", "Genes", "Proteins", "Ratio 1", "pEC50", "Curve Fold Change", "Curve Regulation"]


def curve_file(path, calls, genes=None, proteins=None, **more):
    """A file as CurveCurator writes it; ``calls`` is a list of words, one per curve."""
    genes = genes or [f"G{i}" for i in range(len(calls))]
    rows = [
        [f"curve{i}", gene, (proteins or genes)[i], "0.93", "6.1", "-0.2", call]
        for i, (gene, call) in enumerate(zip(genes, calls, strict=True))
    ]
    table = pd.DataFrame(rows, columns=HEADER).assign(**more)
    table.to_csv(path, sep="\t", index=False)
    return path


def combined(tmp_path, calls, **files):
    paths = {name: curve_file(tmp_path / f"{name}.txt", own, **files) for name, own in calls.items()}
    curves.combine(paths, tmp_path / "all.curves.txt")
    return tmp_path / "all.curves.txt"


def test_words_become_calls_and_the_unclassified_are_missing(tmp_path):
    path = combined(tmp_path, {"a": ["up", "down", "not", ""], "b": ["", "not", "UP ", "down"]})
    frame = read_frame(str(path))
    assert list(frame.columns) == ["Metadata_Compound", "G0", "G1", "G2", "G3"] == column_names(str(path))
    assert frame["Metadata_Compound"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(
        frame.iloc[:, 1:].to_numpy(np.float32), [[1, -1, 0, np.nan], [np.nan, 0, 1, -1]]
    )


def test_a_curve_that_a_compound_lacks_is_missing(tmp_path):
    curve_file(tmp_path / "a.txt", ["up", "not"])
    curve_file(tmp_path / "b.txt", ["down"], genes=["G7"])
    curves.combine({"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}, tmp_path / "curves.txt")
    frame = read_frame(str(tmp_path / "curves.txt"))
    np.testing.assert_array_equal(
        frame[["G0", "G1", "G7"]].to_numpy(np.float32), [[1, 0, np.nan], [np.nan, np.nan, -1]]
    )


def test_a_compressed_file_reads_the_same(tmp_path):
    path = combined(tmp_path, {"a": ["up", "not"]})
    packed = tmp_path / "other.curves.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_frame(str(path)), read_frame(str(packed)))


def test_genes_that_repeat_give_way_to_proteins(tmp_path):
    path = combined(tmp_path, {"a": ["up", "not"]}, genes=["G", "G"], proteins=["P1", "P2"])
    assert column_names(str(path)) == ["Metadata_Compound", "P1", "P2"]


def test_a_curve_named_twice_everywhere_is_refused(tmp_path):
    path = combined(tmp_path, {"a": ["up", "not"]}, genes=["G", "G"], Name="n")
    with pytest.raises(DatasetError, match=r"row 2: Genes has 'G' twice for one compound"):
        read_frame(str(path))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (1, "does not end in a line break"),
        (9, "does not end in a line break"),
        (0, "fields where the header"),
    ],
)
def test_a_truncated_file_is_one_sentence(tmp_path, cut, message):
    whole = combined(tmp_path, {"a": ["up", "not", "down"]}).read_bytes()
    path = tmp_path / "cut.curves.txt"
    path.write_bytes(whole[:-cut] if cut else whole[:-8] + b"\n")
    with pytest.raises(DatasetError, match=message) as caught:
        read_frame(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_and_one_of_something_else_are_refused(tmp_path):
    path = tmp_path / "curves.txt"
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="cut off"):
        read_frame(str(path))
    path.write_text("Name\tpEC50\nx\t6\n")
    with pytest.raises(DatasetError, match="no column 'Curve Regulation'"):
        read_frame(str(path))
    path.write_text("Metadata_Compound\tCurve Regulation\nx\tup\n")
    with pytest.raises(DatasetError, match="names the curves"):
        read_frame(str(path))
    path.write_text("Metadata_Compound\tGenes\tCurve Regulation\n")
    with pytest.raises(DatasetError, match="no curve follows its header"):
        read_frame(str(path))
    curve_file(path, ["up"])
    with pytest.raises(DatasetError, match="which compound"):
        read_frame(str(path))


def test_an_unknown_decision_names_its_row(tmp_path):
    path = combined(tmp_path, {"a": ["up", "maybe"]})
    with pytest.raises(DatasetError, match="row 2: Curve Regulation is 'maybe'"):
        read_frame(str(path))


def test_combining_needs_files_that_are_there_and_a_name_that_is_recognised(tmp_path):
    with pytest.raises(DatasetError, match="name it so that it ends"):
        curves.combine({}, tmp_path / "all.tsv")
    with pytest.raises(DatasetError, match="no file to combine"):
        curves.combine({}, tmp_path / "curves.txt")
    with pytest.raises(DatasetError, match="cannot be read"):
        curves.combine({"a": tmp_path / "absent.txt"}, tmp_path / "curves.txt")


def test_a_dataset_names_it_as_the_table_of_a_regulation_layer(small, tmp_path):
    paths = {
        name: curve_file(tmp_path / f"{name}.txt", calls)
        for name, calls in {"x-2": ["up", "not"], "x-10": ["", "down"], "DMSO": ["not", "not"]}.items()
    }
    curves.combine(paths, small / "curves.txt")
    with (small / "dataset.toml").open("a") as handle:
        handle.write(
            '\n[[layers]]\nname = "regulation"\ntable = "curves.txt"\nkind = "regulation"\nscale = "z"\n'
            'key = ["Metadata_Compound"]\njoin = "broadcast"\n'
        )
    frame = load(small).layer("regulation").read()
    assert list(frame.columns) == ["Metadata_Compound", "G0", "G1"]
    np.testing.assert_array_equal(frame.loc[0, ["G0", "G1"]].to_numpy(float), [1, 0])
