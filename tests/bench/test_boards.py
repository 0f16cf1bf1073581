"""Boards are computed once and kept under a key of all that they follow from."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from bench import boards, entries
from bench.store import Store
from leaderboard import Leaderboard, Rules, render
from leaderboard.sheet import Sheet
from tests.bench.shelf import command, commit

FEW = Rules(flips=200)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    commit(made, "a" * 16)
    commit(made, "b" * 16, name="cell-count", label="cell-count", role="control", loss=0.9)
    commit(made, "c" * 16, layer="proteins", seed=1)
    return made


@pytest.fixture
def read(monkeypatch):
    """Runs whose errors were read."""
    found = []
    real = entries.load_entry
    monkeypatch.setattr(
        entries, "load_entry", lambda store, record: found.append(record["run"][0]) or real(store, record)
    )
    return found


def sheets(store, rules=FEW):
    return boards.Boards(store, entries.newest(entries.records(store, {})), rules).sheets()


def files(store):
    return sorted(path for path in (store.root / boards.KEPT).rglob("*") if path.is_file())


def test_a_kept_board_prints_what_the_computed_one_does(store):
    loaded = [entries.load_entry(store, record) for record in entries.newest(entries.records(store, {}))]
    computed = Leaderboard(loaded, FEW).boards
    sheets(store)
    for fresh, kept in zip(computed, sheets(store), strict=True):
        assert type(kept) is Sheet
        for form in (render.markdown, render.csv, render.json):
            assert form(kept) == form(fresh)
        assert kept.rows.dtypes.astype(str).tolist() == fresh.rows.dtypes.astype(str).tolist()
        assert kept.title == fresh.title


def test_a_second_look_reads_no_errors_and_a_new_run_those_of_its_board_only(store, read):
    sheets(store)
    assert read == ["a", "b", "c"]
    sheets(store)
    assert read == ["a", "b", "c"]
    commit(store, "d" * 16, layer="proteins", head="knn", seed=2)
    assert [len(sheet.rows) for sheet in sheets(store)] == [2, 2]
    assert read == ["a", "b", "c", "c", "d"]


@pytest.mark.parametrize("what", ["rules", "code", "scores", "cost"])
def test_a_kept_board_is_not_shown_for_other_rules_code_scores_or_costs(store, read, monkeypatch, what):
    sheets(store)
    read.clear()
    if what == "code":
        monkeypatch.setattr(boards, "_statistics", lambda: "another version")
    if what in ("scores", "cost"):
        family, name = {"scores": ("scores", "manifest.json"), "cost": ("runs", "provenance.json")}[what]
        path = store.root / family / f"run={'c' * 16}" / name
        path.write_bytes(
            path.read_bytes() + b" "
            if what == "scores"
            else b'{"seconds": 9.0, "time": "1", '
            b'"peak_memory_mb": 5.0, "features": {"seconds": 3.0, "peak_memory_mb": 7.0}}'
        )
    shown = sheets(store, Rules(flips=100) if what == "rules" else FEW)
    assert read == (["a", "b", "c"] if what in ("rules", "code") else ["c"])
    if what == "cost":
        assert shown[1].rows["seconds"].tolist() == [12.0]


def test_a_file_written_over_since_is_read_again(store, read):
    sheets(store)
    read.clear()
    path = next(p for p in (store.root / "summands" / f"run={'c' * 16}").iterdir() if p.suffix == ".parquet")
    path.write_bytes(path.read_bytes())
    sheets(store)
    assert read == ["c"]


def test_a_damaged_or_unwritable_cache_costs_computing_only(store, read):
    before = [render.markdown(sheet) for sheet in sheets(store)]
    for path in files(store):
        path.write_bytes(path.read_bytes().replace(b"mine", b"hers"))
    assert [render.markdown(sheet) for sheet in sheets(store)] == before
    for path in files(store):
        path.unlink()
        path.mkdir()  # no file can be put in its place
    assert [render.markdown(sheet) for sheet in sheets(store)] == before
    assert read == ["a", "b", "c"] * 3


def test_the_printed_board_is_kept_for_its_width_and_gc_removes_old_ones(store, capsys, monkeypatch):
    words = ("leaderboard", "--store", store.root)
    monkeypatch.setenv("COLUMNS", "80")
    first = command(capsys, *words)[1]
    count = len(files(store))
    assert command(capsys, *words)[1] == first
    assert len(files(store)) == count
    monkeypatch.setenv("COLUMNS", "120")
    assert command(capsys, *words)[1] != first
    assert store.verify() == []
    store.gc()
    assert files(store)
    time.sleep(0.01)
    store.gc(timedelta(0))
    assert not files(store)
    assert [run[0] for run in entries.run_identifiers(store)] == ["a", "b", "c"]
