"""One ``bench run``: from settings to recorded runs; whatever it computes, the next one finds again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import featurize, heads, inputs, learning, predictors, runs, weights
from bench.embed import Failure, Work
from bench.entrants import Entrant, feature_document, frame_digest, known
from bench.errors import BenchError
from bench.execute import Executor
from bench.featurize import Job
from bench.predictors import OWN_HEAD
from bench.runs import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.inputs import Omics
    from bench.problem import Problem
    from bench.settings import Settings
    from bench.store import PartKey, Store
    from tasks.protocol import Protocol

Fold = tuple[int, int]
NO_HEAD = "none"
"""Head of a run whose task scores features as they are."""


@dataclass(slots=True)
class Report:
    """What a session did: the runs asked for in order, what failed, and wells without a row by label."""

    runs: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    empty: dict[str, list[str]] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Planned:
    """One run to be: who, with which head, on permuted labels or not. ``features`` is None for the floor."""

    entrant: Entrant
    head: str
    features: Features | None
    permute_seed: int | None = None


class Session:
    """Compute what is missing for these settings.

    Parameters
    ----------
    settings
        What was asked for.
    entrants
        Who takes part, controls included.
    omics
        The layer that is put in where the settings ask for it.
    tick
        Told of progress.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        store: Store,
        protocol: Protocol,
        entrants: Sequence[Entrant],
        tick: Ticker,
        omics: Omics | None = None,
    ) -> None:
        self.settings = settings
        self.dataset = dataset
        self.store = store
        self.protocol = protocol
        self.entrants = list(entrants)
        self.tick = tick
        self.omics = omics
        self.report = Report()

    def run(self, posed: Sequence[tuple[str, Problem]]) -> Report:
        """Run every entrant with every head on every problem (task name, problem); return what was done."""
        if self.omics is not None:
            inputs.ensure(self.store, self.omics)
        with Executor(self.settings.processes) as executor:
            features = self._features(executor, posed)
            todo: list[tuple[RunSpec, Mapping[str, Any]]] = []
            for task, problem in posed:
                todo += self.specs(task, problem, features, functools.partial(self._audit, task))
            fits = predictors.Fits(self.store, self.dataset, self.settings, self.tick)
            finished = runs.execute(self.store, todo, executor, self.tick, fits.run_fold)
        for spec, facts in todo:
            done = finished[spec.run]
            self.report.runs += [spec.run] if done.record is not None else []
            wrong = [*done.failures, *done.lost]
            self.report.failures += [Failure(f"{facts['label']}, {what}", why) for what, why in wrong]
        return self.report

    def _features(
        self, executor: Executor, posed: Sequence[tuple[str, Problem]]
    ) -> dict[tuple[str, str], Features]:
        """Return features by entrant label and problem key; an entrant that failed is absent and reported."""
        found: dict[tuple[str, str], Features] = {}
        shared: list[tuple[Entrant, Job, str | None]] = []
        for entrant in self.entrants:
            if entrant.spec is None:
                self._attempt(entrant, functools.partial(self._profiles, entrant, posed, found))
            elif entrant.is_predictor:
                for _, problem in posed:
                    self._attempt(entrant, functools.partial(self._fits, entrant, problem, found))
            elif entrant.fit_scope == "inductive":
                for task, problem in posed:
                    self._attempt(
                        entrant, functools.partial(self._inductive, entrant, task, problem, executor, found)
                    )
            else:
                self._attempt(entrant, functools.partial(self._share, entrant, shared))
        results = featurize.ensure(self.store, self.dataset, [j for _, j, _ in shared], executor, self.tick)
        for entrant, job, trained in shared:
            result = results[job.work.key]
            self._report(entrant, result)
            if not result.parts:
                continue
            own = Features(job.work.key, {None: _ordered(result.parts)}, [trained] if trained else [])
            found |= {(entrant.label, problem.key): own for _, problem in posed}
        return found

    def _share(self, entrant: Entrant, shared: list[tuple[Entrant, Job, str | None]]) -> None:
        shared.append((entrant, *self._job(entrant, None)))

    def _profiles(
        self,
        entrant: Entrant,
        posed: Sequence[tuple[str, Problem]],
        found: dict[tuple[str, str], Features],
    ) -> None:
        """Bring a table of ready-made profiles into the store, if it is not there."""
        from bench.datasets.importing import store_profiles

        table = next(t for t in self.dataset.features if t.name == entrant.name)
        parts = store_profiles(self.store, self.dataset, table).parts
        own = Features(next(iter(parts.values())).key, {None: _ordered(parts)})
        found |= {(entrant.label, problem.key): own for _, problem in posed}

    def _fits(self, entrant: Entrant, problem: Problem, found: dict[tuple[str, str], Features]) -> None:
        """Say what determines a predictor's fits; they are made when its runs are."""
        with featurize.content_hashes(self.store) as content_hash:
            found[entrant.label, problem.key] = self.fits_of(entrant, problem, content_hash)

    def fits_of(self, entrant: Entrant, problem: Problem, content_hash: Callable[[Path], str]) -> Features:
        """Return what stands for a predictor's features."""
        from bench.store import digest

        assert entrant.spec is not None
        made = predictors.document(self.dataset, entrant.spec, problem, self.settings.seed, content_hash)
        return Features(digest(made), fits=made)

    def _attempt(self, entrant: Entrant, work: Callable[[], None]) -> None:
        """Do ``work``; an entrant that raises is out, with its reason, and the others go on."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything; it is recorded
            failure = Failure.of(entrant.label, error)
            if failure not in self.report.failures:  # a task may pose several problems, all refused alike
                self.report.failures.append(failure)

    def _report(self, entrant: Entrant, result: featurize.Result) -> None:
        self.report.failures += [
            Failure(f"{entrant.label}, {f.what}", f.reason, f.passing) for f in result.failures
        ]
        if result.empty:
            self.report.empty[entrant.label] = sorted(result.empty)

    def _job(self, entrant: Entrant, fitting: weights.Training | None) -> tuple[Job, str | None]:
        """Fit the entrant if it is trainable; return the job that embeds with it, and its weights' folder."""
        assert entrant.spec is not None
        featurizer = entrant.spec.build()
        trained: str | None = None
        fold: Mapping[str, Any] | None = None
        if featurizer.trainable:
            whole = fitting or training(self.dataset, self.settings)
            key = weights.ensure(self.store, self.dataset, entrant.spec, featurizer, whole, self.tick)
            trained, fold = weights.folder(key), whole.fold
        document = feature_document(entrant.spec, featurizer, self.dataset, trained, fold)
        from bench.store import digest

        path = str(self.store.path(trained)) if trained else None
        work = Work(digest(document), entrant.spec, path, self.settings.device)
        return Job(entrant.name, work, document, tuple(featurizer.card.needs)), trained

    def _inductive(
        self,
        entrant: Entrant,
        task: str,
        problem: Problem,
        executor: Executor,
        found: dict[tuple[str, str], Features],
    ) -> None:
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
        own = self._refits(entrant, problem, executor, readouts)
        if readouts is not None and readouts.scored and self._permutes("heads") and _labels_differ(problem):
            other = readouts.permuted(problem.data, self.settings.seed)
            own.permuted = self._refits(entrant, problem, executor, other, self.settings.seed)
        found[entrant.label, problem.key] = own

    def _refits(
        self,
        entrant: Entrant,
        problem: Problem,
        executor: Executor,
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
            job, trained = self._job(entrant, training(self.dataset, self.settings, table, name))
            result = featurize.ensure(self.store, self.dataset, [job], executor, self.tick)[job.work.key]
            self._report(entrant, result)
            own.parts[repeat, fold] = _ordered(result.parts)
            own.weights += [trained] if trained else []
            keys.append(job.work.key)
        own.key = digest(keys)
        return own

    def specs(
        self,
        task: str,
        problem: Problem,
        features: Mapping[tuple[str, str], Features],
        audit: Callable[[Problem, Entrant, Features], list[dict[str, Any]]],
    ) -> list[tuple[RunSpec, Mapping[str, Any]]]:
        """Return the specs of :meth:`planned`.

        ``features`` holds the entrants that have any, by label and problem key; ``audit`` gives the findings
        that stand in an entrant's record.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        todo = []
        for plan in self.planned(task, problem, features):
            label, own = plan.entrant.label, plan.features
            if own is not None and label not in found:
                found[label] = audit(problem, plan.entrant, own)
            todo.append(self._spec(task, problem, plan, found.get(label, [])))
        return todo

    def planned(
        self, task: str, problem: Problem, features: Mapping[tuple[str, str], Features]
    ) -> list[Planned]:
        """Return the runs of one problem: floor, then every entrant with every head, then permuted labels.

        Controls and ceilings read images only, whatever the inputs. Labels that are the same for every
        perturbation are not permuted, and a predictor is refitted on permuted labels only when asked to.
        """
        about = self._task(task)
        names = heads.of_task(self.settings, about) if about.needs_head else (NO_HEAD,)
        floor = Entrant("mean", about.floor_label, "floor", "pretrained", "default")
        todo = [Planned(floor, about.floor if about.needs_head else NO_HEAD, None)]
        asked = inputs.asked(self.settings, about)
        taking_part = []
        for entrant in self.entrants:
            own = features.get((entrant.label, problem.key))
            if own is None:
                continue
            if entrant.role != "entrant" or inputs.IMAGE in asked:
                taking_part.append((entrant, own))
            beside = entrant.role == "entrant" and not entrant.is_predictor
            if self.omics is not None and beside and inputs.BOTH in asked:
                both = replace(own, omics=self.omics.folder)
                taking_part.append((inputs.beside(entrant, self.omics.layer), both))
        if self.omics is not None and inputs.OMICS in asked:
            taking_part.append((inputs.alone(self.omics.layer), Features("", omics=self.omics.folder)))
        permutable = _labels_differ(problem)
        for entrant, own in taking_part:
            by = "predictors" if entrant.is_predictor else "heads"
            for head in (OWN_HEAD,) if entrant.is_predictor else names:
                todo.append(Planned(entrant, head, own))
                if entrant.role == "entrant" and permutable and self._permutes(by):
                    seed = self.settings.seed
                    todo.append(Planned(entrant, head, own.under(seed), seed))
        return todo

    def _permutes(self, who: str) -> bool:
        return self.settings.permuted in (who, "all")

    def _task(self, name: str) -> Any:
        return known(self.settings.plugins).get("tasks", name)

    def _rules(self, task: str) -> Protocol:
        rules: Protocol = self._task(task)().rules(self.protocol)
        return rules

    def _audit(self, task: str, problem: Problem, entrant: Entrant, own: Features) -> list[dict[str, Any]]:
        """Audit before any fit; a refusal stops the session, because every other number would share it.

        The features of controls are not looked into: that plate positions give the position away is no news.
        """
        from tasks.audit import audit

        look = functools.partial(
            audit,
            problem.data,
            self._rules(task),
            problem.folds,
            fit_scope=entrant.fit_scope,
            supplier="per-fold" if own.fits or (own.parts and None not in own.parts) else "one-matrix",
            images=self._images(problem),
        )
        shared = look()
        findings = [dataclasses.asdict(f) | {"about": ""} for f in shared]
        # blocks beside each other are looked at apart, and a predictor has no features
        if entrant.role == "entrant" and entrant.inputs != inputs.BOTH and own.fits is None:
            if own.parts:
                X = runs.aligned(str(self.store.root), next(iter(own.parts.values())), problem.data)
            else:
                X = inputs.aligned(self.store, own.omics, problem.data.wells)
            findings += [
                dataclasses.asdict(f) | {"about": entrant.label} for f in look(X=X) if f not in shared
            ]
        return findings

    @functools.cache  # noqa: B019  # a session lives as long as its command
    def _images(self, problem: Problem) -> pd.DataFrame | None:
        """Return which image contents belong to which well of the problem; None without images."""
        import pandas as pd

        if self.dataset.images is None:
            return None
        wells = problem.data.wells
        place = {
            key: i for i, key in enumerate(zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True))
        }
        seen = []
        with featurize.content_hashes(self.store) as content_hash:
            for plate in featurize.plates(self.dataset):
                content = featurize.plate_content(self.dataset, plate, ("pixels",), content_hash)
                seen += [
                    (place[plate, image["well"]], image["sha256"] + image.get("region", ""))
                    for image in content["images"]
                    if (plate, image["well"]) in place and image["sha256"] != featurize.UNREADABLE
                ]
        return pd.DataFrame(seen, columns=["well", "digest"])

    def _spec(
        self, task: str, problem: Problem, plan: Planned, warnings: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[RunSpec, Mapping[str, Any]]:
        from bench.store import digest

        entrant, head, own, permute_seed = plan.entrant, plan.head, plan.features, plan.permute_seed
        protocol = self._rules(task)
        learns = head not in (NO_HEAD, OWN_HEAD)
        dear = learns and known(self.settings.plugins).get("heads", head).first_repeat_only
        folds = outer_folds(problem, first_repeat_only=dear or predictors.folds_once(entrant))
        document: dict[str, Any] = {
            "kind": "run",
            "schema": 1,
            "role": entrant.role,
            "problem": problem.key,
            **self._code(task, head),
            "protocol": protocol.hash,
            "features": None
            if own is None or own.fits is not None
            else {
                "name": entrant.name,
                "key": own.key,
                "parts": [[str(fold), [p.folder for p in parts]] for fold, parts in own.parts.items()],
            },
            "permute_seed": permute_seed,
            "folds": [list(f) for f in folds],
        }
        if own is not None and own.omics:
            document["omics"] = own.omics
        if own is not None and own.fits is not None:
            document["predictor"] = {**own.fits, "cut": predictors.VERSION}
        spec = RunSpec(
            run=digest(document)[:16],
            store=str(self.store.root),
            problem=problem.key,
            task=task,
            head=head,
            protocol=protocol,
            features=tuple(own.parts.items()) if own is not None else (),
            folds=tuple(folds),
            permute_seed=permute_seed,
            plugins=self.settings.plugins,
            omics=own.omics if own is not None else "",
            predictor=entrant.spec if entrant.is_predictor else None,
            device=self.settings.device,
        )
        facts = {
            "key_document": document,
            "name": entrant.name,
            "label": entrant.label if permute_seed is None else f"{entrant.label}, permuted labels",
            "role": entrant.role if permute_seed is None else "permuted",
            "permutes": entrant.label if permute_seed is not None else None,
            "fit_scope": entrant.fit_scope,
            "preset": entrant.preset,
            "card": entrant.card,
            "inputs": entrant.inputs,
            "metric": self._task(task)().called(problem.data),
            "notes": list(problem.data.notes),
            "dataset": {"name": self.dataset.name, "version": self.dataset.version},
            "layer": problem.data.layer,
            "folds_hash": problem.folds_hash,
            "audit": list(warnings),
            "cost": self._cost(own),
            "asked": self._asked(),
        }
        if own is not None and own.learned:
            facts["learned"] = own.learned
        return spec, facts

    @functools.cache  # noqa: B019  # a session lives as long as its command
    def _asked(self) -> dict[str, Any]:
        """Return what makes this session again: settings, protocol, and which dataset from where.

        It is provenance: other settings can lead to the same run, and paths are of this machine.
        """
        from bench.datasets.tables import is_remote

        given = self.settings.dataset or str(self.dataset.root)
        return {
            "settings": dataclasses.asdict(self.settings),
            "protocol": self.protocol.settings,
            "dataset": given if is_remote(given) else str(Path(given).resolve()),
            "tables": self.dataset.digest(),
        }

    @functools.cache  # noqa: B019  # a session lives as long as its command
    def _code(self, task: str, head: str) -> dict[str, Any]:
        """Return what code scores a run: the task's, and the head's or that of the bare features."""
        from bench.store import code_digest
        from tasks import embedding, evaluate

        about = self._task(task)
        own = {"name": head}
        if about.needs_head and head != OWN_HEAD:
            used = known(self.settings.plugins).get("heads", head)
            own |= {"version": used.version, "code": code_digest(used)}
        how = code_digest(evaluate if about.needs_head else embedding)
        return {
            "task": {"name": task, "code": code_digest(about)},
            "head": own,
            "evaluation": {"code": how, "alignment": runs.ALIGNMENT},
        }

    def _cost(self, own: Features | None) -> dict[str, float]:
        """Return what the features cost when they were computed: seconds over all processes, and memory."""
        folders = (
            [] if own is None else [p.folder for parts in own.parts.values() for p in parts] + own.weights
        )
        spent = [self.store.manifest(folder)["provenance"] for folder in folders]
        return {
            "seconds": sum(s.get("seconds", 0.0) for s in spent),
            "peak_memory_mb": max((s.get("peak_memory_mb", 0.0) for s in spent), default=0.0),
        }


def training(
    dataset: Dataset, settings: Settings, table: Any = None, fold: Mapping[str, Any] | None = None
) -> weights.Training:
    """Return how a featurizer is fitted: on every well, or on the wells of ``table`` for one outer fold."""
    seen = dataset.wells[["Metadata_Plate", "Metadata_Well"]] if table is None else table
    wells = dataset.wells.merge(seen[["Metadata_Plate", "Metadata_Well"]].drop_duplicates())
    logs = Path(settings.logs) if settings.logs else None
    how = (settings.seed, settings.threads, settings.device, settings.training_processes, logs)
    return weights.Training(wells, seen, fold, *how)


def outer_folds(problem: Problem, *, first_repeat_only: bool) -> list[Fold]:
    """Return the outer folds (repeat, fold) of a problem, ascending."""
    pairs = problem.folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    return [
        (int(r), int(f))
        for r, f in zip(pairs["repeat"], pairs["fold"], strict=True)
        if f >= 0 and (r == 0 or not first_repeat_only)
    ]


def _labels_differ(problem: Problem) -> bool:
    """Whether any two tested units have other readouts, so that permuting them changes anything."""
    import numpy as np

    tested = problem.data.Y[~problem.data.control]
    return bool(
        len(tested) and not np.array_equal(tested, np.broadcast_to(tested[0], tested.shape), equal_nan=True)
    )


def _ordered(parts: Mapping[str, PartKey]) -> tuple[PartKey, ...]:
    return tuple(parts[plate] for plate in sorted(parts))
