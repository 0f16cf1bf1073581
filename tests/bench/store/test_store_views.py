"""DuckDB over the store: families as views, whatever the names are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.errors import StoreError
from bench.store import Store, connect, write_table
from bench.store.views import confine, select


def test_families_are_views_with_their_folder_names_as_columns(store, fill, part):
    fill(store, plates=("a/b", "001", "", "ü x"))
    connection = connect(store)
    names = {row[0] for row in connection.sql("SHOW TABLES").fetchall()}
    assert names == {"features", "features_cells", "scores", "summands", "manifests"}
    rows = connection.sql(
        "SELECT DISTINCT plate, Metadata_Plate, dataset, featurizer, key FROM features"
    ).fetchall()
    key = part("001").key
    assert sorted(rows) == sorted((p, p, "demo@1", "intensity", key) for p in ("a/b", "001", "", "ü x"))
    assert connection.sql("SELECT count(*) FROM features_cells").fetchall() == [(12,)]
    assert connection.sql("SELECT count(*) FROM manifests WHERE family = 'features'").fetchall() == [(4,)]


def test_embeddings_and_matrices_are_lists_of_numbers(store, fill, features):
    fill(store, plates=("P1",))
    connection = connect(store)
    table = connection.sql("SELECT embedding FROM features ORDER BY Metadata_Well").to_arrow_table()
    wells, values, _ = features("P1")
    np.testing.assert_array_equal(
        np.array(table["embedding"].to_pylist()), values[wells["Metadata_Well"].argsort()]
    )
    [(missing,)] = connection.sql("SELECT isnan(e[2]) FROM summands WHERE repeat = 0").fetchall()
    assert missing


def test_genes_with_markup_and_quotes_are_data(store, fill):
    fill(store)
    connection = connect(store)
    _, rows = select(connection, "SELECT readout, skill FROM scores WHERE readout IN ('<script>', 'a\",\"b')")
    assert sorted(rows) == [("<script>", 0.25), ('a","b', None)]


def test_an_empty_store_has_no_families_and_one_row_of_nothing(store):
    connection = connect(store)
    assert connection.sql("SHOW TABLES").fetchall() == [("manifests",)]
    assert connection.sql("SELECT count(*) FROM manifests").fetchall() == [(0,)]


def test_folders_of_other_depth_and_other_columns_are_put_together_by_name(tmp_path):
    store = Store(tmp_path / "plate=x" / "store")
    for folder, frame in {
        "scores/run=a": pd.DataFrame({"skill": [1.0]}),
        "scores/run=b/fold=1": pd.DataFrame({"skill": [2.0], "q": [0.5]}),
        "scores/run=c": pd.DataFrame({"q": [0.25]}),
    }.items():
        store.commit(folder, lambda into, f=frame: write_table(into / "scores.parquet", f, {}), {})
    connection = connect(store)
    rows = connection.sql("SELECT run, fold, skill, q FROM scores ORDER BY run").fetchall()
    assert rows == [("a", None, 1.0, None), ("b", "1", 2.0, 0.5), ("c", None, None, 0.25)]
    columns = connection.sql("SELECT * FROM scores").columns
    assert "plate" not in columns


def test_several_tables_of_a_family_each_have_a_view(store):
    def write(into):
        write_table(into / "folds.parquet", pd.DataFrame({"fold": [0]}), {})
        write_table(into / "units.parquet", pd.DataFrame({"unit": [1, 2]}), {})
        write_table(into / "nothing.parquet", pd.DataFrame(index=[0]), {})
        (into / "settings.json").write_text("{}")

    store.commit("folds/key=k", write, {})
    connection = connect(store)
    assert connection.sql("SELECT count(*) FROM folds_units").fetchall() == [(2,)]
    assert connection.sql("SELECT fold, key FROM folds").fetchall() == [(0, "k")]


def test_unfinished_folders_are_not_seen(store, fill):
    fill(store, plates=("P1",))
    half = store.root / ".tmp" / ("0" * 32)
    half.mkdir(parents=True)
    write_table(half / "scores.parquet", pd.DataFrame({"readout": ["half"]}), {})
    bare = store.root / "scores" / "run=bare"
    bare.mkdir()
    write_table(bare / "scores.parquet", pd.DataFrame({"readout": ["bare"]}), {})
    with connect(store) as connection:
        rows = connection.sql("SELECT readout FROM scores").fetchall()
    assert {"half", "bare"}.isdisjoint(row[0] for row in rows)


def test_a_damaged_table_is_named(store, fill):
    fill(store, plates=("P1",))
    [scores] = store.list("scores")
    path = store.root / scores / "scores.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match=r"scores\.parquet is damaged"):
        connect(store)


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE x (i INT)",
        "DROP VIEW scores",
        "COPY scores TO 'stolen.csv'",
        "ATTACH 'other.db'",
        "SET threads = 1",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_only_one_reading_statement_is_run(store, fill, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(store)
    with pytest.raises(StoreError, match="one SELECT"):
        select(connect(store), query)
    assert not (tmp_path / "stolen.csv").exists()


def test_a_wrong_query_is_said_with_duckdbs_reason(store):
    with pytest.raises(StoreError, match="features does not exist"):
        select(connect(store), "SELECT * FROM features")
    with pytest.raises(StoreError, match="syntax error"):
        select(connect(store), "SELEC 1")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{}')",
        "SELECT * FROM read_text('{}')",
        "SELECT * FROM glob('{}')",
    ],
)
def test_a_confined_query_reads_the_store_and_no_other_file(store, fill, tmp_path, query):
    fill(store)
    secret = tmp_path / "secret.csv"
    secret.write_text("name,word\na,hush\n")
    with connect(store) as connection:
        asked = query.format(secret)
        assert select(connection, asked)[1]
        confine(connection, store)
        with pytest.raises(StoreError, match="refused"):
            select(connection, asked)
        with pytest.raises(StoreError, match="refused"):
            select(connection, asked.replace(str(secret), f"{store.root}/../secret.csv".replace("'", "''")))
        assert select(connection, "SELECT count(*) FROM features")[1] == [(6,)]
        assert select(connection, "SELECT count(*) FROM features_cells")[1] == [(6,)]
