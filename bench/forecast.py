"""``--dry-run``: what is stored, what would be computed, about how long. No pixel is read.

Times come from what this store has recorded of the same entrant; without a record, from the demo on a
2-core machine, and the line says so. What depends on images never hashed before is said to be unknown.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import featurize, inputs, plans, supply, weights
from bench.datasets.importing import addressed
from bench.entrants import Entrant, Spec, resolve
from bench.predictors import folds_once
from bench.problem import outer_folds
from bench.runs import fold_folder
from bench.settings import Settings
from bench.specs import Specs
from bench.start import DEMO, check_names, dataset_path, pose
from bench.store import Store, digest
from bench.supply import Features

if TYPE_CHECKING:
    from bench.datasets import Dataset
    from bench.store import PartKey

REFERENCE = "the demo on 2 cores"
REFERENCE_PLATE = 20.0
REFERENCE_LAYOUT = 1.0
REFERENCE_FIT = 75.0
REFERENCE_RUN = 10.0
"""Seconds per plate with and without its images, per fit of a CPU preset and per run, on the demo screen."""


@dataclass(frozen=True, slots=True)
class Line:
    """One step: how much of it is stored, how much would be computed, and about how long that takes."""

    step: str
    stored: int
    missing: int
    seconds: float
    basis: str
    note: str = ""


@dataclass(slots=True)
class Forecast:
    """All steps of a run."""

    steps: list[Line] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the forecast as plain JSON values."""
        return {"steps": [asdict(line) for line in self.steps], "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """About how long the whole run takes."""
        return math.fsum(line.seconds for line in self.steps if math.isfinite(line.seconds))

    def lines(self) -> list[str]:
        """Return the forecast in words, one line per step."""
        width = max((len(line.step) for line in self.steps), default=0)
        shown = [
            f"{line.step:<{width}}  {line.stored:>4} stored  {line.missing:>4} to do"
            + (f"  {_about(line)}" if line.missing else "")
            + (f"  {line.note}" if line.note else "")
            for line in self.steps
        ]
        unknown = any(line.missing and not math.isfinite(line.seconds) for line in self.steps)
        more = " and the unknown" if unknown else ""
        return [*shown, f"{'in all':<{width}}  about {_duration(self.seconds)}{more}"]


def forecast(settings: Settings) -> Forecast:
    """Return what ``bench run`` with these settings would find and do."""
    from bench.datasets import load

    check_names(settings)
    found = Forecast()
    path = dataset_path(settings.dataset) or DEMO
    if path == DEMO and not (DEMO / "dataset.toml").exists():
        found.steps.append(Line("demo screen", 0, 1, 15.0, REFERENCE, "then the steps of a run on it"))
        return found
    dataset = load(path)
    entrants, _ = resolve(settings, dataset)
    store = Store(Path(settings.store), create=False) if Path(settings.store).exists() else None
    known_features: dict[str, Features] = {}
    for entrant in entrants:
        lines, features = _entrant(store, dataset, entrant, settings)
        found.steps += lines
        if features is not None:
            known_features[entrant.label] = features
    found.steps += _runs(store, dataset, entrants, known_features, settings)
    return found


def _entrant(
    store: Store | None, dataset: Dataset, entrant: Entrant, settings: Settings
) -> tuple[list[Line], Features | None]:
    """Return the steps of one entrant, its fit and its features, and the features if all are stored."""
    plates = featurize.plates(dataset)
    if entrant.is_predictor:
        return [], None  # its folds are told of beside the runs, which they are part of
    if entrant.fit_scope == "inductive":
        note = "once per outer fold of the first repeat"
        return [Line(f"{entrant.label}: fit and features", 0, 1, math.nan, "", note)], None
    if store is None:
        addresses: list[PartKey] = []
        fit, unknown = None, len(plates)
    elif entrant.spec is None:
        table = next(t for t in dataset.features if t.name == entrant.name)
        addresses, fit, unknown = list(addressed(dataset, table).parts.values()), None, 0
    else:
        addresses, fit, unknown = _addresses(store, dataset, entrant.spec, settings)
    note = "the images' content is not known yet" if unknown and entrant.reads_images else ""
    lines: list[Line] = []
    if entrant.trainable:
        stored = store is not None and fit is not None and store.has(fit)
        seconds, basis = _recorded(store, "weights", entrant.name) or (REFERENCE_FIT, REFERENCE)
        left = 0.0 if stored else seconds
        lines.append(Line(f"{entrant.label}: fit", int(stored), int(not stored), left, basis, note))
    guess = REFERENCE_PLATE if entrant.reads_images else REFERENCE_LAYOUT
    each, basis = _recorded(store, "features", entrant.name) or (guess, REFERENCE)
    there = [part for part in addresses if store is not None and store.has(part.folder)]
    missing = max(len(plates), len(addresses)) - len(there)
    left = missing * each / max(1, settings.processes)
    lines.append(Line(f"{entrant.label}: features", len(there), missing, left, basis, note))
    if missing:
        return lines, None
    parts = tuple(sorted(there, key=lambda part: part.plate))
    return lines, Features(parts[0].key, {None: parts}, [fit] if fit else [])


def _addresses(
    store: Store, dataset: Dataset, spec: Spec, settings: Settings
) -> tuple[list[PartKey], str | None, int]:
    """Return the parts of a featurizer, the folder of its weights, and how many images were never hashed."""
    featurizer = spec.build()
    fit: str | None = None
    with featurize.content_hashes(store, read=False) as content_hash:
        if featurizer.trainable:
            whole = weights.training(dataset, settings)
            fit = weights.folder(digest(weights.document(dataset, spec, featurizer, whole, content_hash)))
        job = featurize.job_of(spec, dataset, fit)
        parts = featurize.plan(dataset, [job], content_hash)[job.work.key]
        return list(parts.values()), fit, content_hash.unknown


def _runs(
    store: Store | None,
    dataset: Dataset,
    entrants: list[Entrant],
    features: dict[str, Features],
    settings: Settings,
) -> list[Line]:
    """Return the fits of each predictor, and the step of all runs.

    Those are the floor, each entrant with each head on each layer, permuted labels; runs of entrants whose
    features are not stored are still to do.
    """
    from tasks.protocol import load as load_protocol

    protocol = load_protocol(settings.protocol)
    omics = inputs.omics(settings, dataset)
    posed, _ = pose(settings, dataset, None, protocol, omics, entrants)
    count = done = 0
    fits = {entrant.label: Counter[str]() for entrant in entrants if entrant.is_predictor}
    for task, problem in posed:
        everyone = {(entrant.label, problem.key): Features("") for entrant in entrants}
        whole = plans.planned(settings, entrants, omics, task, problem, everyone)
        count += len(whole)
        for plan in whole:
            if plan.entrant.is_predictor:
                once = folds_once(plan.entrant)
                fits[plan.entrant.label]["all"] += len(outer_folds(problem, first_repeat_only=once))
        if store is None:
            continue
        own = {(label, problem.key): found for label, found in features.items()}
        with featurize.content_hashes(store, read=False) as content_hash:
            for entrant in [entrant for entrant in entrants if entrant.is_predictor]:
                made = supply.of_predictor(entrant, problem, dataset, settings, content_hash)
                own[entrant.label, problem.key] = made
        specs = Specs(settings, dataset, store, protocol)
        for plan in plans.planned(settings, entrants, omics, task, problem, own):
            spec, facts = specs.of(task, problem, plan)
            done += store.has(f"runs/run={spec.run}")
            if spec.predictor is not None:
                there = sum(store.has(fold_folder(spec.run, *fold)) for fold in spec.folds)
                fits[facts["permutes"] or facts["label"]]["stored"] += there
    lines = [_fitting(store, own, fits[own.label]) for own in entrants if own.is_predictor]
    each, basis = _recorded(store, "runs", "") or (REFERENCE_RUN, REFERENCE)
    left = (count - done) * each / max(1, settings.processes)
    layers = ", ".join(dict.fromkeys(problem.data.layer for _, problem in posed))
    return [*lines, Line("runs", done, count - done, left, basis, f"on {layers}")]


def _fitting(store: Store | None, entrant: Entrant, count: Counter[str]) -> Line:
    """Return the line of a predictor's fits, one per outer fold and run."""
    each, basis = _recorded(store, "predictions", entrant.name) or (REFERENCE_FIT, REFERENCE)
    missing = count["all"] - count["stored"]
    note = f"one per outer fold of {'the first' if folds_once(entrant) else 'every'} repeat"
    return Line(f"{entrant.label}: fits", count["stored"], missing, missing * each, basis, note)


def _recorded(store: Store | None, family: str, name: str) -> tuple[float, str] | None:
    """Return the mean seconds this store has recorded for one folder of a family, and what they rest on."""
    spent = []
    for folder in store.list(family) if store is not None else []:
        assert store is not None
        manifest = store.manifest(folder)
        if not name or manifest.get("key_document", manifest).get("entrant") == name:
            spent.append(float(manifest["provenance"].get("seconds", math.nan)))
    spent = [s for s in spent if math.isfinite(s)]
    return (sum(spent) / len(spent), "as recorded in this store") if spent else None


def _about(line: Line) -> str:
    if not math.isfinite(line.seconds):
        return "for an unknown time"
    return f"about {_duration(line.seconds)} ({line.basis})"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
