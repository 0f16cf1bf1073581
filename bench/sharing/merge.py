"""An archive's runs onto the boards of a store, scored here from their predictions.

Of an archive only the predictions are believed, and what an entrant says of itself: the readouts, the folds
and the floor are those of this store, and so is every score.
"""

from __future__ import annotations

import functools
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import entries, runs
from bench import problem as problems
from bench.entrants import known
from bench.errors import BenchError
from bench.provenance import provenance
from bench.sharing.archive import Archive
from bench.sharing.export import OWN, ROLES, fingerprint

if TYPE_CHECKING:
    from bench.entries import Record
    from bench.problem import Problem
    from bench.store import Store
    from tasks.base import FoldResult

MARK = " [imported]"
LONGEST = 200
MOST_MEMORY = 1 << 30
"""Bytes that the predictions of one fold may unpack to."""


@dataclass(slots=True)
class Merged:
    """Identifiers of the merged runs, and why others were refused."""

    runs: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def merge(store: Store, path: Path, plugins: tuple[str, ...] = ()) -> Merged:
    """Merge the runs of an archive whose board this store has; say of the others why not.

    Raises
    ------
    BenchError
        When the archive is unsafe or damaged; nothing of it is then merged.
    """
    from tasks.base import TaskError

    archive = Archive(path)
    done = Merged()
    try:
        for own in archive.index["runs"]:
            name = _printable(str(own.get("label") if isinstance(own, dict) else own)[:LONGEST])
            try:
                done.runs.append(_merge(store, archive, own, plugins))
            except (BenchError, TaskError) as error:
                done.refused.append(f"{name}: {error}")
    finally:
        archive.close()
    return done


def _printable(text: str) -> str:
    """Return a name that has not been checked yet without what could steer a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _merge(store: Store, archive: Archive, own: Any, plugins: tuple[str, ...]) -> str:
    from bench.store import digest

    _well_formed(own)
    floor = _floor(store, own)
    problem = problems.load(store, floor["problem"])
    ours = fingerprint(problem)
    words = {"readouts": "readouts", "measured": "measured values", "folds": "folds"}
    for name, word in words.items():
        if own["problem"].get(name) != ours[name]:
            raise BenchError(
                f"its {word} are not those of the local board; both must come from the same data"
            )
    folds = [tuple(fold) for fold in own["folds"]]
    _whole_repeats(folds, [tuple(fold) for fold in floor["folds"]])
    about = known(plugins).get("tasks", floor["task"])
    results = [
        _fold(store, archive, own["run"], floor["run"], fold, needs_head=about.needs_head) for fold in folds
    ]
    names = [f"runs/{own['run']}/predictions/{r}-{f}.parquet" for r, f in folds]
    document = {
        "kind": "imported",
        "problem": problem.key,
        "entrant": {name: own.get(name) for name in OWN},
        "predictions": {name: archive.index["files"][name]["sha256"] for name in names},
    }
    return _commit(store, own, floor, problem, results, document, digest(document)[:16], plugins)


def _whole_repeats(folds: list[tuple[int, ...]], local: list[tuple[int, ...]]) -> None:
    """Refuse folds other than all of the first repeats: who may leave out folds can choose the kind ones."""
    if not folds or len(set(folds)) < len(folds) or not set(folds) <= set(local):
        raise BenchError("it names folds that the local board does not have")
    last = max(repeat for repeat, _ in folds)
    lacking = sum(repeat <= last for repeat, _ in local) - len(folds)
    if lacking:
        raise BenchError(
            f"it lacks {lacking} folds of its first {last + 1} repeats; share a run with every fold of them"
        )


def _well_formed(own: Any) -> None:
    """Refuse what is not shaped like a run; nothing else is looked at before."""
    texts = ("name", "label", "role", "head", "preset", "fit_scope", "run", "task", "layer")
    if not isinstance(own, dict) or not all(isinstance(own.get(n), str) for n in texts):
        raise BenchError("its entry lacks a name, label, role, head, preset, task or layer")
    if any(len(own[n]) > LONGEST or not own[n].isprintable() for n in texts):
        raise BenchError(f"a name has more than {LONGEST} characters, or some that cannot be printed")
    if own["role"] not in ROLES:
        raise BenchError(f"its role is {own['role']!r}; entrants and controls can be merged")
    if own["fit_scope"] not in ("pretrained", "transductive", "inductive"):
        raise BenchError(f"its fit scope {own['fit_scope']!r} is unknown")
    if not all(isinstance(own.get(n), dict) for n in ("card", "problem", "dataset", "protocol", "cost")):
        raise BenchError("its entry lacks the card, problem, dataset, protocol or cost")
    folds = own.get("folds")
    if not isinstance(folds, list) or not all(
        isinstance(f, list) and len(f) == 2 and all(type(i) is int for i in f) for f in folds
    ):
        raise BenchError("its folds are no pairs of numbers")


def _floor(store: Store, own: dict[str, Any]) -> Record:
    """Return the record of the local floor on the run's board; say what differs where there is none."""
    floors = entries.newest(entries.records(store, {"role": "floor"}))
    left = floors
    for word, name, key in (
        ("dataset", "dataset", "name"),
        ("version of the dataset", "dataset", "version"),
        ("task", "task", None),
        ("readout layer", "layer", None),
        ("protocol", "protocol", "hash"),
    ):

        def value(record: Any, name: str = name, key: str | None = key) -> Any:
            return record[name].get(key) if key else record[name]

        kept = [r for r in left if value(r) == value(own)]
        if not kept:
            here = ", ".join(sorted({str(value(r))[:40] for r in left})) or "none"
            raise BenchError(
                f"its {word} is {str(value(own))[:40]!r} and this store has boards of {here}; score "
                "something on the same board with `bench run` first"
            )
        left = kept
    same = [r for r in left if r["folds_hash"] == own["problem"].get("folds")]
    return (same or left)[-1]


def _fold(
    store: Store, archive: Archive, run: str, floor: str, fold: tuple[int, int], *, needs_head: bool
) -> FoldResult:
    """Return the archive's predictions of one fold with this store's units and floor."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench.store.tables import read_matrix
    from tasks.base import FoldId, FoldResult

    name = f"runs/{run}/predictions/{fold[0]}-{fold[1]}.parquet"
    content = archive.read(name)
    local = runs.load_fold(store, floor, *fold)
    try:
        about = pq.read_metadata(pa.BufferReader(content))
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise BenchError(f"{name} is no Parquet file") from error
    if about.num_rows != len(local.rows) or about.num_columns > 3:
        raise BenchError(f"{name} has {about.num_rows} rows where the fold tests {len(local.rows)} units")
    if size > MOST_MEMORY:
        raise BenchError(f"{name} would unpack to {size} bytes: taken for a bomb")
    with tempfile.TemporaryDirectory(prefix="wellbench-") as folder:
        path = Path(folder) / "predictions.parquet"
        path.write_bytes(content)
        index, values = read_matrix(path)
    rows = index["unit"].to_numpy() if "unit" in index else np.zeros(0)
    prediction = values.get("prediction")
    if prediction is None or not np.array_equal(rows, local.rows):
        raise BenchError(f"{name} predicts other units than those that the fold tests")
    if needs_head and prediction.shape != local.floor.shape:
        raise BenchError(f"{name} has predictions of shape {prediction.shape}, not {local.floor.shape}")
    if np.isinf(prediction).any():
        raise BenchError(f"{name} holds infinite predictions")
    return FoldResult(FoldId(*fold), local.rows, prediction, local.floor)


def _commit(
    store: Store,
    own: dict[str, Any],
    floor: Record,
    problem: Problem,
    results: list[FoldResult],
    document: dict[str, Any],
    run: str,
    plugins: tuple[str, ...],
) -> str:
    """Score the predictions and commit them as a run of its own, marked as imported."""
    scored = known(plugins).get("tasks", floor["task"])().score(problem.data, problem.folds, results)
    cost = {n: _cost(own["cost"].get(n)) for n in ("seconds", "peak_memory_mb")}
    shared = ("task", "layer", "dataset", "protocol", "folds_hash", "problem", "metric")
    label = own["label"] + MARK
    record = {name: floor[name] for name in shared} | {name: own.get(name) for name in OWN}
    record |= {
        "schema_version": 1,
        "run": run,
        "label": label,
        "permutes": None,
        "permute_seed": None,
        "folds": [[r.id.repeat, r.id.fold] for r in results],
        "coverage": runs.coverage(results),
        "audit": [],
        "imported": {"run": own["run"], "libraries": own.get("libraries", {})},
        "notes": [f"{label}: predictions of others, scored here; how they were made was not checked."],
    }
    for result in results:
        folder = runs.fold_folder(run, result.id.repeat, result.id.fold)
        store.commit(folder, functools.partial(runs.save_fold, result=result), {"key": run, "chosen": {}})

    spent = provenance(**cost, features={"seconds": 0.0, "peak_memory_mb": 0.0})
    runs.commit_run(store, run, scored, record, document, spent)
    return run


def _cost(value: Any) -> float:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and value >= 0 else 0.0
