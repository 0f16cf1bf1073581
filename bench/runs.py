"""One run: an entrant with a head on one problem. Its folds are units; its record is committed last.

Stored under the run's identifier: predictions per outer fold, then scores and summands, then the record. A
run without a record is not on any board; the same command finishes it from the folds that are stored.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import problem as problems
from bench.embed import Failure
from bench.entrants import known
from bench.errors import StoreError
from bench.execute import Executor, Unit
from bench.provenance import peak_memory_mb, provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.cli.ui import Ticker
    from bench.entrants import Spec
    from bench.problem import Problem
    from bench.store import FeatureSet, PartKey, Store
    from tasks.base import Block, FoldResult, Scored, TaskData
    from tasks.protocol import Protocol


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run as plain values that a worker process can take.

    Parameters
    ----------
    features
        Parts of the features by ``(repeat, fold)``; the key ``None`` serves every fold. Empty for the floor,
        which reads none.
    permute_seed
        Readouts are permuted between perturbations with this seed; None scores them as measured.
    folds
        The outer folds ``(repeat, fold)`` that are run.
    omics
        Folder of the omics that stand beside the features, or in their place; empty for none.
    predictor
        What is refitted in each fold where it predicts readouts itself; there are no features and no head.
    device
        Where heads compute.
    """

    run: str
    store: str
    problem: str
    task: str
    head: str
    protocol: Protocol
    features: tuple[tuple[tuple[int, int] | None, tuple[PartKey, ...]], ...]
    folds: tuple[tuple[int, int], ...]
    permute_seed: int | None = None
    plugins: tuple[str, ...] = ()
    omics: str = ""
    predictor: Spec | None = None
    device: str = "cpu"


@dataclass(slots=True)
class Finished:
    """What became of a run: its record, or the reasons why there is none; fields that were left out of it."""

    record: dict[str, Any] | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)


ALIGNMENT = 1
"""Version of :func:`aligned`; raised when it gives other rows."""


def fold_folder(run: str, repeat: int, fold: int) -> str:
    """Return where the predictions of one outer fold stand."""
    return f"predictions/run={run}/repeat={repeat}/fold={fold}"


def execute(
    store: Store,
    todo: Sequence[tuple[RunSpec, Mapping[str, Any]]],
    executor: Executor,
    tick: Ticker,
    fit: Callable[[RunSpec, int, int], None] | None = None,
) -> dict[str, Finished]:
    """Run every missing outer fold of every spec, then score and record each run whose folds are all there.

    ``todo`` pairs a spec with the facts its record is to hold (names, keys, label, coverage, cost). ``fit``
    runs a fold of a predictor; like other training it is not spread over processes.
    """
    missing = [
        (spec, repeat, fold)
        for spec, _ in todo
        if not store.has(f"runs/run={spec.run}")
        for repeat, fold in spec.folds
        if not store.has(fold_folder(spec.run, repeat, fold))
    ]
    units = [
        Unit(f"{spec.run}/{repeat}/{fold}", run_fold, (spec, repeat, fold))
        for spec, repeat, fold in missing
        if spec.predictor is None
    ]
    finished = {spec.run: Finished() for spec, _ in todo}
    for done, outcome in enumerate(executor.map(units), start=1):
        if outcome.reason is not None:
            run, repeat, fold = outcome.unit.name.split("/")
            finished[run].failures.append((f"repeat {repeat}, fold {fold}", outcome.reason))
        tick("scoring", done, len(units))
    for spec, number, place in missing:
        if spec.predictor is None:
            continue
        assert fit is not None
        try:
            fit(spec, number, place)
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything; it is recorded
            failure = Failure.of(f"repeat {number}, fold {place}", error)
            finished[spec.run].failures.append((failure.what, failure.reason))
    for spec, facts in todo:
        if finished[spec.run].failures:
            continue
        try:
            finished[spec.run].record = _record(store, spec, facts)
            finished[spec.run].lost = _lost(store, spec)
        except Exception as error:  # noqa: BLE001  # one run that cannot be scored leaves the others alone
            failure = Failure.of("scoring", error)
            finished[spec.run].failures.append((failure.what, failure.reason))
    return finished


def _lost(store: Store, spec: RunSpec) -> list[tuple[str, str]]:
    """Return the fields that the folds of a predictor went without, each once, and why."""
    found: dict[tuple[str, str], None] = {}
    for fold in spec.folds if spec.predictor is not None else ():
        for failure in store.manifest(fold_folder(spec.run, *fold))["failures"]:
            found[failure["what"], failure["reason"]] = None
    return sorted(found)


def run_fold(spec: RunSpec, repeat: int, fold: int) -> None:
    """Fit and predict one outer fold and commit its predictions."""
    from bench.store import Store
    from tasks.base import FoldId

    started = time.perf_counter()
    store = Store(Path(spec.store))
    problem = _problem(spec.store, spec.problem)
    task = known(spec.plugins).get("tasks", spec.task)

    def supply(_: FoldId) -> list[Block]:
        return _blocks(spec, repeat, fold, problem.data)

    identifier = FoldId(repeat, fold)
    if task.needs_head:
        from tasks import evaluate

        head = known(spec.plugins).get("heads", spec.head)
        result = evaluate.run_fold(
            problem.data,
            supply,
            spec.protocol,
            problem.folds,
            identifier,
            head,
            spec.permute_seed,
            spec.device,
        )
    else:
        from tasks import embedding

        result = embedding.embed_fold(problem.data, supply, spec.protocol, problem.folds, identifier)
    spent = provenance(seconds=time.perf_counter() - started, peak_memory_mb=peak_memory_mb())
    manifest = {"key": spec.run, "chosen": _scalars(result.chosen), "provenance": spent}
    store.commit(fold_folder(spec.run, repeat, fold), lambda into: save_fold(into, result), manifest)


@functools.lru_cache(maxsize=2)
def _problem(store: str, key: str) -> Problem:
    from bench.store import Store

    return problems.load(Store(Path(store)), key)


def _blocks(spec: RunSpec, repeat: int, fold: int, data: TaskData) -> list[Block]:
    """Return the features of one outer fold; the floor's, which nobody reads, are a column of zeros."""
    import numpy as np

    from bench import inputs
    from bench.store import Store
    from tasks.base import Block

    blocks = []
    if spec.features:
        by_fold = dict(spec.features)
        parts = by_fold[(repeat, fold)] if (repeat, fold) in by_fold else by_fold[None]
        names: tuple[str, ...] = ()
        if spec.protocol.selection.blocklist:
            names = tuple(_read_parts(spec.store, parts).columns)
        blocks.append(Block("image", aligned(spec.store, parts, data), names=names))
    if spec.omics:
        values = inputs.aligned(Store(Path(spec.store)), spec.omics, data.wells)
        blocks.append(Block("omics", values, plates=False))
    return blocks or [Block("image", np.zeros((len(data.wells), 1), np.float32))]


def aligned(store: str, parts: tuple[PartKey, ...], data: TaskData) -> NDArray[np.float32]:
    """Return (N, D) features aligned to the problem's wells; a well without features has a NaN row."""
    from bench.align import to_wells

    features = _read_parts(store, parts)
    return to_wells(features.wells, features.X, data.wells)


@functools.lru_cache(maxsize=2)
def _read_parts(store: str, parts: tuple[PartKey, ...]) -> FeatureSet:
    from bench.store import Store, read_parts

    return read_parts(Store(Path(store)), parts)


def _scalars(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in chosen.items() if isinstance(v, str | int | float)}


def save_fold(into: Path, result: FoldResult) -> None:
    """Write the predictions of one outer fold, and what was chosen in it."""
    import pandas as pd

    from bench.store.tables import write_matrix, write_table

    index = pd.DataFrame({"unit": result.rows})
    values = {"prediction": result.prediction, "floor": result.floor}
    write_matrix(into / "predictions.parquet", index, values, {})
    arrays = {k: v for k, v in result.chosen.items() if not isinstance(v, str | int | float)}
    write_table(into / "chosen.parquet", pd.DataFrame(arrays), {})


def load_fold(store: Store, run: str, repeat: int, fold: int) -> FoldResult:
    """Read the stored predictions of one outer fold."""
    import numpy as np

    from bench.store.tables import read_matrix
    from tasks.base import FoldId, FoldResult

    path = store.path(fold_folder(run, repeat, fold))
    index, values = read_matrix(path / "predictions.parquet")
    rows = index["unit"].to_numpy(np.int64)
    return FoldResult(FoldId(repeat, fold), rows, values["prediction"], values["floor"])


def rescore(
    store: Store,
    problem: Problem,
    task: str,
    run: str,
    folds: Sequence[Sequence[int]],
    permute_seed: int | None,
    plugins: tuple[str, ...] = (),
) -> Scored:
    """Compute scores and summands of a run from its stored predictions and the stored measured readouts."""
    from tasks.evaluate import permuted

    data = problem.data if permute_seed is None else permuted(problem.data, permute_seed)
    results = [load_fold(store, run, repeat, fold) for repeat, fold in folds]
    scored: Scored = known(plugins).get("tasks", task)().score(data, problem.folds, results)
    return scored


def save_scored(into: Path, scored: Scored) -> None:
    """Write summands as one row per repeat and perturbation, with e and e0 as lists over readouts.

    Scores that exist per fold only stand in a table of their own, one row per repeat and fold.
    """
    import numpy as np
    import pandas as pd

    from bench.store.tables import write_matrix

    repeats, perturbations, readouts = scored.e.shape
    index = pd.DataFrame(
        {
            "repeat": np.repeat(np.arange(repeats, dtype=np.int16), perturbations),
            "perturbation": list(scored.perturbations) * repeats,
            "fold": scored.folds.reshape(-1).astype(np.int16),
        }
    )
    values = {}
    if scored.fold_values is None:
        values = {"e": scored.e.reshape(-1, readouts), "e0": scored.e0.reshape(-1, readouts)}
    write_matrix(into / "summands.parquet", index, values, {"readouts": list(scored.readouts)})
    if scored.fold_values is None:
        return
    repeats, width, readouts = scored.fold_values.shape
    folds = pd.DataFrame(
        {
            "repeat": np.repeat(np.arange(repeats, dtype=np.int16), width),
            "fold": np.tile(np.arange(width, dtype=np.int16), repeats),
        }
    )
    own = {"score": scored.fold_values.reshape(-1, readouts)}
    write_matrix(into / "fold-values.parquet", folds, own, {"readouts": list(scored.readouts)})


def load_record(store: Store, run: str) -> dict[str, Any]:
    """Read the record of a finished run; an abbreviated identifier will do if only one run begins so."""
    known_runs = {folder.rpartition("run=")[2]: folder for folder in store.list("runs")}
    matches = [name for name in known_runs if name.startswith(run)]
    if len(matches) != 1:
        what = "no run" if not matches else f"{len(matches)} runs"
        raise StoreError(
            f"{store.root}: {what} whose identifier begins with {run!r}; `bench store ls runs` lists them"
        )
    record: dict[str, Any] = json.loads(store.read_bytes(known_runs[matches[0]], "record.json"))
    return record


def coverage(tested: Sequence[FoldResult]) -> float:
    """Return the share of what was to be predicted, units and readouts alike, that was.

    A readout that the floor cannot predict either (nothing was observed in training) is not asked for. A task
    without a head has one column of floor, and its units count.
    """
    asked = found = 0
    for own in tested:
        wanted = own.floor == own.floor  # not NaN
        given = own.prediction == own.prediction
        if given.shape != wanted.shape:
            given, wanted = given.any(axis=1), wanted.any(axis=1)
        asked += int(wanted.sum())
        found += int((given & wanted).sum())
    return found / asked if asked else 0.0


def commit_run(
    store: Store,
    run: str,
    scored: Scored,
    record: Mapping[str, Any],
    document: Mapping[str, Any],
    spent: Mapping[str, Any],
) -> None:
    """Commit scores and summands, then the record that makes the run appear.

    Parameters
    ----------
    document
        What the run's key is of.
    spent
        Its provenance.
    """
    from bench.store.tables import write_table

    def write_record(into: Path) -> None:
        text = json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True)
        (into / "record.json").write_text(text, encoding="utf-8")

    def write_scores(into: Path) -> None:
        write_table(into / "scores.parquet", scored.scores, {})

    store.commit(f"scores/run={run}", write_scores, {"key": run})
    store.commit(f"summands/run={run}", lambda into: save_scored(into, scored), {"key": run})
    store.commit(f"runs/run={run}", write_record, {"key_document": document, "provenance": spent})


def _record(store: Store, spec: RunSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Score the run and commit it."""
    if store.has(f"runs/run={spec.run}"):
        return load_record(store, spec.run)
    problem = problems.load(store, spec.problem)
    scored = rescore(store, problem, spec.task, spec.run, spec.folds, spec.permute_seed, spec.plugins)
    costs = [store.manifest(fold_folder(spec.run, *f))["provenance"] for f in spec.folds]
    tested = [load_fold(store, spec.run, *f) for f in spec.folds]
    record = {k: v for k, v in facts.items() if k not in ("cost", "key_document", "asked")} | {
        "schema_version": 1,
        "run": spec.run,
        "problem": spec.problem,
        "task": spec.task,
        "head": spec.head,
        "permute_seed": spec.permute_seed,
        "folds": [list(f) for f in spec.folds],
        "coverage": coverage(tested),
        "protocol": {
            "name": spec.protocol.name,
            "hash": spec.protocol.hash,
            "settings": spec.protocol.settings,
        },
    }
    spent = provenance(
        seconds=sum(c["seconds"] for c in costs),
        peak_memory_mb=max((c["peak_memory_mb"] for c in costs), default=0.0),
        features=facts["cost"],
        asked=facts["asked"],
    )
    commit_run(store, spec.run, scored, record, facts["key_document"], spent)
    return record
