"""``bench store``: tables for people, JSON and CSV for programs, one sentence for what is wrong."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from bench.cli.store import app
from bench.errors import StoreError, UsageError
from bench.store import digest


@pytest.fixture
def run(store):
    def invoke(*arguments: str, code: int = 0):
        result = CliRunner().invoke(app, [*arguments, "--store", str(store.root)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_ls_lists_folders_with_sizes(store, fill, run):
    fill(store)
    rows = json.loads(run("ls", "--json").stdout)
    assert [row["folder"] for row in rows] == store.list()
    assert rows[0]["rows"] == 3
    assert all(row["bytes"] > 0 for row in rows)
    lines = run("ls", "features").stdout.splitlines()
    assert len(lines) == 3
    assert "plate=a%2Fb" in lines[2]


def test_ls_leaves_out_a_damaged_folder_and_says_so(store, fill, run):
    fill(store)
    (store.root / store.list()[0] / "manifest.json").write_text("{")
    result = run("ls", "--json")
    assert len(json.loads(result.stdout)) == 3
    assert "left out" in result.stderr


def test_show_takes_a_key_or_its_start_or_a_folder(store, fill, run, part):
    fill(store)
    key = part("P1").key
    found = json.loads(run("show", key[:9], "--json").stdout)
    assert [m["folder"] for m in found] == store.list("features")
    assert found == json.loads(run("show", "features", "--json").stdout)
    text = run("show", part("P1").folder).stdout
    assert "key_document.config.bins" in text
    assert "provenance.seconds" in text
    with pytest.raises(StoreError, match="nothing in"):
        run("show", "zzz")


def test_verify_exits_with_1_and_names_the_file_when_something_changed(store, fill, run, part):
    fill(store)
    assert json.loads(run("verify", "--json").stdout) == []
    path = store.root / part("P1").folder / "part.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    [problem] = json.loads(run("verify", "--json", code=1).stdout)
    assert problem["file"] == "part.parquet"
    assert "part.parquet" in run("verify", part("P1").key[:9], code=1).stdout
    assert run("verify", "scores").stdout == ""


def test_why_shows_a_and_b(store, run):
    for document in ({"bins": 4}, {"bins": 8}):
        store.commit(f"runs/run={digest(document)}", lambda _: None, {"key_document": document})
    a, b = digest({"bins": 4}), digest({"bins": 8})
    assert json.loads(run("why", a[:6], b[:6], "--json").stdout) == [{"path": "bins", "a": 4, "b": 8}]
    assert run("why", a, b).stdout.split() == ["entry", "A", "B", "bins", "4", "8"]
    assert "nothing differs" in run("why", a, a).stderr


def test_sql_prints_a_table_json_or_csv_with_any_gene_name(store, fill, run):
    fill(store)
    query = "SELECT readout, skill FROM scores ORDER BY n DESC"
    expected = ["<script>", 'a","b', "ü x"]
    found = json.loads(run("sql", query, "--json").stdout)
    assert [row["readout"] for row in found] == expected
    assert found[1]["skill"] is None
    rows = list(csv.reader(io.StringIO(run("sql", query, "--csv").stdout)))
    assert rows[0] == ["readout", "skill"]
    assert [row[0] for row in rows[1:]] == expected
    table = run("sql", query).stdout
    assert all(name in table for name in expected)
    assert "[bold]x" in run("sql", "SELECT '[bold]x' AS \"[red]name\"").stdout
    with pytest.raises(UsageError, match="exclude each other"):
        run("sql", query, "--csv", "--json")
    with pytest.raises(StoreError, match="one SELECT"):
        run("sql", "DROP VIEW scores")
    with pytest.raises(StoreError, match="refused"):
        run("sql", f"SELECT * FROM read_text('{__file__}')")


def test_gc_says_what_it_removed_and_spares_the_young(store, run):
    leftover = store.root / ".tmp" / "half"
    leftover.mkdir(parents=True)
    assert json.loads(run("gc", "--json").stdout) == []
    assert json.loads(run("gc", "--json", "--older-than-days", "0").stdout) == ["half"]
    assert "0 leftovers" in run("gc").stderr


def test_a_store_that_is_not_there_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("WELLBENCH_STORE", str(tmp_path / "none"))
    for command in (["ls"], ["verify"], ["gc"], ["sql", "SELECT 1"], ["show", "x"], ["why", "a", "b"]):
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, StoreError)
        assert "there is no store" in str(result.exception)
    assert not (tmp_path / "none").exists()
