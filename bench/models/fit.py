"""``bench fit``: from a finished run to a model folder.

The run is the evidence (what it can predict, and how well), the model is fitted anew on all its paired data.
A transductive entrant's weights are those of the run, which saw the images and no label; an inductive
entrant, which the run fitted once per outer fold, is fitted once more on all paired data, and needs the
dataset for that.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import featurize, learning, runs, weights
from bench import problem as problems
from bench.align import to_wells
from bench.entrants import DEFAULT_AGGREGATION, Spec, frame_digest, known
from bench.errors import BenchError, UsageError
from bench.execute import Executor
from bench.models import evidence
from bench.models.folder import Saved, write
from bench.predictors import OWN_HEAD
from bench.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.problem import Problem
    from bench.store import Store
    from tasks.protocol import Protocol


WITHOUT_MODEL = {"floor": "a floor", "permuted": "a run on permuted labels", "ceiling": "a ceiling"}
"""Roles of runs that there is no use for on new plates."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted: the saved facts, the normalisation, the evidence per readout, and units by stratum."""

    saved: Saved
    normalisation: str
    readouts: pd.DataFrame
    units: dict[str, int]


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Features of the problem's wells (N, D), their names, and the weights they come from (None: there are
    none).
    """

    X: NDArray[np.float32]
    columns: tuple[str, ...]
    weights: str | None
    channels: list[str]
    fold: dict[str, Any] | None = None


def fit(
    store: Store,
    identifier: str,
    into: Path,
    tick: Ticker,
    dataset: Dataset | None = None,
    settings: Settings | None = None,
) -> Fitted:
    """Fit the final model of a run and write it to the folder ``into``, which must not exist yet.

    Parameters
    ----------
    dataset
        Only an inductive entrant needs it.
    settings
        Seed, threads, device, processes and plugins of that fit.

    Raises
    ------
    BenchError
        When the run has no model (the floor, permuted labels, a task without a head, measured inputs), or its
        parts are gone.
    """
    from tasks import final

    settings = settings or Settings()
    if into.exists():
        raise BenchError(f"{into} exists already; name another folder, or remove it first")
    record = runs.load_record(store, identifier)
    _refuse(record)
    problem = problems.load(store, record["problem"])
    protocol = _protocol(record["protocol"]["settings"])
    spec = entrant_spec(record, settings.plugins)
    head = known(settings.plugins).get("heads", record["head"])
    tick("final model", 0, 3)
    if record["fit_scope"] == "inductive":
        encoded = _refitted(store, problem, record, spec, dataset, settings, tick)
    else:
        encoded = _stored(store, problem, record["run"])
    tick("final model", 1, 3)
    model = final.fit(problem.data, encoded.X, encoded.columns, protocol, head)
    tick("final model", 2, 3)
    readouts = evidence.readouts(store, record["run"])
    saved = Saved(
        run=record["run"],
        label=record["label"],
        entrant=record["name"],
        fit_scope=record["fit_scope"],
        spec=None if spec is None else dataclasses.asdict(spec) | {"plugins": []},
        weights=encoded.weights,
        fold=encoded.fold,
        task=record["task"],
        metric=str(readouts.attrs["metric"]),
        layer=record["layer"],
        dataset=record["dataset"],
        protocol=record["protocol"],
        head=record["head"],
        channels=encoded.channels,
    )
    weights_folder = store.path(encoded.weights) if encoded.weights else None
    write(into, saved, model, readouts, weights_folder)
    tick("final model", 3, 3)
    return Fitted(
        saved, model.normalisation, readouts, {name: len(own.units) for name, own in model.strata.items()}
    )


def _refuse(record: dict[str, Any]) -> None:
    """Raise where a run has nothing that predicts from images."""
    run = f"run {record['run']} ({record['label']})"
    if record["role"] in WITHOUT_MODEL:
        raise UsageError(
            f"{run} is {WITHOUT_MODEL[record['role']]}: there is nothing to predict with; name an "
            "entrant's run"
        )
    if record.get("inputs", "image") != "image":
        raise UsageError(
            f"{run} predicts from {record['inputs']}; a model for new plates predicts from images only"
        )
    if record["head"] == OWN_HEAD:
        raise UsageError(
            f"{run} is of a predictor, whose fits are not kept; a model for new plates is a featurizer with "
            "a head"
        )
    if record["head"] in ("", "none", "mean"):
        raise UsageError(f"{run} has no head that learns; a model needs one, such as ridge")


def _protocol(plain: dict[str, Any]) -> Protocol:
    from tasks.protocol import Protocol

    return Protocol(plain["name"]).with_settings(**plain)


def entrant_spec(record: dict[str, Any], plugins: tuple[str, ...]) -> Spec | None:
    """Build the entrant's spec from its record: the preset, and what its settings change of it; None for
    profiles.
    """
    from bench.configure import configure

    config = record["card"].get("config")
    if config is None:
        return None
    cls = known(plugins).get("featurizers", record["name"])
    preset = dataclasses.asdict(configure(cls, record["preset"], {}))
    changed = {k: v for k, v in config.items() if _plain(preset.get(k)) != v}
    how = record["card"].get("aggregation", DEFAULT_AGGREGATION)
    return Spec(record["name"], record["preset"], tuple(sorted(changed.items())), plugins, how)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _stored(store: Store, problem: Problem, run: str) -> _Encoded:
    """Return the features that the run used, and the weights behind them."""
    from bench.store import read_folders

    listed = store.manifest(f"runs/run={run}")["key_document"]["features"]["parts"]
    folders = [folder for _, own in listed for folder in own]
    features = read_folders(store, folders)
    document = store.manifest(folders[0]).get("key_document") or {}
    X, columns = to_wells(features.wells, features.X, problem.data.wells), tuple(features.columns)
    return _Encoded(X, columns, document.get("weights"), list(document.get("channels") or []))


def _refitted(
    store: Store,
    problem: Problem,
    record: dict[str, Any],
    spec: Spec | None,
    dataset: Dataset | None,
    settings: Settings,
    tick: Ticker,
) -> _Encoded:
    """Fit an inductive entrant on all paired data and embed the problem's wells."""
    from bench.store import digest, read_parts

    assert spec is not None
    if dataset is None:
        raise UsageError(
            f"{record['label']} learns from labels: it was fitted once per outer fold and has to be fitted "
            "on all paired data; name the run's dataset with --dataset"
        )
    if {"name": dataset.name, "version": dataset.version} != record["dataset"]:
        raise UsageError(
            f"the run is on dataset {record['dataset']['name']} {record['dataset']['version']}, not on "
            f"{dataset.name} {dataset.version}"
        )
    featurizer = spec.build()
    readouts = learning.paired(featurizer.card, dataset, problem, record.get("learned", ""))
    table = learning.paired_table(problem, readouts)
    fold = {"problem": problem.key, "repeat": None, "fold": "all", "table": frame_digest(table)}
    whole = weights.training(dataset, settings, table, fold)
    key = weights.ensure(store, dataset, spec, featurizer, whole, tick)
    folder = weights.folder(key)
    job = featurize.job_of(spec, dataset, folder, store.path(folder), fold, settings.device)
    with Executor(settings.processes) as executor:
        result = featurize.ensure(store, dataset, [job], executor, tick)[job.work.key]
    if not result.parts:
        raise BenchError(
            f"{record['label']}: no plate could be embedded ({digest(fold)[:8]}): {result.failures[:1]}"
        )
    features = read_parts(store, [result.parts[plate] for plate in sorted(result.parts)])
    X, columns = to_wells(features.wells, features.X, problem.data.wells), tuple(features.columns)
    return _Encoded(X, columns, folder, list(job.document["channels"] or []), fold)
