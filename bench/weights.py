"""Weights of trainable featurizers: fitted once per key, with checkpoints that survive a kill."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bench.entrants import Spec, weights_document
from bench.errors import DatasetError
from bench.provenance import peak_memory_mb, provenance
from bench.store.gc import WORK

if TYPE_CHECKING:
    import pandas as pd

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.imaging.plates import PlateStatistics
    from bench.settings import Settings
    from bench.store import Store
    from featurizers.base import Featurizer, Progress


@dataclass(frozen=True, slots=True)
class Training:
    """How a featurizer is fitted.

    ``wells`` are the wells it may see and ``table`` what else it may learn from; ``fold`` names the outer
    fold of an inductive featurizer and the digest of its table (None for one fitted on all wells).
    ``processes`` train together where the featurizer allows it; ``logs`` is the folder that metrics go to,
    None for the store's own. Neither is in the key.
    """

    wells: pd.DataFrame
    table: pd.DataFrame
    fold: Mapping[str, Any] | None
    seed: int
    threads: int
    device: str
    processes: int = 1
    logs: Path | None = None


def training(
    dataset: Dataset,
    settings: Settings,
    table: pd.DataFrame | None = None,
    fold: Mapping[str, Any] | None = None,
) -> Training:
    """Return how a featurizer is fitted: on every well, or on the wells of ``table`` for one outer fold."""
    by = ["Metadata_Plate", "Metadata_Well"]
    seen = dataset.wells[by] if table is None else table
    wells = dataset.wells.merge(seen[by].drop_duplicates())
    logs = Path(settings.logs) if settings.logs else None
    how = (settings.seed, settings.threads, settings.device, settings.training_processes, logs)
    return Training(wells, seen, fold, *how)


def document(
    dataset: Dataset,
    spec: Spec,
    featurizer: Featurizer,
    training: Training,
    content_hash: Callable[[Path], str],
) -> dict[str, Any]:
    """Return what determines the weights; its digest is their key."""
    from bench.featurize import plate_content
    from bench.store import digest

    by = ["Metadata_Plate", "Metadata_Well"]
    wells = training.wells[by].sort_values(by)
    needs = featurizer.card.needs
    plates = sorted(set(wells["Metadata_Plate"]))
    contents = [digest(plate_content(dataset, plate, needs, content_hash)) for plate in plates]
    images = digest({"wells": wells.to_dict("list"), "plates": contents})
    fold = dict(training.fold) if training.fold is not None else None
    return weights_document(spec, featurizer, dataset, images, training.seed, fold)


def folder(weights_key: str) -> str:
    """Return where weights of this key stand in the store."""
    return f"weights/key={weights_key}"


def ensure(
    store: Store, dataset: Dataset, spec: Spec, featurizer: Featurizer, training: Training, tick: Ticker
) -> str:
    """Fit and commit the weights if they are not stored yet; return their key.

    The work folder outlives a kill, so the same call goes on from the last checkpoint. A second process that
    fits the same weights at the same time works in a folder of its own, and the first to commit wins.
    Metrics of the training stay in :func:`logs_folder`.
    """
    from bench.featurize import content_hashes
    from bench.store import digest

    with content_hashes(store) as content_hash:
        determined_by = document(dataset, spec, featurizer, training, content_hash)
    weights_key = digest(determined_by)
    if store.has(folder(weights_key)):
        return weights_key

    def report(progress: Progress) -> None:
        tick(f"{spec.name}: {progress.stage}", progress.done, progress.total, progress.figures)

    started = time.perf_counter()
    place = store.root / WORK / weights_key
    with workdir(place) as work:
        if store.has(folder(weights_key)):
            return weights_key
        logs = None
        if work.parent == place:  # a passing folder's training is another's, whose metrics are kept
            logs = logs_folder(store, spec, weights_key, training)
            _describe(logs, dataset, spec, featurizer, training, weights_key)
        save = _fit(store, dataset, spec, featurizer, training, work, logs, report)
        spent = provenance(
            seconds=time.perf_counter() - started,
            peak_memory_mb=peak_memory_mb(),
            threads=training.threads,
            device=training.device,
        )
        store.commit(folder(weights_key), save, {"key_document": determined_by, "provenance": spent})
    return weights_key


def logs_folder(store: Store, spec: Spec, weights_key: str, training: Training) -> Path:
    """Return where metrics of a training stay: ``ENTRANT-KEY`` in the store's ``logs`` or another folder."""
    top = training.logs if training.logs is not None else store.root / "logs"
    return top / f"{spec.name}-{weights_key[:12]}"


def _describe(
    logs: Path, dataset: Dataset, spec: Spec, featurizer: Featurizer, training: Training, weights_key: str
) -> None:
    """Write beside the metrics whose they are."""
    import json

    about = {
        "entrant": featurizer.label(),
        "preset": spec.preset,
        "settings": dict(spec.overrides),
        "dataset": [dataset.name, dataset.version],
        "fold": None if training.fold is None else {k: training.fold[k] for k in ("repeat", "fold")},
        "seed": training.seed,
        "weights": folder(weights_key),
    }
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _fit(
    store: Store,
    dataset: Dataset,
    spec: Spec,
    featurizer: Featurizer,
    training: Training,
    work: Path,
    logs: Path | None,
    report: Callable[[Progress], None],
) -> Callable[[Path], None]:
    """Train, here or in processes of their own; return what writes the weights into a folder."""
    of_plate = statistics(store, dataset, sorted(set(training.wells["Metadata_Plate"])))
    if training.processes > 1 and getattr(featurizer, "data_parallel", False):
        from bench import torchrun

        saved = torchrun.fit(spec, dataset, store.root, training, work, logs, report)

        def copy(into: Path) -> None:
            shutil.copytree(saved, into, dirs_exist_ok=True)

        return copy
    import torch

    from bench.imaging import field_source
    from featurizers.base import FitContext

    torch.set_num_threads(training.threads)
    fields = field_source(dataset, training.wells, featurizer.card.needs, statistics=of_plate)
    featurizer.fit(fields, training.table, FitContext(work, training.seed, training.device, report, logs))
    return featurizer.save


def statistics(store: Store, dataset: Dataset, names: Sequence[str]) -> Callable[[str], PlateStatistics]:
    """Return flat fields and moments by plate; a plate without them has no fields to train on."""
    from bench.featurize import content_hashes
    from bench.imaging import plates

    with content_hashes(store) as content_hash:
        folders, lost = plates.ensure(store, dataset, names, content_hash)

    def of_plate(plate: str) -> PlateStatistics:
        if plate in lost:
            raise DatasetError(lost[plate])
        return plates.read(folders[plate])

    return of_plate


@contextmanager
def workdir(stable: Path) -> Iterator[Path]:
    """Give the stable work folder to whoever holds its lock, a passing one to anyone else.

    It is removed when the work is done and kept, for its checkpoints, when the work fails or is killed.
    """
    while True:
        stable.mkdir(parents=True, exist_ok=True)
        with (stable / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with tempfile.TemporaryDirectory(dir=stable.parent) as passing:
                    yield Path(passing)
                return
            if not _still(stable / "lock", lock):
                continue  # whoever held the lock has removed the folder since it was opened
            own = stable / "work"
            own.mkdir(exist_ok=True)
            yield own
            shutil.rmtree(stable)
            return


def _still(path: Path, file: IO[str]) -> bool:
    """Return whether ``path`` is the file that is open as ``file``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
