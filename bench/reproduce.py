"""A stored run made again from its images in a fresh store, and compared with what was stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import inputs, runs
from bench import problem as problems
from bench.entrants import known, resolve
from bench.errors import BenchError, UsageError
from bench.plans import NO_HEAD, Planned
from bench.predictors import OWN_HEAD
from bench.session import Session
from bench.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.store import Store

RTOL = 1e-4
"""Largest difference of a prediction, relative to the largest stored prediction of its readout, where
versions, machine or device differ and the bytes need not be the same."""
EQUAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"


@dataclass(frozen=True, slots=True)
class Other:
    """What a rerun may take from elsewhere than the record; None keeps what was recorded.

    Parameters
    ----------
    dataset
        Where the dataset stands now.
    plugins
        Files whose code is executed: those that a record names are not, unless they are named again.
    device, processes
        Where and on how many processes.
    """

    dataset: str | None = None
    plugins: tuple[str, ...] = ()
    device: str | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run and its rerun.

    Parameters
    ----------
    run, label
        What was made again.
    again
        Identifier of the rerun; the same as ``run`` where nothing that can change a number differs.
    skill, skill_again
        Mean score of both, named by ``metric``.
    bitwise
        Whether every prediction and score is the same bit by bit.
    largest
        Largest difference of a prediction, relative to the largest stored one of its readout; infinite where
        predictions are missing in one of the two only, or are of other units.
    tolerance
        What ``largest`` may be: 0 where nothing differs that may change the last bits.
    environment, keys
        What differs in versions, machine and device, and in the documents behind the keys.
    """

    run: str
    label: str
    again: str
    metric: str
    skill: float
    skill_again: float
    folds: int
    bitwise: bool
    largest: float
    tolerance: float
    environment: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """``identical``, ``within tolerance`` or ``different``."""
        if self.bitwise:
            return EQUAL
        return WITHIN if self.largest <= self.tolerance else DIFFERENT

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dataclasses.asdict(self) | {"outcome": self.outcome}


def reproduce(
    store: Store, identifier: str, out: Store, tick: Ticker, other: Other | None = None, rtol: float = RTOL
) -> Reproduction:
    """Make a run again from its dataset and compare predictions and scores with the stored ones.

    Parameters
    ----------
    store
        Where the run stands.
    identifier
        Of the run, or its beginning.
    out
        An empty store that the rerun is made in.
    tick
        Told of progress.
    other
        What differs from the record on purpose.
    rtol
        Tolerance where the same bytes cannot be expected.

    Raises
    ------
    BenchError
        When the record does not say how the run was made, the dataset is not there or another one, the
        environment cannot run it, or the rerun failed.
    """
    from tasks.protocol import from_settings

    other = other or Other()
    record = runs.load_record(store, identifier)
    asked = store.manifest(f"runs/run={record['run']}")["provenance"].get("asked")
    if asked is None:
        raise BenchError(
            f"run {record['run']} was recorded by a version that did not keep settings; run it again with "
            "`bench run` and reproduce that run"
        )
    if out.list():
        raise UsageError(f"{out.root} holds {out.list()[0]}: a rerun needs an empty store, name another")
    settings = _settings(asked, record, out, other)
    dataset = recorded_dataset(settings.dataset, asked, record)
    if record["task"] not in {listing.name for listing in known(settings.plugins).listings("tasks")}:
        raise BenchError(f"no task {record['task']!r} here; give its file with --plugin")
    protocol = from_settings(asked["protocol"])
    entrants, unavailable = resolve(settings, dataset)
    if record["name"] in unavailable:
        raise BenchError(f"{record['label']} cannot run here: {unavailable[record['name']]}")
    omics = inputs.omics(settings, dataset)
    from bench.start import pose

    posed, _ = pose(settings, dataset, out, protocol, omics)
    posed = [(task, problem) for task, problem in posed if problem.data.layer == record["layer"]]

    def recorded(plan: Planned) -> bool:
        whose = record["permutes"] or record["label"]
        made = (plan.entrant.label, plan.head, plan.permute_seed)
        return made == (whose, record["head"], record["permute_seed"])

    report = Session(settings, dataset, out, protocol, entrants, tick, omics, recorded).run(posed)
    if len(report.runs) != 1:
        reasons = "; ".join(f"{f.what}: {f.reason}" for f in report.failures[:3])
        raise BenchError(f"{record['label']} could not be made again: {reasons or 'nothing made it'}")
    return compare(store, record, out, report.runs[0], settings, rtol)


def _settings(asked: Mapping[str, Any], record: Mapping[str, Any], out: Store, other: Other) -> Settings:
    """Return the recorded settings, cut down to the one run and pointed at the new store."""
    default = Settings()
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(getattr(default, name, None), tuple) else value
        for name, value in asked["settings"].items()
        if hasattr(default, name)
    }
    if given.get("plugins") and not other.plugins:
        raise UsageError(
            f"the run was made with the plugins {', '.join(given['plugins'])}; their code is executed, so "
            "name them again with --plugin"
        )
    settings = Settings(**given)
    name = record["name"]
    words = tuple(w for w in settings.featurizers if w.partition(":")[0] == name)
    own_preset = tuple(w for w in words if (w.partition(":")[2] or "default") == record["preset"])
    is_control = not words and record["role"] != "floor" and record.get("inputs") != inputs.OMICS
    return replace(
        settings,
        store=str(out.root),
        logs="",  # metrics of the rerun stay in its own store
        dataset=other.dataset or asked["dataset"],
        featurizers=own_preset or words,
        controls=name if is_control else "none",
        tasks=(record["task"],),
        heads=(record["head"],)
        if record["head"] not in (NO_HEAD, OWN_HEAD) and record["role"] != "floor"
        else settings.heads,
        overrides={k: v for k, v in settings.overrides.items() if k == name},
        plugins=other.plugins,
        device=other.device or settings.device,
        processes=settings.processes if other.processes is None else other.processes,
    )


def recorded_dataset(named: str, asked: Mapping[str, Any], record: Mapping[str, Any]) -> Dataset:
    """Load the dataset and check that it is the recorded one."""
    from bench.datasets import load
    from bench.datasets.tables import is_remote

    if not is_remote(named) and not Path(named).exists():
        raise BenchError(f"{named}: the run's dataset is not there any more; say where it is with --dataset")
    dataset = load(named)
    was = record["dataset"]
    if (dataset.name, dataset.version) != (was["name"], was["version"]):
        raise BenchError(
            f"{named} is {dataset.name} {dataset.version}; the run was made on {was['name']} {was['version']}"
        )
    if dataset.digest() != asked["tables"]:
        raise BenchError(
            f"{named}: its settings or tables are not those the run was made from, though name and version "
            "are; find the old ones, or raise its version and run anew"
        )
    return dataset


def compare(
    store: Store, record: Mapping[str, Any], out: Store, again: str, settings: Settings, rtol: float = RTOL
) -> Reproduction:
    """Compare a stored run with its rerun in another store: predictions, scores, environment and keys."""
    from bench.store.tables import read_table

    run = record["run"]
    other = runs.load_record(out, again)
    largest, bitwise = 0.0, True
    same_folds = other["folds"] == record["folds"]
    for fold in record["folds"] if same_folds else ():
        one, two = runs.load_fold(store, run, *fold), runs.load_fold(out, again, *fold)
        difference, same = _difference(one, two)
        largest, bitwise = max(largest, difference), bitwise and same
    tables = [
        read_table(s.path(f"scores/run={r}") / "scores.parquet") for s, r in ((store, run), (out, again))
    ]
    if not same_folds:
        largest, bitwise = float("inf"), False
    bitwise = bitwise and tables[0].equals(tables[1])
    environment = tuple(_environment(store, run, out, again, settings))
    keys = tuple(_keys(store, record, out, other))
    metric = known(settings.plugins).get("tasks", record["task"]).estimand

    def mean(table: pd.DataFrame) -> float:
        return float(table.loc[table["stratum"] == "all", metric].mean())

    exact = not environment and not keys and settings.device == "cpu"
    return Reproduction(
        run=run,
        label=record["label"],
        again=again,
        metric=metric,
        skill=mean(tables[0]),
        skill_again=mean(tables[1]),
        folds=len(record["folds"]),
        bitwise=bitwise,
        largest=largest,
        tolerance=0.0 if exact else rtol,
        environment=environment,
        keys=keys,
    )


def _difference(one: Any, two: Any) -> tuple[float, bool]:
    """Return the largest relative difference of one fold's predictions, and whether all bits are equal."""
    import numpy as np

    if not np.array_equal(one.rows, two.rows) or one.prediction.shape != two.prediction.shape:
        return float("inf"), False
    pairs = ((one.prediction, two.prediction), (one.floor, two.floor))
    if all(np.array_equal(x, y, equal_nan=True) for x, y in pairs):
        return 0.0, True
    largest = 0.0
    for x, y in pairs:
        if not np.array_equal(np.isnan(x), np.isnan(y)):
            return float("inf"), False
        wide, close = np.nan_to_num(x.astype(np.float64)), np.nan_to_num(y.astype(np.float64))
        scale = np.abs(wide).max(axis=0, initial=0.0)
        relative = np.abs(wide - close) / np.where(scale > 0, scale, 1.0)
        largest = max(largest, float(relative.max(initial=0.0)))
    return largest, False


def _environment(store: Store, run: str, out: Store, again: str, settings: Settings) -> Iterator[str]:
    """Name what differs between the recorded environments (of the run and its features) and this one."""
    now = out.manifest(f"runs/run={again}")["provenance"]
    seen: dict[str, set[str]] = {}
    for folder in (f"runs/run={run}", *_parts(store, run)):
        then = store.manifest(folder)["provenance"] if store.has(folder) else {}
        for name, value in _facts(then).items():
            seen.setdefault(name, set()).add(value)
    current = _facts(now)
    for name, values in sorted(seen.items()):
        for value in sorted(values - {current.get(name, "absent")}):
            yield f"{name}: {value} then, {current.get(name, 'absent')} now"
    asked = store.manifest(f"runs/run={run}")["provenance"]["asked"]["settings"]
    for name in ("device", "threads"):
        if asked[name] != getattr(settings, name):
            yield f"{name}: {asked[name]} then, {getattr(settings, name)} now"


def _facts(spent: Mapping[str, Any]) -> dict[str, str]:
    plain = {name: str(spent[name]) for name in ("python", "machine") if name in spent}
    return plain | {name: str(version) for name, version in spent.get("libraries", {}).items()}


def _parts(store: Store, run: str) -> Sequence[str]:
    """Return the folders of the features that a run was made from."""
    features = store.manifest(f"runs/run={run}")["key_document"]["features"]
    return [] if features is None else [folder for _, folders in features["parts"] for folder in folders]


def _keys(store: Store, record: Mapping[str, Any], out: Store, other: Mapping[str, Any]) -> Iterator[str]:
    """Name what differs between the documents behind the keys of run, problem and features."""
    from bench.store.why import differences

    run, again = record["run"], other["run"]
    if run == again:
        return
    pairs = [
        ("run", f"runs/run={run}", f"runs/run={again}"),
        ("problem", problems.folder(record["problem"]), problems.folder(other["problem"])),
        *(("features", a, b) for a, b in zip(_parts(store, run), _parts(out, again), strict=False)),
    ]
    told: dict[str, None] = {}
    for what, a, b in pairs:
        if not store.has(a) or a == b:
            continue
        one, two = (s.manifest(f).get("key_document", {}) for s, f in ((store, a), (out, b)))
        for found in differences(one, two):
            told[f"{what}.{found}"] = None
        if one == two:  # the document is the same, so the images of the plate are not
            told[f"{what}: other images behind {a}"] = None
    yield from told
