"""Stored runs become entries: one read per record, the newest of those that a reader cannot tell apart."""

import json

import numpy as np
import pandas as pd
import pytest

from bench import entries, runs
from bench.store import Store
from bench.store.tables import write_table
from tasks.base import Scored
from tasks.protocol import load


def commit(store, run, **changes):
    """Commit a small finished run."""
    rng = np.random.default_rng(0)
    names = ("g0", "g1", "g2")
    frame = pd.DataFrame({"readout": names, "stratum": "all", "r2": 0.1})
    e0 = rng.chisquare(1, (2, 6, 3)).astype(np.float32)
    folds = np.tile(np.arange(6) % 3, (2, 1)).astype(np.int16)
    scored = Scored(frame, e0 / 2, e0, tuple(f"p{i}" for i in range(6)), names, folds)
    protocol = load("nested-cv")
    record = {
        "run": run,
        "name": "intensity",
        "label": "intensity",
        "role": "entrant",
        "task": "regression",
        "head": "ridge",
        "layer": "transcripts",
        "dataset": {"name": "demo", "version": "1"},
        "protocol": {"name": protocol.name, "hash": protocol.hash, "settings": protocol.settings},
        "folds_hash": "f",
        "permutes": None,
        "fit_scope": "pretrained",
        "preset": "default",
        "coverage": 1.0,
        "audit": [{"about": "intensity", "message": "mind the plate"}],
        "card": {},
        "problem": "p",
    } | changes
    spent = {"seconds": 2.0, "peak_memory_mb": 5.0, "time": f"2026-01-01T00:00:{len(store.list('runs')):02d}"}
    spent["features"] = {"seconds": 3.0, "peak_memory_mb": 7.0}
    store.commit(
        f"scores/run={run}", lambda into: write_table(into / "scores.parquet", frame, {}), {"key": run}
    )
    store.commit(f"summands/run={run}", lambda into: runs.save_scored(into, scored), {"key": run})
    text = json.dumps(record)
    store.commit(
        f"runs/run={run}",
        lambda into: (into / "record.json").write_text(text, encoding="utf-8"),
        {"key": run, "provenance": spent},
    )


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    commit(made, "c" * 16)
    commit(made, "a" * 16)
    commit(made, "b" * 16, head="knn")
    commit(made, "d" * 16, task="other")
    return made


def test_the_newest_of_runs_that_look_alike_stands_for_them(store):
    found = entries.records(store, {"task": "regression", "layer": None})
    assert [record["run"][0] for record in found] == ["a", "b", "c"]
    assert [record["run"][0] for record in entries.newest(found)] == ["a", "b"]


def test_a_record_is_read_once_from_the_choice_to_the_entry(store, monkeypatch):
    read = []
    real = Store.read_bytes

    def counted(self, folder, name, manifest=None):
        read.append(folder)
        return real(self, folder, name, manifest)

    monkeypatch.setattr(Store, "read_bytes", counted)
    loaded = [entries.load_entry(store, record) for record in entries.newest(entries.records(store, {}))]
    assert sorted(read) == store.list("runs")
    assert [entry.run[0] for entry in loaded] == ["a", "b", "d"]


def test_an_entry_by_its_identifier_equals_that_by_its_record(store):
    by_record = entries.load_entry(store, entries.records(store, {"head": "knn"})[0])
    by_name = entries.load_entry(store, "bbb")
    assert by_record.run == by_name.run
    np.testing.assert_array_equal(by_record.e, by_name.e)
    assert (by_record.seconds, by_record.peak_memory_mb) == (5.0, 7.0)
    assert by_record.warnings == ("intensity: mind the plate",)
