"""Stored runs to entries of the leaderboard, and the check that their numbers follow from predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import problem as problems
from bench import runs
from bench.entrants import known
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.store import Store
    from leaderboard.schema import Entry


Record = dict[str, Any]
"""What a finished run says of itself, and ``spent``, its provenance."""


def run_identifiers(store: Store) -> list[str]:
    """Return the identifiers of all finished runs."""
    return [folder.rpartition("run=")[2] for folder in store.list("runs")]


def load_entries(store: Store, records: Sequence[Record], tick: Ticker) -> list[Entry]:
    """Read finished runs from their records, in order."""
    loaded = []
    for done, record in enumerate(records, start=1):
        loaded.append(load_entry(store, record))
        tick("reading runs", done, len(records))
    return loaded


def load_entry(store: Store, of: str | Record) -> Entry:
    """Read one finished run, by its identifier or its record as :func:`records` gives it."""
    from bench.store.tables import read_table
    from leaderboard.schema import Entry

    record = _record(store, f"runs/run={runs.load_record(store, of)['run']}") if isinstance(of, str) else of
    run = record["run"]
    index, e, e0, readouts = _summands(store, run)
    per_fold = _fold_values(store, run)
    repeats = int(index["repeat"].max()) + 1
    shape = (repeats, len(index) // repeats)
    settings = record["protocol"]["settings"]
    spent = record["spent"]
    return Entry(
        run=run,
        name=record["name"],
        label=record["label"],
        role=record["role"],
        task=record["task"],
        head=record["head"],
        layer=record["layer"],
        dataset=record["dataset"]["name"],
        dataset_version=record["dataset"]["version"],
        protocol=record["protocol"]["name"],
        protocol_hash=record["protocol"]["hash"],
        folds_hash=record["folds_hash"],
        readouts=tuple(readouts),
        perturbations=tuple(index["perturbation"].iloc[: shape[1]]),
        e=e.reshape(*shape, e.shape[1]),
        e0=e0.reshape(*shape, e0.shape[1]),
        folds=index["fold"].to_numpy("int16").reshape(shape),
        scores=read_table(store.path(f"scores/run={run}") / "scores.parquet"),
        permutes=record["permutes"],
        fit_scope=record["fit_scope"],
        preset=record["preset"],
        coverage=record["coverage"],
        seconds=spent["seconds"] + spent["features"]["seconds"],
        peak_memory_mb=max(spent["peak_memory_mb"], spent["features"]["peak_memory_mb"]),
        margin=settings["margin"],
        optimistic=settings["label"] == "optimistic",
        variance_measured=settings["variance"] == "measured",
        fold_values=per_fold,
        metric=record.get("metric") or ("skill" if per_fold is None else "ROC AUC"),
        warnings=(
            *record.get("notes", ()),
            *(f"{f['about']}: {f['message']}" if f["about"] else f["message"] for f in record["audit"]),
        ),
        facts={"card": record["card"], "problem": record["problem"]},
    )


def _summands(store: Store, run: str) -> tuple[Any, Any, Any, list[str]]:
    import numpy as np

    from bench.store.tables import read_matrix, read_meta

    path = store.path(f"summands/run={run}") / "summands.parquet"
    index, values = read_matrix(path)
    nothing = np.zeros((len(index), 0), np.float32)
    return index, values.get("e", nothing), values.get("e0", nothing), read_meta(path)["readouts"]


def _fold_values(store: Store, run: str) -> Any:
    """Scores per fold (R, K, T) of a run that has them, else None."""
    from bench.store.tables import read_matrix

    path = store.path(f"summands/run={run}") / "fold-values.parquet"
    if not path.exists():
        return None
    index, values = read_matrix(path)
    return values["score"].reshape(int(index["repeat"].max()) + 1, int(index["fold"].max()) + 1, -1)


def verify(store: Store, identifier: str, plugins: tuple[str, ...] = ()) -> dict[str, Any]:
    """Recompute a run's summands, scores and coverage from its stored predictions; return what was compared.

    Raises
    ------
    BenchError
        When a stored number is not what the stored predictions give.
    """
    import numpy as np
    import pandas as pd

    from bench.store.tables import read_table

    record = runs.load_record(store, identifier)
    run = record["run"]
    for folder in (
        f"runs/run={run}",
        f"scores/run={run}",
        f"summands/run={run}",
        problems.folder(record["problem"]),
    ):
        _sound(store, folder)
    for fold in record["folds"]:
        _sound(store, runs.fold_folder(run, *fold))
    problem = problems.load(store, record["problem"])
    estimand = known(plugins).get("tasks", record["task"]).estimand
    scored = runs.rescore(
        store, problem, record["task"], run, record["folds"], record["permute_seed"], plugins
    )
    index, e, e0, readouts = _summands(store, run)
    stored = read_table(store.path(f"scores/run={run}") / "scores.parquet")
    differing = [
        name
        for name, mine, theirs in (("e", scored.e, e), ("e0", scored.e0, e0))
        if not np.array_equal(mine.reshape(theirs.shape), theirs, equal_nan=True)
    ]
    if not _same(scored.fold_values, _fold_values(store, run)):
        differing.append("scores per fold")
    covered = runs.coverage([runs.load_fold(store, run, *fold) for fold in record["folds"]])
    if covered != record["coverage"]:
        differing.append(f"coverage ({record['coverage']:.6g} stored, {covered:.6g} found)")
    if list(scored.readouts) != readouts or not np.array_equal(scored.folds.reshape(-1), index["fold"]):
        differing.append("readouts or folds")
    try:
        pd.testing.assert_frame_equal(
            scored.scores.reset_index(drop=True), stored, rtol=0, atol=0, check_dtype=False
        )
    except AssertionError as error:
        differing.append("scores (" + " ".join(str(error).split()[:12]) + ")")
    if differing:
        raise BenchError(
            f"run {run}: {', '.join(differing)} do not follow from the stored predictions; "
            "the run was altered or made by another version of the task"
        )
    return {
        "run": run,
        "label": record["label"],
        "readouts": len(readouts),
        "perturbations": len(scored.perturbations),
        "folds": len(record["folds"]),
        "metric": estimand,
        "skill": float(scored.scores.loc[scored.scores["stratum"] == "all", estimand].mean()),
        "coverage": covered,
        "verified": True,
    }


def _sound(store: Store, folder: str) -> None:
    problems_found = store.verify(folder)
    if problems_found:
        raise BenchError(f"{folder}: {problems_found[0]}")


def _same(mine: Any, stored: Any) -> bool:
    """Whether two arrays, or none, are equal bit by bit."""
    import numpy as np

    if mine is None or stored is None:
        return mine is stored
    return bool(np.array_equal(mine, stored, equal_nan=True))


def records(store: Store, wanted: Mapping[str, Any]) -> list[Record]:
    """Return the records of finished runs with these values (dataset, layer, task …); None stands for any.

    Each record is read once, here, and its provenance stands in it as ``spent``.
    """
    chosen = []
    for folder in store.list("runs"):
        record = _record(store, folder)
        flat = {**record, "dataset": record["dataset"]["name"], "protocol": record["protocol"]["name"]}
        if all(value is None or flat[name] == value for name, value in wanted.items()):
            chosen.append(record)
    return chosen


def named(store: Store, identifiers: Sequence[str]) -> list[Record]:
    """Return the records of the runs with these identifiers, in their order."""
    return [_record(store, f"runs/run={identifier}") for identifier in identifiers]


def _record(store: Store, folder: str) -> Record:
    """Read a record with ``spent``, its provenance: time, seconds and memory."""
    manifest = store.manifest(folder)
    record: Record = json.loads(store.read_bytes(folder, "record.json", manifest))
    return record | {"spent": manifest["provenance"]}


def newest(found: Sequence[Record]) -> list[Record]:
    """Return, of runs that a reader cannot tell apart, the one that was recorded last.

    Runs of one label, role and head on one board differ in images, seed or code; an older one is out of date.
    Imported runs may be of several authors: only another import of the same run takes the place of one.
    """
    latest: dict[tuple[str, ...], tuple[str, str]] = {}
    for record in found:
        board = (record["dataset"]["name"], record["dataset"]["version"], record["task"], record["layer"])
        author = record.get("imported", {}).get("run", "")
        own = (record["protocol"]["hash"], record["label"], record["role"], record["head"], author)
        mark = (str(record["spent"]["time"]), record["run"])
        latest[board + own] = max(latest.get(board + own, ("", "")), mark)
    kept = {identifier for _, identifier in latest.values()}
    return [record for record in found if record["run"] in kept]
