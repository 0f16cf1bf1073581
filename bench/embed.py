"""The work of one unit: load the fields of a few wells once, run every entrant on them, average to wells.

A field that cannot be read or embedded is recorded with its reason and its well goes on with the
others. A well without any row (no cell was found) is counted as empty and has no features.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.entrants import AGGREGATIONS, Spec, reads_images
from bench.errors import BenchError
from bench.provenance import peak_memory_mb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets import Dataset
    from bench.imaging.plates import PlateStatistics
    from featurizers.base import Embedding, Featurizer, Field, Need


@dataclass(frozen=True, slots=True)
class Work:
    """One entrant's share of a unit: what to build, and the folder of its weights (None: it has none)."""

    key: str
    spec: Spec
    weights: str | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be computed, and why.

    ``passing`` is a reason that may be gone next time (memory, disk, a bug in a plugin): nothing that rests
    on it is committed. Any other follows from the input and is recorded with what could be computed.
    """

    what: str
    reason: str
    passing: bool = False

    @classmethod
    def of(cls, what: str, error: Exception) -> Failure:
        """Return the failure that ``error`` stands for."""
        ours = isinstance(error, ValueError | BenchError)
        return cls(what, str(error) if ours else f"{type(error).__name__}: {error}", not ours)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The rows of one field: values (n, D) float32, and their objects' ids (n,), 0 for rows per field."""

    well: str
    site: str
    ids: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(slots=True)
class Rows:
    """Well rows of one entrant from one unit.

    ``values`` (n_wells, D) float32 belongs to ``wells``; ``fields``, ``cells`` and ``failed`` count per well.
    ``cell_rows`` has the rows of each field, where they are to be kept.
    """

    wells: list[str] = field(default_factory=list)
    values: list[NDArray[np.float32]] = field(default_factory=list)
    cell_rows: list[Cells] = field(default_factory=list)
    fields: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    quality: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    memory_mb: float = 0.0


def embed_wells(
    root: str, work: Sequence[Work], plate: str, statistics: str | None, wells: Sequence[str]
) -> dict[str, Rows]:
    """Return well rows by entrant key for some wells of one plate.

    ``statistics`` is the folder of the plate's flat field and moments, None where the dataset needs none.
    """
    dataset = _dataset(root)
    rows: dict[str, Rows] = {}
    built: dict[str, Featurizer] = {}
    specs = {own.key: own.spec for own in work}
    here = f"plate {plate}, wells {wells[0]} to {wells[-1]}"
    for own in work:
        try:
            built[own.key] = _featurizer(own)
        except Exception as error:  # noqa: BLE001  # one entrant that cannot be built leaves the others alone
            rows[own.key] = Rows(failures=[replace(Failure.of(here, error), passing=True)])
    if not built:
        return rows
    needs: tuple[Need, ...] = tuple(sorted({need for f in built.values() for need in f.card.needs}))
    started = time.perf_counter()
    unread: list[tuple[str, Failure]] = []
    quality: list[dict[str, Any]] = []
    fields = _fields(dataset, plate, wells, needs, unread, quality, statistics)
    loading = (time.perf_counter() - started) / len(built)
    for key, featurizer in built.items():
        started = time.perf_counter()
        try:
            found = _embed_all(featurizer, dataset, fields, wells, unread, specs[key])
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything outside embed() too
            found = Rows(failures=[replace(Failure.of(here, error), passing=True)])
        found.seconds = loading + time.perf_counter() - started
        found.memory_mb = peak_memory_mb()
        found.quality = quality if reads_images(featurizer.card.needs) else []
        rows[key] = found
    return rows


@functools.lru_cache(maxsize=1)
def _dataset(root: str) -> Dataset:
    from bench.datasets import load

    return load(Path(root))


@functools.lru_cache(maxsize=8)
def _featurizer(work: Work) -> Featurizer:
    featurizer = work.spec.build()
    featurizer.device = work.device
    if work.weights is not None:
        featurizer.load(Path(work.weights))
    return featurizer


def _fields(
    dataset: Dataset,
    plate: str,
    wells: Sequence[str],
    needs: tuple[Need, ...],
    unread: list[tuple[str, Failure]],
    quality: list[dict[str, Any]],
    statistics: str | None,
) -> list[Field]:
    """Load the fields of ``wells``; ``unread`` and ``quality`` get what cannot be read and the measures."""
    from bench.imaging import field_source
    from featurizers.base import Field

    frame = dataset.wells
    chosen = frame[(frame["Metadata_Plate"] == plate) & frame["Metadata_Well"].isin(wells)]
    if dataset.images is None:
        names = sorted(set(chosen["Metadata_Well"]))
        return [Field({"Metadata_Plate": plate, "Metadata_Well": w, "Metadata_Site": "1"}, ()) for w in names]

    def failed(metadata: dict[str, Any], reason: str) -> None:
        unread.append((str(metadata["Metadata_Well"]), Failure(_name(metadata), reason)))

    def measured(metadata: dict[str, Any], values: dict[str, float]) -> None:
        quality.append({"Metadata_Well": str(metadata["Metadata_Well"]), **values})

    of_plate = None if statistics is None else functools.partial(_statistics, statistics)
    return list(field_source(dataset, chosen, needs, failed, measured, of_plate))


def _statistics(folder: str, _plate: str) -> PlateStatistics:
    from bench.imaging import plates

    return plates.read(folder)


def _embed_all(
    featurizer: Featurizer,
    dataset: Dataset,
    fields: list[Field],
    wells: Sequence[str],
    unread: list[tuple[str, Failure]],
    spec: Spec,
) -> Rows:
    if "latent" not in featurizer.card.needs:
        fields = [replace(f, metadata=_without_state(f.metadata)) for f in fields]
    columns = featurizer.columns(dataset.channels)
    found, cells, failures = _per_field(featurizer, fields, len(columns))
    lost = [(w, f) for w, f in unread if reads_images(featurizer.card.needs)] + failures
    rows = Rows(columns=columns, failures=[f for _, f in lost])
    for well in sorted(wells):
        of_well = [i for i, f in enumerate(fields) if f.metadata["Metadata_Well"] == well]
        used = [own for i in of_well if (own := found[i]) is not None]
        if not used:
            rows.empty.append(well)
            continue
        rows.wells.append(well)
        rows.values.append(aggregated([own.values for own in used], spec.aggregate))
        rows.cell_rows += used if spec.cells else []
        rows.fields.append(len(used))
        rows.cells.append(sum(cells[i] for i in of_well))
        rows.failed.append(sum(w == well for w, _ in lost))
    return rows


def aggregated(fields: Sequence[NDArray[np.float32]], rule: str) -> NDArray[np.float32]:
    """Return a well's row (D,) float32 from the rows (n_i, D) of its fields.

    ``field-mean``: mean over fields of each field's mean; ``cell-mean`` and ``cell-median``: over the rows of
    all fields, column by column. Sums are float64.
    """
    if rule not in AGGREGATIONS:
        raise ValueError(f"{rule!r} is no aggregation")
    well: NDArray[np.float64]
    if rule == "field-mean":
        well = np.mean(np.stack([own.mean(axis=0, dtype=np.float64) for own in fields]), axis=0)
    elif rule == "cell-mean":
        well = np.concatenate(fields).mean(axis=0, dtype=np.float64)
    else:
        well = np.median(np.concatenate(fields).astype(np.float64), axis=0)
    return well.astype(np.float32)


def _per_field(
    featurizer: Featurizer, fields: list[Field], width: int
) -> tuple[list[Cells | None], list[int], list[tuple[str, Failure]]]:
    """Return each field's rows (None without a row or after a failure), its cell count, failures."""
    found: list[Cells | None] = [None] * len(fields)
    cells = [len(f.ids) for f in fields]
    failures: list[tuple[str, Failure]] = []
    try:
        batches = [(list(range(len(fields))), _checked(featurizer, fields, width))] if fields else []
    except Exception:  # noqa: BLE001  # which field it was is found by embedding them one by one
        batches = []
        for i, one in enumerate(fields):
            try:
                batches.append(([i], _checked(featurizer, [one], width)))
            except Exception as error:  # noqa: BLE001  # a plugin may raise anything; it is recorded
                failure = Failure.of(_name(one.metadata), error)
                failures.append((str(one.metadata["Metadata_Well"]), failure))
    for indices, embedding in batches:
        for position, i in enumerate(indices):
            here = np.asarray(embedding.field) == position
            if here.any():
                ids = np.zeros(int(here.sum()), np.int32)
                if embedding.object is not None:
                    ids = np.asarray(embedding.object)[here]
                metadata = fields[i].metadata
                place = str(metadata["Metadata_Well"]), str(metadata["Metadata_Site"])
                found[i] = Cells(*place, ids, np.asarray(embedding.values)[here])
    return found, cells, failures


def _checked(featurizer: Featurizer, fields: list[Field], width: int) -> Embedding:
    """Embed, and refuse rows that break the contract: wrong width, rows of no field, non-finite values."""
    embedding = featurizer.embed(fields)
    values, owner = np.asarray(embedding.values), np.asarray(embedding.field)
    name = featurizer.card.name
    if values.ndim != 2 or values.shape[1] != width or len(values) != len(owner):
        raise ValueError(
            f"featurizer {name!r} returned values of shape {values.shape} for {len(owner)} rows of {width} "
            "named columns; columns() and embed() must agree"
        )
    if len(owner) and (owner.min() < 0 or owner.max() >= len(fields)):
        raise ValueError(
            f"featurizer {name!r} returned a row that belongs to none of the fields it was given"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        column = featurizer.columns(fields[0].channels)[int(bad.any(axis=0).argmax())]
        raise ValueError(
            f"featurizer {name!r} returned {int(bad.sum())} non-finite values, first in column {column!r}; "
            "a featurizer must return finite numbers or raise FeaturizerError"
        )
    return embedding


def _without_state(metadata: Any) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if not k.startswith("Latent_")}


def _name(metadata: Any) -> str:
    return "plate {Metadata_Plate}, well {Metadata_Well}, site {Metadata_Site}".format(**metadata)
