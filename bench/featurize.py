"""Images to stored features: one part per plate and entrant, computed in units of a few wells.

Fields are loaded once for all entrants that lack a plate. A unit always holds the same wells, whatever
the number of processes, because batches can change the last bits of a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.embed import Failure, Rows, Work, embed_wells
from bench.entrants import feature_document, reads_images
from bench.errors import BenchError
from bench.execute import Executor, Outcome, Unit
from bench.provenance import provenance

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.entrants import Spec
    from bench.store import HashCache, PartKey, Store

WELLS_PER_UNIT = 8
UNREADABLE = "unreadable"
"""Stands for the content hash of a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Job:
    """One featurizer to be run over a dataset: its share of each unit and the document behind its key."""

    name: str
    work: Work
    document: Mapping[str, Any]
    needs: tuple[str, ...]


def job_of(
    spec: Spec,
    dataset: Dataset,
    weights: str | None = None,
    path: Path | None = None,
    fold: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Job:
    """Return the work of running a featurizer over a dataset, under its key.

    Parameters
    ----------
    weights, path
        Name of its weights, which enters the key, and where they stand; None for one that has none.
    fold
        The outer fold that an inductive featurizer was fitted in.
    """
    from bench.store import digest

    featurizer = spec.build()
    document = feature_document(spec, featurizer, dataset, weights, fold)
    work = Work(digest(document), spec, None if path is None else str(path), device)
    return Job(spec.name, work, document, tuple(featurizer.card.needs))


@dataclass(slots=True)
class Result:
    """Parts of one job by plate, what could not be computed, and wells without a row (``plate/well``)."""

    parts: dict[str, PartKey] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def plate_content(
    dataset: Dataset, plate: str, needs: Iterable[str], content_hash: Callable[[Path], str]
) -> dict[str, Any]:
    """Return what of a plate is read: image hashes, wells, true state. Its digest is the part's own key."""
    from bench.datasets import image_manifest
    from bench.datasets.manifest import hash_uri
    from bench.datasets.tables import is_remote
    from bench.entrants import frame_digest
    from bench.imaging import mask_files

    wells = dataset.wells[dataset.wells["Metadata_Plate"] == plate]["Metadata_Well"]
    content: dict[str, Any] = {"plate": plate, "wells": sorted(set(wells))}
    if reads_images(needs):
        content["images"] = image_manifest(dataset, plate, content_hash)
    if "objects" in needs and (files := mask_files(dataset, plate)):
        content["masks"] = [hash_uri(f) if is_remote(f) else content_hash(Path(f)) for f in files]
    if "latent" in needs and dataset.latent is not None:
        rows = dataset.latent[dataset.latent["Metadata_Plate"] == plate]
        content["latent"] = frame_digest(rows.sort_values("Metadata_Well"))
    return content


@dataclass(slots=True)
class ContentHashes:
    """From an image file to its content hash; ``unknown`` counts files that were not to be read."""

    cache: HashCache
    read: bool
    unknown: int = 0

    def __call__(self, path: Path) -> str:
        """Return the hash; a file that cannot be read is its field's failure, not its plate's."""
        try:
            known = self.cache.digest(path) if self.read else self.cache.peek(path)
        except BenchError:
            return UNREADABLE
        if known is None:
            self.unknown += 1
            return "unknown"
        return known


@contextmanager
def content_hashes(store: Store, *, read: bool = True) -> Iterator[ContentHashes]:
    """Give content hashes that are remembered in the store between runs."""
    from bench.store import HashCache

    with HashCache(store.root / ".hashes.json") as cache:
        yield ContentHashes(cache, read)


def plan(
    dataset: Dataset, jobs: Sequence[Job], content_hash: Callable[[Path], str]
) -> dict[str, dict[str, PartKey]]:
    """Return the address of every part by job key and plate, stored or not yet."""
    from bench.store import PartKey, digest

    contents: dict[tuple[str, ...], str] = {}
    parts: dict[str, dict[str, PartKey]] = {job.work.key: {} for job in jobs}
    for plate in plates(dataset):
        for job in jobs:
            reads = (plate, *job.needs)
            if reads not in contents:
                contents[reads] = digest(plate_content(dataset, plate, job.needs, content_hash))
            address = PartKey(identity(dataset), job.name, job.work.key, plate, contents[reads])
            parts[job.work.key][plate] = address
    return parts


def ensure(
    store: Store, dataset: Dataset, jobs: Sequence[Job], executor: Executor, tick: Ticker
) -> dict[str, Result]:
    """Compute and commit every missing part of ``jobs``; return parts and failures by job key.

    A plate with a failure that may pass (a dead process, memory, a bug) is not committed: the next run tries
    again. A plate with fields that cannot be used is committed with its coverage and the reasons.
    """
    with content_hashes(store) as content_hash:
        addresses = plan(dataset, jobs, content_hash)
    results = {job.work.key: Result() for job in jobs}
    missing: dict[str, list[Job]] = {}
    for job in jobs:
        for plate, part in addresses[job.work.key].items():
            if not store.has(part.folder):
                missing.setdefault(plate, []).append(job)
                continue
            results[job.work.key].parts[plate] = part
            stored = store.manifest(part.folder)
            results[job.work.key].failures += [Failure(**f) for f in stored["failures"]]
            results[job.work.key].empty += [f"{plate}/{well}" for well in stored["empty_wells"]]
    statistics = _statistics(store, dataset, missing, results, executor)
    todo = {plate: jobs for plate, jobs in missing.items() if jobs}
    root = str(dataset.root)
    units = [
        Unit(plate, embed_wells, (root, tuple(j.work for j in own), plate, statistics.get(plate), wells))
        for plate, own in todo.items()
        for wells in _chunks(dataset, plate)
    ]
    found: dict[tuple[str, str], dict[tuple[str, ...], Rows]] = {}
    for plate, wells, key, rows in _rows(executor, units, tick):
        found.setdefault((plate, key), {})[wells] = rows
        if len(found[plate, key]) < len(_chunks(dataset, plate)):
            continue
        pieces = [found[plate, key][wells] for wells in _chunks(dataset, plate)]
        found[plate, key] = {}
        job = next(j for j in todo[plate] if j.work.key == key)
        part = addresses[key][plate]
        failures, whole = _commit(store, dataset, job, part, pieces)
        results[key].failures += failures
        if whole:
            results[key].parts[plate] = part
            results[key].empty += [f"{plate}/{well}" for piece in pieces for well in piece.empty]
    return results


def _rows(
    executor: Executor, units: Sequence[Unit], tick: Ticker
) -> Iterator[tuple[str, tuple[str, ...], str, Rows]]:
    """Yield plate, wells, entrant key and rows of every unit.

    When the process of a unit dies, each of its entrants is tried alone, so that only the one that kills it
    is without rows.
    """
    again: list[Unit] = []
    for done, outcome in enumerate(executor.map(units), start=1):
        tick("features", done, len(units))
        root, works, plate, statistics, wells = outcome.unit.arguments
        if outcome.reason is None:
            for key, rows in outcome.value.items():
                yield plate, wells, key, rows
        elif len(works) > 1:
            again += [Unit(plate, embed_wells, (root, (w,), plate, statistics, wells)) for w in works]
        else:
            yield plate, wells, works[0].key, _none(outcome)
    for outcome in executor.map(again):
        _, (work,), plate, _, wells = outcome.unit.arguments
        yield plate, wells, work.key, outcome.value[work.key] if outcome.reason is None else _none(outcome)


def _none(outcome: Outcome) -> Rows:
    *_, plate, _, wells = outcome.unit.arguments
    what = f"plate {plate}, wells {wells[0]} to {wells[-1]}"
    return Rows(failures=[Failure(what, outcome.reason or "", passing=True)])


def identity(dataset: Dataset) -> str:
    """Return the dataset's name and version as it stands in the store."""
    return f"{dataset.name}@{dataset.version}"


def plates(dataset: Dataset) -> list[str]:
    """Return the plates of the dataset in order."""
    return sorted(set(dataset.wells["Metadata_Plate"]))


def _chunks(dataset: Dataset, plate: str) -> list[tuple[str, ...]]:
    wells = sorted(set(dataset.wells[dataset.wells["Metadata_Plate"] == plate]["Metadata_Well"]))
    return [tuple(wells[i : i + WELLS_PER_UNIT]) for i in range(0, len(wells), WELLS_PER_UNIT)]


def _statistics(
    store: Store,
    dataset: Dataset,
    missing: Mapping[str, list[Job]],
    results: Mapping[str, Result],
    executor: Executor,
) -> dict[str, str]:
    """Return the folder of each plate's flat field and moments, where the dataset's settings need them.

    A plate without an estimate loses its jobs that read images, each with the reason.
    """
    from bench.imaging import plates

    reading = [plate for plate, jobs in missing.items() if any(reads_images(j.needs) for j in jobs)]
    with content_hashes(store) as content_hash:
        found, lost = plates.ensure(store, dataset, reading, content_hash, executor)
    for plate, reason in lost.items():
        for job in [j for j in missing[plate] if reads_images(j.needs)]:
            results[job.work.key].failures.append(Failure(f"plate {plate}", reason))
            missing[plate].remove(job)
    return found


def _cells(job: Job, pieces: Sequence[Rows]) -> tuple[pd.DataFrame, NDArray[np.float32]] | None:
    """Return the rows of single cells with well, site and object number, where they are kept."""
    import numpy as np
    import pandas as pd

    if not job.work.spec.cells:
        return None
    rows = [own for piece in pieces for own in piece.cell_rows]
    counts = [len(own.ids) for own in rows]
    frame = pd.DataFrame(
        {
            "Metadata_Well": np.repeat([own.well for own in rows], counts),
            "Metadata_Site": np.repeat([own.site for own in rows], counts),
            "Metadata_ObjectNumber": np.concatenate([own.ids for own in rows]),
        }
    )
    return frame, np.concatenate([own.values for own in rows])


def _commit(
    store: Store, dataset: Dataset, job: Job, part: PartKey, pieces: Sequence[Rows]
) -> tuple[list[Failure], bool]:
    """Write one plate's part; return its failures and whether it was written.

    A plate with a failure that may pass, or without any row, is not written.
    """
    import numpy as np
    import pandas as pd

    from bench.store import write_part

    failures = [failure for piece in pieces for failure in piece.failures]
    values = [row for piece in pieces for row in piece.values]
    if any(failure.passing for failure in failures):
        return failures, False
    if not values:
        none = Failure(f"plate {part.plate}", f"{job.name} has no row for any well")
        return [*failures, none], False
    wells = pd.DataFrame(
        {
            "Metadata_Plate": part.plate,
            "Metadata_Well": [w for piece in pieces for w in piece.wells],
            "n_fields": np.array([n for piece in pieces for n in piece.fields], np.int32),
            "n_cells": np.array([n for piece in pieces for n in piece.cells], np.int32),
            "n_failed": np.array([n for piece in pieces for n in piece.failed], np.int32),
        }
    )
    measured = pd.DataFrame([row for piece in pieces for row in piece.quality])
    if len(measured):
        from bench.imaging import quality, settings

        thresholds = settings.read(dataset.imaging).quality
        wells = wells.merge(quality.by_well(measured, thresholds), on="Metadata_Well", how="left")
    extra = {
        "key_document": job.document,
        "failures": [{"what": f.what, "reason": f.reason} for f in failures],
        "empty_wells": sorted(w for piece in pieces for w in piece.empty),
        "provenance": provenance(
            seconds=sum(piece.seconds for piece in pieces),
            peak_memory_mb=max(piece.memory_mb for piece in pieces),
            device=job.work.device,
        ),
    }
    write_part(store, part, wells, np.stack(values), pieces[0].columns, extra, _cells(job, pieces))
    return failures, True
