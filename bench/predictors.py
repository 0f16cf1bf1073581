"""Predictors: refitted in every outer fold on its training units alone, then asked for the tested ones.

A fold's fit is given the fields and targets of training units; tested units reach the model only when it is
fitted, as fields without targets. Its predictions stand where those of a head would, so that scoring,
verification and the board know no difference.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import learning, weights
from bench.embed import Failure
from bench.entrants import known, predictor_document
from bench.errors import BenchError, DatasetError, UsageError
from bench.provenance import peak_memory_mb, provenance
from bench.store.gc import WORK

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.entrants import Entrant, Spec
    from bench.imaging.fields import Fields
    from bench.problem import Problem
    from bench.runs import RunSpec
    from bench.settings import Settings
    from bench.store import Store
    from featurizers.base import FitContext, Predictor, Progress
    from tasks.base import FoldId, FoldResult, TaskData

OWN_HEAD = "own"
"""What stands for the head of a run whose entrant predicts readouts itself."""

VERSION = 1
"""Version of how a fold is cut for a predictor; raised when it gives other fields or targets."""


def check(settings: Settings) -> None:
    """Refuse tasks and inputs that a predictor among the entrants cannot serve, before anything is read."""
    registry = known(settings.plugins)
    featurizers = {listing.name for listing in registry.listings("featurizers")}
    every = {listing.name for listing in registry.listings("predictors")} - featurizers
    named = [word.partition(":")[0] for word in settings.featurizers]
    for name in [name for name in named if name in every]:
        for task in settings.tasks:
            if not registry.get("tasks", task).takes_predictors:
                able = [
                    listing.name
                    for listing in registry.listings("tasks")
                    if listing.error is None and registry.get("tasks", listing.name).takes_predictors
                ]
                raise UsageError(
                    f"{name} is a predictor: it gives values of readouts, which task {task!r} cannot score; "
                    f"run it with --task {' or '.join(able)}"
                )
        if "image" not in settings.inputs:
            raise UsageError(f"{name} is a predictor and reads images; add --inputs image")


def document(
    dataset: Dataset, spec: Spec, problem: Problem, seed: int, content_hash: Callable[[Path], str]
) -> dict[str, Any]:
    """Return what determines the fits of a predictor, besides the problem and the fold.

    The problem's key covers the readouts and tables that a fold trains on; here are entrant, settings, code
    and the contents of the images.
    """
    from bench.featurize import plate_content
    from bench.store import digest

    predictor = spec.build_predictor()
    predictor.check(dataset.channels)
    plates = sorted(set(problem.data.wells["Metadata_Plate"]))
    contents = [digest(plate_content(dataset, p, predictor.card.needs, content_hash)) for p in plates]
    return predictor_document(spec, predictor, dataset, digest(contents), seed)


def folds_once(entrant: Entrant) -> bool:
    """Return whether an entrant is refitted in the first repeat only."""
    if entrant.is_predictor:
        return entrant.card.get("repeats") == "first"
    return entrant.fit_scope == "inductive"


class Fits:
    """The outer folds of predictors on one dataset, fitted one after the other in this process.

    Parameters
    ----------
    settings
        Seed, threads and device of the fits.
    tick
        Told of progress.
    """

    def __init__(self, store: Store, dataset: Dataset, settings: Settings, tick: Ticker) -> None:
        self.store, self.dataset, self.settings, self.tick = store, dataset, settings, tick
        self._images: dict[tuple[str, ...], Images] = {}

    def run_fold(self, spec: RunSpec, repeat: int, fold: int) -> None:
        """Fit and predict one outer fold and commit its predictions.

        The work folder outlives a kill, so the same call goes on from the last checkpoint.
        """
        from bench import runs
        from bench.store import digest
        from tasks.base import FoldId

        started = time.perf_counter()
        own = spec.predictor
        assert own is not None
        folder = runs.fold_folder(spec.run, repeat, fold)
        place = self.store.root / WORK / digest([spec.run, repeat, fold])
        with weights.workdir(place) as workdir:
            if self.store.has(folder):
                return
            result, failures = self._fit(spec, own, FoldId(repeat, fold), workdir)
            spent = provenance(
                seconds=time.perf_counter() - started,
                peak_memory_mb=peak_memory_mb(),
                threads=self.settings.threads,
                device=self.settings.device,
            )
            manifest = {
                "key": spec.run,
                "entrant": own.name,
                "chosen": {},
                "failures": [{"what": f.what, "reason": f.reason} for f in failures],
                "provenance": spent,
            }
            self.store.commit(folder, lambda into: runs.save_fold(into, result), manifest)

    def _fit(
        self, spec: RunSpec, own: Spec, identifier: FoldId, workdir: Path
    ) -> tuple[FoldResult, list[Failure]]:
        import torch

        from bench import problem as problems
        from featurizers.base import FitContext
        from tasks.evaluate import permuted

        torch.set_num_threads(self.settings.threads)
        problem = problems.load(self.store, spec.problem)
        data = problem.data
        if spec.permute_seed is not None:
            data = permuted(data, spec.permute_seed)
        images = self._of(own.build_predictor().card.needs)

        def report(progress: Progress) -> None:
            what = f"{own.name}, fold {identifier.repeat}/{identifier.fold}: {progress.stage}"
            self.tick(what, progress.done, progress.total, progress.figures)

        top = Path(self.settings.logs) if self.settings.logs else self.store.root / "logs"
        logs = top / f"{own.name}-{spec.run}-{identifier.repeat}-{identifier.fold}"
        context = FitContext(workdir, self.settings.seed, self.settings.device, report, logs)
        result = fit_fold(own, images, data, problem.folds, identifier, context)
        return result, images.failures(data)

    def _of(self, needs: Sequence[Any]) -> Images:
        """Return the dataset's fields for these needs; which of them can be read is found out once."""
        key = tuple(needs)
        if key not in self._images:
            self._images[key] = Images(self.store, self.dataset, key, self.tick)
        return self._images[key]


class Images:
    """The fields of a dataset, by well, without those that cannot be read.

    A fit is told beforehand how many fields there are and of which unit each is, so none may drop out while
    it reads them: a field is read once here before it is handed out.
    """

    def __init__(self, store: Store, dataset: Dataset, needs: tuple[Any, ...], tick: Ticker) -> None:
        from bench.entrants import reads_images
        from bench.imaging import field_source

        self._opens, self._tick = reads_images(needs), tick
        of_plate = None
        if self._opens:
            plates = sorted(set(dataset.wells["Metadata_Plate"]))
            of_plate = weights.statistics(store, dataset, plates)
        self._fields: Fields = field_source(dataset, None, needs, statistics=of_plate)
        self._places = [_place(metadata) for metadata in self._fields.metadata]
        self._seen: set[int] = set()
        self._lost: dict[tuple[str, str, str], str] = {}
        self._of_well: dict[tuple[str, str], list[int]] = {}
        for number, place in enumerate(self._places):
            self._of_well.setdefault(place[:2], []).append(number)

    def of(self, data: TaskData, units: NDArray[np.int64]) -> Cut:
        """Return the readable fields of the wells of ``units``, in order, and which unit each is of."""
        import numpy as np

        links = data.members[units].tocoo()
        wells = list(zip(data.wells["Metadata_Plate"], data.wells["Metadata_Well"], strict=True))
        pairs = sorted(
            (number, int(row))
            for row, column in zip(links.row, links.col, strict=True)
            for number in self._of_well.get(wells[column], ())
        )
        self._read([number for number, _ in pairs])
        pairs = [(number, row) for number, row in pairs if self._places[number] not in self._lost]
        chosen = self._fields.select([number for number, _ in pairs], _changed)
        return Cut(chosen, np.array([row for _, row in pairs], np.int64))

    def failures(self, data: TaskData) -> list[Failure]:
        """Return what of the wells of these data could not be read."""
        wells = set(zip(data.wells["Metadata_Plate"], data.wells["Metadata_Well"], strict=True))
        return [
            Failure("plate {}, well {}, site {}".format(*place), reason)
            for place, reason in sorted(self._lost.items())
            if place[:2] in wells
        ]

    def _read(self, numbers: Sequence[int]) -> None:
        """Find out which of these fields can be read, where that is not known yet."""

        def failed(metadata: dict[str, Any], reason: str) -> None:
            self._lost[_place(metadata)] = reason

        new = sorted(set(numbers) - self._seen) if self._opens else []
        for done, _ in enumerate(self._fields.select(new, failed), start=1):
            self._tick("reading images", done, len(new))
        self._seen.update(new)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Fields, and the row of its unit (len(fields),) for each."""

    fields: Fields
    unit: NDArray[np.int64]


def fit_fold(
    spec: Spec,
    images: Images,
    data: TaskData,
    folds: pd.DataFrame,
    identifier: FoldId,
    context: FitContext,
) -> FoldResult:
    """Refit a predictor on the training units of one outer fold and predict its tested units.

    One model per stratum of ``fit_by``, as for heads; the floor is that of :func:`tasks.evaluate.floor`. A
    unit without a readable field is not trained on and predicted NaN, and so is a readout that no training
    unit has.

    Raises
    ------
    BenchError
        When the predictor returns another shape, or an infinite prediction.
    """
    import dataclasses

    import numpy as np

    from tasks.base import FoldResult
    from tasks.evaluate import floor, split
    from tasks.folds import strata

    test, train = split(folds, identifier)
    stratum = strata(data.units, data.fit_by, "fit_by")
    prediction = np.full((len(test), len(data.readouts)), np.nan, np.float32)
    for number, name in enumerate(np.unique(stratum[test])):
        rows, own = train[stratum[train] == name], np.flatnonzero(stratum[test] == name)
        seen = images.of(data, rows)
        present, unit = np.unique(seen.unit, return_inverse=True)
        if not present.size:
            continue
        rows = rows[present]
        workdir = context.workdir / f"stratum-{number}"
        workdir.mkdir(exist_ok=True)
        predictor = spec.build_predictor()
        targets = data.Y[rows].copy()
        here = dataclasses.replace(context, workdir=workdir)
        predictor.fit(seen.fields, unit.astype(np.int64), targets, learning.wells_of(data, rows), here)
        asked = images.of(data, test[own])
        made = _checked(predictor, asked, len(own), len(data.readouts))
        made[:, np.isnan(data.Y[rows]).all(axis=0)] = np.nan
        prediction[own] = made
    return FoldResult(identifier, test, prediction, floor(data, train, test))


def _checked(predictor: Predictor, asked: Cut, units: int, readouts: int) -> NDArray[np.float32]:
    """Predict, and refuse what breaks the contract; a unit without a field has no prediction."""
    import numpy as np

    made = np.array(predictor.predict(asked.fields, asked.unit, units), np.float32)
    name = predictor.card.name
    if made.shape != (units, readouts):
        raise BenchError(
            f"predictor {name!r} returned predictions of shape {made.shape} for {units} units and {readouts} "
            "readouts; predict() must return one row per unit"
        )
    if np.isinf(made).any():
        raise BenchError(
            f"predictor {name!r} returned {int(np.isinf(made).sum())} infinite predictions; lower its "
            "learning rate, or return NaN for what it cannot predict"
        )
    made[~np.isin(np.arange(units), asked.unit)] = np.nan
    return made


def _place(metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        str(metadata["Metadata_Plate"]),
        str(metadata["Metadata_Well"]),
        str(metadata["Metadata_Site"]),
    )


def _changed(metadata: dict[str, Any], reason: str) -> None:
    """Stop: a field that could be read when the run began cannot be read any more."""
    plate, well, site = _place(metadata)
    raise DatasetError(f"plate {plate}, well {well}, site {site}: {reason}")
