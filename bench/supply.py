"""The features of every entrant on every problem: found in the store, or computed and committed.

Featurizers that every fold shares are run over the plates together, so that fields are loaded once. An
inductive one is fitted and run once per outer fold of the first repeat. A predictor has no features; what
determines its fits stands in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench import featurize, learning, predictors, weights
from bench.embed import Failure
from bench.entrants import Entrant, frame_digest
from bench.errors import BenchError
from bench.featurize import Job
from bench.problem import labels_differ, outer_folds

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.execute import Executor
    from bench.problem import Fold, Problem
    from bench.settings import Settings
    from bench.store import PartKey, Store

Found = TypeVar("Found")


@dataclass(slots=True)
class Features:
    """Parts of one entrant: by outer fold for an inductive one, under None for any other; and their cost.

    ``omics`` is the folder of what stands beside the parts, or in their place. ``fits`` is what determines
    the fits of a predictor, which has no parts. ``learned`` is the layer whose readouts were learnt from, and
    ``permuted`` the features that were learnt from permuted ones, where these are other features.
    """

    key: str
    parts: dict[Fold | None, tuple[PartKey, ...]] = field(default_factory=dict)
    weights: list[str] = field(default_factory=list)
    omics: str = ""
    fits: Mapping[str, Any] | None = None
    learned: str = ""
    permuted: Features | None = None

    def under(self, permute_seed: int | None) -> Features:
        """Return the features of a run, on permuted labels or not."""
        if permute_seed is None or self.permuted is None:
            return self
        return replace(self.permuted, omics=self.omics)


def of_predictor(
    entrant: Entrant,
    problem: Problem,
    dataset: Dataset,
    settings: Settings,
    content_hash: Callable[[Path], str],
) -> Features:
    """Return what stands for a predictor's features; its fits are made when its runs are."""
    from bench.store import digest

    assert entrant.spec is not None
    made = predictors.document(dataset, entrant.spec, problem, settings.seed, content_hash)
    return Features(digest(made), fits=made)


class Supply:
    """Find or compute features; ``failures``, and ``empty`` wells by label, say what is missing.

    Parameters
    ----------
    settings
        Seed, threads and device of fits, the layer learnt from, and who runs on permuted labels.
    executor
        Runs the units that embed; fits are made in this process.
    tick
        Told of progress.
    """

    def __init__(
        self, settings: Settings, dataset: Dataset, store: Store, executor: Executor, tick: Ticker
    ) -> None:
        self.settings = settings
        self.dataset = dataset
        self.store = store
        self.executor = executor
        self.tick = tick
        self.failures: list[Failure] = []
        self.empty: dict[str, list[str]] = {}

    def of(
        self, entrants: Sequence[Entrant], posed: Sequence[tuple[str, Problem]]
    ) -> dict[tuple[str, str], Features]:
        """Return features by entrant label and problem key; an entrant that failed is absent and reported."""
        found: dict[tuple[str, str], Features | None] = {}
        shared: list[tuple[Entrant, Job, str | None]] = []
        for entrant in entrants:
            if entrant.spec is None:
                own = self._attempt(entrant, self._profiles, entrant)
                found |= {(entrant.label, problem.key): own for _, problem in posed}
            elif entrant.is_predictor:
                for _, problem in posed:
                    fits = self._attempt(entrant, self._predictor, entrant, problem)
                    found[entrant.label, problem.key] = fits
            elif entrant.fit_scope == "inductive":
                for task, problem in posed:
                    own = self._attempt(entrant, self._inductive, entrant, task, problem)
                    found[entrant.label, problem.key] = own
            elif (work := self._attempt(entrant, self._job, entrant)) is not None:
                shared.append((entrant, *work))
        results = featurize.ensure(
            self.store, self.dataset, [job for _, job, _ in shared], self.executor, self.tick
        )
        for entrant, job, trained in shared:
            result = results[job.work.key]
            self._report(entrant, result)
            if result.parts:
                own = Features(job.work.key, {None: _ordered(result.parts)}, [trained] if trained else [])
                found |= {(entrant.label, problem.key): own for _, problem in posed}
        return {key: own for key, own in found.items() if own is not None}

    def _attempt(self, entrant: Entrant, work: Callable[..., Found], *arguments: Any) -> Found | None:
        """Do ``work``; an entrant that raises is out, with its reason, and the others go on."""
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything; it is recorded
            failure = Failure.of(entrant.label, error)
            if failure not in self.failures:  # a task may pose several problems, all refused alike
                self.failures.append(failure)
            return None

    def _report(self, entrant: Entrant, result: featurize.Result) -> None:
        self.failures += [Failure(f"{entrant.label}, {f.what}", f.reason, f.passing) for f in result.failures]
        if result.empty:
            self.empty[entrant.label] = sorted(result.empty)

    def _profiles(self, entrant: Entrant) -> Features:
        """Bring a table of ready-made profiles into the store, if it is not there."""
        from bench.datasets.importing import store_profiles

        table = next(t for t in self.dataset.features if t.name == entrant.name)
        parts = store_profiles(self.store, self.dataset, table).parts
        return Features(next(iter(parts.values())).key, {None: _ordered(parts)})

    def _predictor(self, entrant: Entrant, problem: Problem) -> Features:
        with featurize.content_hashes(self.store) as content_hash:
            return of_predictor(entrant, problem, self.dataset, self.settings, content_hash)

    def _job(self, entrant: Entrant, fitting: weights.Training | None = None) -> tuple[Job, str | None]:
        """Fit the entrant if it is trainable; return the job that embeds with it, and its weights' folder."""
        assert entrant.spec is not None
        featurizer = entrant.spec.build()
        trained: str | None = None
        fold: Mapping[str, Any] | None = None
        if featurizer.trainable:
            whole = fitting or weights.training(self.dataset, self.settings)
            key = weights.ensure(self.store, self.dataset, entrant.spec, featurizer, whole, self.tick)
            trained, fold = weights.folder(key), whole.fold
        path = self.store.path(trained) if trained else None
        job = featurize.job_of(entrant.spec, self.dataset, trained, path, fold, self.settings.device)
        return job, trained

    def _inductive(self, entrant: Entrant, task: str, problem: Problem) -> Features:
        """Refit in each outer fold of the first repeat on training perturbations, and embed every well."""
        from tasks import folds as draw

        assert entrant.spec is not None
        card = entrant.spec.build().card
        if not draw.split(problem.folds, *outer_folds(problem, first_repeat_only=True)[0])[1].size:
            raise BenchError(
                f"it learns from {learning.sources(card)}, and task {task!r} tests every perturbation at "
                "once, so that none is left to learn from; run it on a task with folds, such as regression"
            )
        readouts = learning.paired(card, self.dataset, problem, self.settings.omics)
        own = self._refits(entrant, problem, readouts)
        permutes = self.settings.permutes("heads") and labels_differ(problem)
        if readouts is not None and readouts.scored and permutes:
            seed = self.settings.seed
            own.permuted = self._refits(entrant, problem, readouts.permuted(problem.data, seed), seed)
        return own

    def _refits(
        self,
        entrant: Entrant,
        problem: Problem,
        readouts: learning.Paired | None,
        permute_seed: int | None = None,
    ) -> Features:
        """Fit in each outer fold of the first repeat, and embed every well with each fit."""
        from bench.store import digest

        own = Features("", learned="" if readouts is None else readouts.layer)
        keys = []
        for repeat, fold in outer_folds(problem, first_repeat_only=True):
            table = learning.training_table(problem, repeat, fold, readouts)
            name = {
                "problem": problem.key,
                "repeat": repeat,
                "fold": fold,
                "table": frame_digest(table),
            }
            if own.learned:
                name |= {"learned": own.learned, "permute_seed": permute_seed}
            job, trained = self._job(entrant, weights.training(self.dataset, self.settings, table, name))
            made = featurize.ensure(self.store, self.dataset, [job], self.executor, self.tick)
            result = made[job.work.key]
            self._report(entrant, result)
            own.parts[repeat, fold] = _ordered(result.parts)
            own.weights += [trained] if trained else []
            keys.append(job.work.key)
        own.key = digest(keys)
        return own


def _ordered(parts: Mapping[str, PartKey]) -> tuple[PartKey, ...]:
    return tuple(parts[plate] for plate in sorted(parts))
