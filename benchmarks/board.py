"""How long `bench leaderboard` takes over many stored runs: reading, deciding and printing.

    python -m benchmarks.board [--runs 1000] [--per-board 10] [--readouts 50] [--perturbations 40]

Makes a store of synthetic finished runs in a temporary folder, then times each stage, best of ``--times``,
by processor time, so that other work on the machine does not count. ``command`` is the whole command in a
process of its own, by the processor and by the clock: ``first`` computes every board, ``again`` finds them
kept, ``one_more`` follows on one further run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import entries, runs
from bench.store import Store
from bench.store.tables import write_table
from leaderboard import Leaderboard, render
from tasks.base import Scored
from tasks.protocol import load


def main() -> None:
    """Print milliseconds per stage as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sizes = {"runs": 1000, "per-board": 10, "readouts": 50, "perturbations": 40, "times": 3}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        for number in range(given.runs):
            commit_run(store, number, given)
        found = measure(store, given.times) | {"command_first": command(store)}
        found["command_again"] = min((command(store) for _ in range(given.times)), key=lambda c: c["cpu_ms"])
        commit_run(store, given.runs, given)
        found["command_one_more"] = command(store)
        print(json.dumps(vars(given) | found, indent=1))


def command(store: Store) -> dict[str, float]:
    """Milliseconds of ``bench leaderboard`` in a process of its own."""
    before, started = os.times(), time.perf_counter()
    words = [sys.executable, "-m", "bench", "leaderboard", "--store", str(store.root)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return {"cpu_ms": round(1000 * spent), "clock_ms": round(1000 * clock)}


def commit_run(store: Store, number: int, given: argparse.Namespace) -> None:
    """Commit scores, summands and record of one made-up run."""
    rng = np.random.default_rng(number)
    R, K, P, T = 5, 5, given.perturbations, given.readouts
    board, place = divmod(number, given.per_board)
    folds = np.stack([np.random.default_rng(r).permutation(np.arange(P) % K) for r in range(R)])
    e0 = np.random.default_rng(board).chisquare(1, (1, P, T)).repeat(R, axis=0).astype(np.float32)
    e = (e0 * rng.uniform(0.6, 1.2, e0.shape)).astype(np.float32)
    names = tuple(f"g{i:05d}" for i in range(T))
    frame = pd.DataFrame({"readout": names, "stratum": "all", "r2": 0.1, "noise_ceiling": 0.5})
    scored = Scored(frame, e, e0, tuple(f"p{i:04d}" for i in range(P)), names, folds.astype(np.int16))
    protocol = load("nested-cv")
    run = f"{number:016x}"
    role = ("entrant", "control")[place % 3 == 2]
    record = {
        "run": run,
        "name": f"entrant{place}",
        "label": f"entrant{place}",
        "role": role,
        "task": "regression",
        "head": "ridge",
        "layer": "transcripts",
        "dataset": {"name": f"screen{board}", "version": "1"},
        "protocol": {"name": protocol.name, "hash": protocol.hash, "settings": protocol.settings},
        "folds_hash": "f",
        "permutes": None,
        "fit_scope": "pretrained",
        "preset": "default",
        "coverage": 1.0,
        "audit": [],
        "card": {},
        "problem": "p",
        "schema_version": 1,
    }
    spent = {"seconds": 1.0, "peak_memory_mb": 1.0, "time": "2026-01-01T00:00:00+00:00"}
    spent["features"] = {"seconds": 1.0, "peak_memory_mb": 1.0}

    def write_record(into: Path) -> None:
        (into / "record.json").write_text(json.dumps(record), encoding="utf-8")

    def write_scores(into: Path) -> None:
        write_table(into / "scores.parquet", frame, {})

    store.commit(f"scores/run={run}", write_scores, {"key": run})
    store.commit(f"summands/run={run}", lambda into: runs.save_scored(into, scored), {"key": run})
    store.commit(f"runs/run={run}", write_record, {"key": run, "provenance": spent})


def measure(store: Store, times: int) -> dict[str, Any]:
    """Milliseconds of every stage, best of ``times``."""
    found: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        best = float("inf")
        for _ in range(times):
            started = time.process_time()
            value = work()
            best = min(best, time.process_time() - started)
        found[f"{name}_ms"] = round(1000 * best, 1)
        return value

    records = timed("records", lambda: entries.newest(entries.records(store, {})))
    loaded = timed("runs", lambda: [entries.load_entry(store, record) for record in records])
    boards = timed("boards", lambda: Leaderboard(loaded).boards)
    timed("markdown", lambda: [render.markdown(board) for board in boards])
    found["total_ms"] = round(sum(found.values()), 1)
    found["boards"] = len(boards)
    return found


if __name__ == "__main__":
    main()
