"""Tables and matrices: round trips, and bytes that depend on content alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.errors import StoreError
from bench.store import read_matrix, read_meta, read_table, write_matrix, write_table

COLUMNS = {
    "text": st.none() | st.text(),
    "number": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "flag": st.booleans(),
}
quick = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.data())
def test_frames_come_back_equal(tmp_path_factory, data):
    rows = data.draw(st.integers(0, 5))
    kinds = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4))
    names = data.draw(st.lists(st.text(), min_size=len(kinds), max_size=len(kinds), unique=True))
    types = {"text": object, "number": np.int64, "float": np.float64, "flag": bool}
    frame = pd.DataFrame(
        {
            name: pd.Series(
                data.draw(st.lists(COLUMNS[kind], min_size=rows, max_size=rows)), dtype=types[kind]
            )
            for name, kind in zip(names, kinds, strict=True)
        }
    )
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    write_table(path, frame, {"names": names})
    pd.testing.assert_frame_equal(read_table(path), frame, check_column_type=False)
    assert read_meta(path) == {"names": names}


@quick
@given(st.data())
def test_matrices_come_back_bit_by_bit(tmp_path_factory, data):
    rows = data.draw(st.integers(0, 6))
    shapes = data.draw(st.dictionaries(st.text(min_size=1), st.integers(1, 5), max_size=3))
    shapes.pop("row", None)
    values = {name: data.draw(hnp.arrays(np.float32, (rows, width))) for name, width in shapes.items()}
    path = tmp_path_factory.mktemp("m") / "m.parquet"
    write_matrix(path, pd.DataFrame({"row": np.arange(rows)}), values, {})
    index, found = read_matrix(path)
    assert list(index["row"]) == list(range(rows))
    assert list(found) == list(values)
    for name, matrix in values.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], matrix)


def test_a_matrix_larger_than_a_row_group_and_a_view_of_another_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.store.tables._GROUP_BYTES", 4096)
    whole = np.random.default_rng(0).normal(size=(500, 60)).astype(np.float32)
    values = {"a": whole[::2, ::3], "b": np.asfortranarray(whole[::2])}
    write_matrix(tmp_path / "m", pd.DataFrame({"row": np.arange(250)}), values, {})
    assert pq.ParquetFile(tmp_path / "m").num_row_groups > 10
    _, found = read_matrix(tmp_path / "m")
    np.testing.assert_array_equal(found["a"], values["a"])
    np.testing.assert_array_equal(found["b"], values["b"])


def test_categories_times_and_small_integers_keep_their_type(tmp_path):
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["b", "a", "b"]),
            "time": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "small": np.array([1, 2, 3], np.int16),
            "nothing": [None, None, None],
        },
        index=[5, 6, 7],
    )
    write_table(tmp_path / "t", frame, {})
    found = read_table(tmp_path / "t")
    assert list(found["category"]) == ["b", "a", "b"]
    assert found["small"].dtype == np.int16
    assert found["time"].isna().tolist() == [False, True, False]
    assert found["nothing"].isna().all()
    assert pq.read_schema(tmp_path / "t").field("nothing").type == pa.string()


def test_an_empty_table_has_the_schema_of_a_full_one(tmp_path):
    frame = pd.DataFrame({"name": ["a"], "value": [1.5]})
    write_table(tmp_path / "full", frame, {})
    write_table(tmp_path / "empty", frame.iloc[:0], {})
    assert pq.read_schema(tmp_path / "full").equals(pq.read_schema(tmp_path / "empty"), check_metadata=True)


def test_the_bytes_depend_on_content_alone(tmp_path):
    code = """
import sys, numpy as np, pandas as pd
from pathlib import Path
from bench.store import write_matrix
frame = pd.DataFrame({"gene": ["<script>", 'a","b', None], "p": [0.1, float("nan"), 1]}, index=[9, 8, 7])
frame.attrs["note"] = sys.argv[1]
e = np.arange(6, dtype=np.float32).reshape(3, 2)
write_matrix(Path(sys.argv[1]), frame, {"e": e}, {"b": 1, "a": [2]})
"""
    names = ["one", "another name"]
    for seed, name in enumerate(names):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        environment = {"PYTHONHASHSEED": str(seed), "TZ": "UTC" if seed else "Asia/Tokyo"}
        subprocess.run(command, check=True, cwd=Path(__file__).parents[3], env=environment)
    one, another = ((tmp_path / name).read_bytes() for name in names)
    assert one == another
    assert b"pandas" not in one


@pytest.mark.parametrize(
    ("frame", "values", "reason"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "'a': names must be text and each stand once"),
        (pd.DataFrame({3: [1]}), {}, "column 3"),
        (pd.DataFrame({"a": [1]}), {"a": np.zeros((1, 1), np.float32)}, "'a'"),
        (pd.DataFrame({"a": [1, "x"]}), {}, "not of one plain type"),
        (pd.DataFrame({"a": [1]}), {"m": np.zeros((2, 1), np.float32)}, r"shape \(2, 1\).*1 rows"),
        (pd.DataFrame({"a": [1]}), {"m": np.zeros((1, 0), np.float32)}, "at least one column"),
        (pd.DataFrame({"a": [1]}), {"m": np.zeros((1, 2))}, "float64"),
        (pd.DataFrame({"a": [1]}), {"m": np.zeros(1, np.float32)}, r"shape \(1,\)"),
    ],
)
def test_tables_that_cannot_be_stored_are_refused_by_name(tmp_path, frame, values, reason):
    with pytest.raises(StoreError, match=reason):
        write_matrix(tmp_path / "t.parquet", frame, values, {})


def test_no_changed_byte_goes_unnoticed_where_it_could_change_what_is_read(tmp_path):
    """Flip a bit of every third byte in turn: the file is refused, or reads as it was."""
    path = tmp_path / "m.parquet"
    matrix = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    index = pd.DataFrame({"well": list("abcdef"), "n": range(6)})
    write_matrix(path, index, {"e": matrix}, {"plate": "P1"})
    whole = path.read_bytes()
    refused = 0
    for i in range(0, len(whole), 3):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            found, values = read_matrix(path)
            meta = read_meta(path)
        except StoreError as error:
            refused += str(path) in str(error)
            continue
        pd.testing.assert_frame_equal(found, index)
        assert list(values) == ["e"]
        np.testing.assert_array_equal(values["e"], matrix)
        assert meta == {"plate": "P1"}
    assert refused > 0.5 * len(whole) / 3


def test_a_table_of_a_newer_schema_asks_for_a_newer_program(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.store.tables.SCHEMA_VERSION", 2)
    write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1]}), {})
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"t\.parquet has table schema 2.*newer wellbench"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(StoreError, match="newer wellbench"):
        read_meta(tmp_path / "t.parquet")


def test_meta_that_has_no_plain_text_is_refused(tmp_path):
    with pytest.raises(StoreError, match="meta"):
        write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1]}), {"bad": float("nan")})
