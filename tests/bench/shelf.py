"""A store with small finished runs whose errors a test chooses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from bench import runs
from bench.store import Store
from bench.store.tables import write_table
from tasks.base import Scored
from tasks.protocol import load

REPEATS, FOLDS, PERTURBATIONS, READOUTS = 5, 5, 60, 12


def folds(seed=0):
    """(R, P) outer folds."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(PERTURBATIONS) % FOLDS) for _ in range(REPEATS)]
    return np.stack(rows).astype(np.int16)


def errors(loss, seed=0, noise=0.02):
    """Return e and e0 (R, P, T) of a run whose skill is about 1 - loss in every readout."""
    base = np.random.default_rng(99).chisquare(8, (1, PERTURBATIONS, READOUTS)) / 8
    e0 = np.broadcast_to(base, (REPEATS, PERTURBATIONS, READOUTS)).astype(np.float32)
    jitter = np.random.default_rng(seed).normal(1, noise, e0.shape)
    return (np.asarray(loss) * e0 * np.abs(jitter)).astype(np.float32), e0


def commit(store: Store, run: str, loss=0.8, second=0, seed=0, noise=0.02, **changes) -> None:
    """Commit a finished run with this relative loss (a number or one per readout)."""
    names = tuple(f"g{i:02d}" for i in range(READOUTS))
    e, e0 = errors(loss, seed, noise)
    skill = 1 - e.sum((0, 1)) / e0.sum((0, 1))
    frame = pd.DataFrame({"readout": names, "stratum": "all", "r2": skill})
    if "scores" in changes:
        frame = pd.concat([frame, changes.pop("scores")], ignore_index=True)
    scored = Scored(frame, e, e0, tuple(f"p{i:02d}" for i in range(PERTURBATIONS)), names, folds())
    protocol = load(changes.pop("protocol", "nested-cv"))
    record = {
        "run": run,
        "name": "mine",
        "label": "mine",
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
        "audit": [],
        "card": {},
        "problem": "p",
    } | changes
    spent = {"seconds": 2.0, "peak_memory_mb": 5.0, "time": f"2026-01-01T00:00:{second:02d}"}
    spent["features"] = {"seconds": 3.0, "peak_memory_mb": 7.0}

    def write_scores(into):
        write_table(into / "scores.parquet", frame, {})

    def write_record(into):
        (into / "record.json").write_text(json.dumps(record), encoding="utf-8")

    store.commit(f"scores/run={run}", write_scores, {"key": run})
    store.commit(f"summands/run={run}", lambda into: runs.save_scored(into, scored), {"key": run})
    store.commit(f"runs/run={run}", write_record, {"key": run, "provenance": spent})


def command(capsys, *words):
    """Run ``bench`` in this process; return its exit status, standard output and standard error."""
    from bench.__main__ import main

    capsys.readouterr()
    try:
        main([str(w) for w in words])
        status = 0
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err
