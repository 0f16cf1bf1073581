"""Feature parts: what goes in comes out, sorted, checked at every read."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.store import PartKey, Store, digest, read_cells, read_features, read_parts, write_part
from bench.store.names import partitions
from bench.store.tables import write_matrix


def read(store: Store, part: PartKey, plates=None):
    return read_features(store, part.dataset, part.featurizer, part.key, plates)


def test_features_come_back_sorted_by_plate_and_well_with_all_their_columns(store, fill, part, features):
    fill(store, plates=("a/b", "P1", "", "..", "ü x"))
    found = read(store, part("P1"))
    assert list(found.wells["Metadata_Plate"].unique()) == sorted(["a/b", "P1", "", "..", "ü x"])
    assert list(found.wells["Metadata_Well"]) == ["A01", "A02", "B02"] * 5
    wells, values, columns = features("P1")
    of_plate = found.wells["Metadata_Plate"] == "P1"
    order = wells["Metadata_Well"].argsort()
    assert found.columns == columns
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found.X[of_plate], values[order])
    assert list(found.wells.loc[of_plate, "n_cells"]) == list(wells["n_cells"][order])
    assert list(found.wells.loc[of_plate, "qc"]) == list(wells["qc"][order])
    assert [partitions(m["folder"])["plate"] for m in found.manifests] == [
        "",
        "..",
        "P1",
        "a/b",
        "ü x",
    ]


def test_some_plates_can_be_asked_for_and_absent_ones_are_named(store, fill, part):
    fill(store)
    assert set(read(store, part("P1"), ["a/b"]).wells["Metadata_Plate"]) == {"a/b"}
    with pytest.raises(StoreError, match="plate 'P9'"):
        read(store, part("P1"), ["P1", "P9"])
    with pytest.raises(StoreError, match="no features of 'mae' on 'demo@1'"):
        read_features(store, "demo@1", "mae", "0")
    with pytest.raises(StoreError, match="not committed"):
        read_parts(store, [part("P9")])


def test_the_order_in_which_rows_arrive_does_not_change_a_byte(tmp_path, part, features, contents):
    wells, values, columns = features("P1")
    for name, order in {"one": [0, 1, 2], "two": [2, 0, 1]}.items():
        cells = (wells.iloc[order], values[order].astype(np.float64))
        store = Store(tmp_path / name)
        assert write_part(store, part("P1"), wells.iloc[order], values[order], columns, {}, cells=cells)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_part_is_written_once(store, fill, part, features):
    fill(store)
    wells, values, columns = features("P1")
    assert not write_part(store, part("P1"), wells, values * 2, columns, {})
    assert read(store, part("P1")).X.max() < 2 * values.max()


def test_other_images_of_a_plate_make_another_part(store, part, features):
    wells, values, columns = features("P1")
    first, second = part("P1", images="0" * 64), part("P1", images="1" * 64)
    assert write_part(store, first, wells, values, columns, {})
    np.testing.assert_array_equal(read(store, first).X, read_parts(store, [first]).X)
    assert write_part(store, second, wells, values + 1, columns, {})
    assert first.plate_key != second.plate_key
    np.testing.assert_array_equal(read_parts(store, [second]).X, read_parts(store, [first]).X + 1)
    with pytest.raises(StoreError, match="2 states of its images"):
        read(store, first)
    assert store.verify() == []


def test_rows_per_cell_stand_beside_the_part_in_order(store, part):
    wells = pd.DataFrame({"Metadata_Well": ["A02", "A01"]})
    cells = pd.DataFrame(
        {
            "Metadata_Well": ["A02", "A01", "A01", "A01"],
            "Metadata_Site": ["1", "2", "1", "1"],
            "Metadata_ObjectNumber": [1, 1, 12, 2],
        }
    )
    values = np.arange(4, dtype=np.float32)[:, None]
    write_part(store, part("P1"), wells, values[:2], ["f"], {}, cells=(cells, values))
    frame, X, columns = read_cells(store, part("P1"))
    assert X[:, 0].tolist() == [3, 2, 1, 0]
    assert list(frame["Metadata_ObjectNumber"]) == [2, 12, 1, 1]
    assert columns == ("f",)
    write_part(store, part("P2"), wells, values[:2], ["f"], {})
    with pytest.raises(StoreError, match="no rows per cell"):
        read_cells(store, part("P2"))


def test_a_plate_without_a_row_keeps_its_columns(store, part):
    empty = pd.DataFrame({"Metadata_Well": pd.Series([], dtype=object), "n_cells": pd.Series([], dtype=int)})
    write_part(store, part("P1"), empty, np.zeros((0, 2), np.float32), ["a", "b"], {"failures": ["all"]})
    found = read(store, part("P1"))
    assert found.X.shape == (0, 2)
    assert found.manifests[0]["failures"] == ["all"]
    assert store.verify() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda w, v, c: (w, np.where(v == v.max(), np.nan, v), c),
            "nan in column 'ER,\"sd\"' of well 'A02'",
        ),
        (lambda w, v, c: (w, np.where(v == v.max(), np.inf, v), c), "inf in column"),
        (lambda w, v, c: (w, v.astype(float) * 1e39, c), "inf in column"),
        (lambda w, v, c: (w, v[:2], c), r"shape \(2, 4\): it must be 3 rows by 4 columns"),
        (lambda w, v, c: (w, v, c[:3]), "3 columns"),
        (lambda w, v, c: (w, v, ("x",) * 4), "4 column names, 1 of them different"),
        (lambda w, v, c: (w, v[:, :0], ()), "0 column names"),
        (lambda w, v, c: (w.drop(columns="Metadata_Well"), v, c), "no Metadata_Well"),
        (
            lambda w, v, c: (w.assign(Metadata_Well="A01"), v, c),
            "well A01 of plate 'P1' has features more than",
        ),
        (lambda w, v, c: (w.assign(Metadata_Plate="P2"), v, c), "rows of plate 'P2'"),
        (lambda w, v, c: (w.assign(note=["a", 1, 2.5]), v, c), "column 'note' .* not of one plain type"),
        (lambda w, v, c: (w.assign(note="\udc80"), v, c), "column 'note'"),
        (lambda w, v, c: (w.assign(embedding=1), v, c), "the column 'embedding'"),
    ],
)
def test_wrong_rows_are_refused_with_their_place_and_nothing_is_left(store, part, features, change, reason):
    with pytest.raises(StoreError, match=reason):
        write_part(store, part("P1"), *change(*features("P1")), {})
    assert store.list() == []
    assert not list((store.root / ".tmp").glob("*"))


def test_a_zeroed_truncated_or_flipped_part_is_never_read(store, fill, part):
    fill(store, plates=("P1",))
    path = store.path(part("P1").folder) / "part.parquet"
    whole = path.read_bytes()
    middle = whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]
    for damage in (bytes(len(whole)), whole[: len(whole) // 2], b"", middle):
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"part\.parquet is damaged .*run again"):
            read(store, part("P1"))
        assert [problem.file for problem in store.verify()] == ["part.parquet"]
    path.write_bytes(whole)
    assert read(store, part("P1")).X.shape == (3, 4)


def test_a_part_that_was_put_into_another_folder_is_not_believed(store, fill, part):
    fill(store)
    here, there = (store.path(part(plate).folder) / "part.parquet" for plate in ("P1", "a/b"))
    shutil.copy(here, there)
    with pytest.raises(StoreError, match=r"belongs elsewhere .*plate='P1' and its folder 'a/b'.*run again"):
        read(store, part("P1"))


def test_a_table_that_is_not_ours_is_not_believed(store, fill, part):
    fill(store, plates=("P1",))
    path = store.path(part("P1").folder) / "part.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(path)
    with pytest.raises(StoreError, match="no wellbench footer"):
        read(store, part("P1"))
    path.unlink()
    with pytest.raises(StoreError, match=r"cannot read .*part\.parquet: it does not exist"):
        read(store, part("P1"))


def test_plates_with_other_columns_are_not_mixed(store, part, features):
    wells, values, columns = features("P1")
    write_part(store, part("P1"), wells, values, columns, {})
    write_part(store, part("P2"), wells, values[:, :2], columns[:2], {})
    with pytest.raises(StoreError, match="other columns"):
        read(store, part("P1"))


def test_a_footer_with_another_plate_key_is_a_problem(store, part, features):
    wells, values, columns = features("P1")
    write_part(store, part("P1"), wells, values, columns, {})
    folder = store.path(part("P1").folder)
    meta = asdict(part("P1")) | {"plate_key": "0", "columns": columns}
    write_matrix(folder / "part.parquet", wells, {"embedding": values}, meta)
    with pytest.raises(StoreError, match="plate key 0"):
        read(store, part("P1"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dataset=st.text(max_size=20),
    featurizer=st.text(max_size=20),
    plate=st.text(max_size=20),
    well=st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True),
    column=st.text(max_size=20),
    note=st.text(),
)
def test_any_names_survive(tmp_path_factory, dataset, featurizer, plate, well, column, note):
    store = Store(tmp_path_factory.mktemp("names") / "store")
    part = PartKey(dataset, featurizer, digest(note), plate)
    wells = pd.DataFrame({"Metadata_Well": well, "Metadata_note": note})
    values = np.arange(len(well), dtype=np.float32)[:, None]
    assert write_part(store, part, wells, values, [column], {"key_document": note})
    found = read(store, part)
    assert found.columns == (column,)
    assert dict(zip(found.wells["Metadata_Well"], found.X[:, 0], strict=True)) == dict(
        zip(well, values[:, 0], strict=True)
    )
    assert set(found.wells["Metadata_Plate"]) == {plate}
    assert set(found.wells["Metadata_note"]) == {note}
    assert store.verify() == []
