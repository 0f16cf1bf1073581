"""The committed store of every released schema version reads for ever, with the same keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store import (
    Store,
    connect,
    read_cells,
    read_features,
    read_matrix,
    read_meta,
    read_parts,
    read_table,
    write_part,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "store"
IMAGES = "1" * 64


def make(store: Store, fill, part, features) -> None:
    """Write what the committed store of schema version 1 was written from."""
    fill(store, plates=("P1", "a/b"))
    wells, values, columns = features("ü x")
    write_part(store, part("ü x", images=IMAGES), wells, values, columns, {})


@pytest.fixture
def today(tmp_path, fill, part, features) -> Store:
    store = Store(tmp_path / "today")
    make(store, fill, part, features)
    return store


def test_a_store_of_version_1_is_whole():
    store = Store(GOLDEN / "v1", create=False)
    assert store.verify() == []


def test_a_store_of_version_1_has_todays_folders_so_its_keys_are_still_found(today):
    assert Store(GOLDEN / "v1", create=False).list() == today.list()


def test_features_of_version_1_read_as_they_were_written(today, part):
    store = Store(GOLDEN / "v1", create=False)
    arguments = ("demo@1", "intensity", part("P1").key)
    found, expected = read_features(store, *arguments), read_features(today, *arguments)
    pd.testing.assert_frame_equal(found.wells, expected.wells)
    np.testing.assert_array_equal(found.X, expected.X)
    assert found.columns == expected.columns
    addressed = read_parts(store, [part("ü x", images=IMAGES)])
    assert addressed.X.shape == (3, 4)
    frame, X, _ = read_cells(store, part("a/b"))
    np.testing.assert_array_equal(X, read_cells(today, part("a/b"))[1])
    assert len(frame) == 3


def test_tables_of_version_1_read_as_they_were_written(today):
    store = Store(GOLDEN / "v1", create=False)
    [scores], [summands] = store.list("scores"), store.list("summands")
    name = f"{scores}/scores.parquet"
    pd.testing.assert_frame_equal(read_table(store.root / name), read_table(today.root / name))
    name = f"{summands}/summands.parquet"
    index, values = read_matrix(store.root / name)
    expected_index, expected = read_matrix(today.root / name)
    pd.testing.assert_frame_equal(index, expected_index)
    for key in expected:
        np.testing.assert_array_equal(values[key], expected[key])
    assert read_meta(store.root / name) == read_meta(today.root / name)


def test_manifests_of_version_1_say_what_todays_say_but_for_the_bytes_of_the_files(today):
    store = Store(GOLDEN / "v1", create=False)
    vary = ("files", "sha256", "provenance")
    for folder in today.list():
        found, expected = store.manifest(folder), today.manifest(folder)
        assert {k: v for k, v in found.items() if k not in vary} == {
            k: v for k, v in expected.items() if k not in vary
        }
        assert found["files"].keys() == expected["files"].keys()


def test_sql_over_a_store_of_version_1_works():
    connection = connect(Store(GOLDEN / "v1", create=False))
    rows = connection.sql("SELECT plate, count(*) FROM features GROUP BY plate ORDER BY plate").fetchall()
    assert rows == [("P1", 3), ("a/b", 3), ("ü x", 3)]
