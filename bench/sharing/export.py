"""Stored runs to an archive that others can merge into their board."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import problem as problems
from bench import runs
from bench.entries import verify
from bench.errors import BenchError
from bench.sharing.archive import write

if TYPE_CHECKING:
    from bench.problem import Problem
    from bench.store import Store

ROLES = ("entrant", "control")
OWN = ("name", "label", "role", "head", "preset", "fit_scope", "inputs", "card")
"""What an archive says of an entrant; all else is that of the board it is merged into."""


def fingerprint(problem: Problem) -> dict[str, str]:
    """Return the hashes by which two stores know that they ask the same question."""
    data = problem.data
    names = hashlib.sha256("\x1f".join(data.readouts).encode())
    values = hashlib.sha256(data.Y.tobytes())
    values.update("\x1f".join(data.groups.tolist()).encode())
    return {
        "folds": problem.folds_hash,
        "readouts": names.hexdigest(),
        "measured": values.hexdigest(),
    }


def export(store: Store, identifiers: Sequence[str], out: Path, plugins: tuple[str, ...] = ()) -> list[str]:
    """Write runs to ``out``, each verified first; return their labels.

    Only predictions, scores, what the entrant says of itself and hashes go into it: no image, no measured
    value, no path of this machine.

    Raises
    ------
    BenchError
        When a run is not there, is neither an entrant nor a control, or its numbers do not follow from its
        predictions.
    """
    if out.exists():
        raise BenchError(f"{out} exists; name another file with -o")
    files: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for identifier in identifiers:
        record = runs.load_record(store, identifier)
        run = record["run"]
        if record["role"] not in ROLES:
            raise BenchError(
                f"run {run} ({record['label']}) is of the role {record['role']}; "
                "entrants and controls are shared"
            )
        if any(own["run"] == run for own in listed):
            continue
        verify(store, run, plugins)
        spent = store.manifest(f"runs/run={run}")["provenance"]
        files[f"runs/{run}/scores.parquet"] = store.read_bytes(f"scores/run={run}", "scores.parquet")
        for repeat, fold in record["folds"]:
            content = store.read_bytes(runs.fold_folder(run, repeat, fold), "predictions.parquet")
            files[f"runs/{run}/predictions/{repeat}-{fold}.parquet"] = content
        listed.append(
            {
                **{name: record.get(name) for name in OWN},
                "run": run,
                "folds": record["folds"],
                "dataset": record["dataset"],
                "task": record["task"],
                "layer": record["layer"],
                "protocol": {"name": record["protocol"]["name"], "hash": record["protocol"]["hash"]},
                "problem": fingerprint(problems.load(store, record["problem"])),
                "cost": {
                    "seconds": spent["seconds"] + spent["features"]["seconds"],
                    "peak_memory_mb": max(spent["peak_memory_mb"], spent["features"]["peak_memory_mb"]),
                },
                "libraries": spent.get("libraries", {}),
            }
        )
    write(out, files, {"runs": listed})
    return [own["label"] for own in listed]
