"""``--dry-run``: what is stored, what would be computed, about how long. No pixel is read.

Times come from what this store has recorded of the same entrant; without a record, from the demo on a
2-core machine, and the line says so. What depends on images never hashed before is said to be unknown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import entries, featurize, runs, weights
from bench.embed import Work
from bench.entrants import Entrant, feature_document, known, resolve
from bench.session import DEMO, FLOOR, dataset_path, training
from bench.settings import Settings
from bench.store import Store, digest

if TYPE_CHECKING:
    from bench.datasets import Dataset

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
            + (f"  about {_duration(line.seconds)} ({line.basis})" if line.missing else "")
            + (f"  {line.note}" if line.note else "")
            for line in self.steps
        ]
        return [*shown, f"{'in all':<{width}}  about {_duration(self.seconds)}"]


def forecast(settings: Settings) -> Forecast:
    """Return what ``bench run`` with these settings would find and do."""
    from bench.datasets import load

    found = Forecast()
    path = dataset_path(settings.dataset) or DEMO
    if path == DEMO and not (DEMO / "dataset.toml").exists():
        found.steps.append(Line("demo screen", 0, 1, 15.0, REFERENCE, "then the steps of a run on it"))
        return found
    dataset = load(path)
    entrants, _ = resolve(settings, dataset)
    store = Store(Path(settings.store), create=False) if Path(settings.store).exists() else None
    ready = []
    for entrant in entrants:
        steps = _entrant(store, dataset, entrant, settings)
        found.steps += steps
        ready += [] if any(step.missing for step in steps) else [entrant]
    found.steps.append(_runs(store, dataset, entrants, ready, settings))
    return found


def _entrant(store: Store | None, dataset: Dataset, entrant: Entrant, settings: Settings) -> list[Line]:
    """Return the steps of one entrant: its fit if it is trainable, then its features."""
    plates = featurize.plates(dataset)
    if entrant.spec is None:
        return [Line(f"{entrant.label}: profiles", 0, 1, 1.0, "reading a table")]
    if entrant.fit_scope == "inductive":
        return [
            Line(f"{entrant.label}: fit", 0, 1, float("nan"), "", "once per outer fold of the first repeat")
        ]
    featurizer = entrant.spec.build()
    lines: list[Line] = []
    trained: str | None = None
    unknown, there = len(plates), 0
    if store is not None:
        with featurize.content_hashes(store, read=False) as content_hash:
            if featurizer.trainable:
                whole = training(dataset, settings)
                document = weights.document(dataset, entrant.spec, featurizer, whole, content_hash)
                trained = weights.folder(digest(document))
            document = feature_document(entrant.spec, featurizer, dataset, trained, None)
            work = Work(digest(document), entrant.spec)
            job = featurize.Job(entrant.name, work, document, tuple(featurizer.card.needs))
            parts = featurize.plan(dataset, [job], content_hash)[work.key]
            unknown = content_hash.unknown
            there = sum(store.has(part.folder) for part in parts.values())
    note = "the images' content is not known yet" if unknown else ""
    if featurizer.trainable:
        stored = trained is not None and store is not None and store.has(trained)
        seconds, basis = _recorded(store, "weights", entrant.name) or (REFERENCE_FIT, REFERENCE)
        left = 0.0 if stored else seconds
        lines.append(Line(f"{entrant.label}: fit", int(stored), int(not stored), left, basis, note))
    reads = bool({"pixels", "objects"} & set(featurizer.card.needs))
    guess = REFERENCE_PLATE if reads else REFERENCE_LAYOUT
    each, basis = _recorded(store, "features", entrant.name) or (guess, REFERENCE)
    missing = len(plates) - there
    left = missing * each / max(1, settings.processes)
    lines.append(Line(f"{entrant.label}: features", there, missing, left, basis, note))
    return lines


def _runs(
    store: Store | None, dataset: Dataset, entrants: list[Entrant], ready: list[Entrant], settings: Settings
) -> Line:
    """Return the step of all runs: each entrant with each head on each layer, permuted too, and the floor.

    A run counts as stored only if its features (of a ``ready`` entrant) are too; else it will be done again.
    """
    layers = [
        layer.name + board
        for task in (known(settings.plugins).get("tasks", name) for name in settings.tasks)
        for layer in dataset.layers
        if layer.kind in task.layer_kinds and (not settings.layers or layer.name in settings.layers)
        for board in task.boards
    ]
    count = (len(_labels(entrants)) * max(1, len(settings.heads)) + 1) * len(layers)
    countable = [*_labels(ready), FLOOR.label]
    done = 0
    if store is not None:
        for run in entries.choose(store, {"dataset": dataset.name, "protocol": settings.protocol}):
            record = runs.load_record(store, run)
            same = record["dataset"]["version"] == dataset.version and record["layer"] in layers
            done += same and record["label"] in countable
    each, basis = _recorded(store, "runs", "") or (REFERENCE_RUN, REFERENCE)
    missing = max(0, count - done)
    left = missing * each / max(1, settings.processes)
    return Line("runs", min(done, count), missing, left, basis, f"on {', '.join(layers) or 'no layer'}")


def _labels(entrants: list[Entrant]) -> list[str]:
    permuted = [f"{e.label}, permuted labels" for e in entrants if e.role == "entrant"]
    return [*(e.label for e in entrants), *permuted]


def _recorded(store: Store | None, family: str, name: str) -> tuple[float, str] | None:
    """Return the mean seconds this store has recorded for one folder of a family, and what they rest on."""
    spent = []
    for folder in store.list(family) if store is not None else []:
        assert store is not None
        manifest = store.manifest(folder)
        if not name or manifest["key_document"].get("entrant") == name:
            spent.append(float(manifest["provenance"].get("seconds", math.nan)))
    spent = [s for s in spent if math.isfinite(s)]
    return (sum(spent) / len(spent), "as recorded in this store") if spent else None


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
