"""What is estimated over a whole plate (flat field, moments of its negative controls): once, then shared.

In a run the estimate of a plate is a part of the store of its own, ``illumination/key=…/plate=…/images=…``,
which many workers read; whoever has no store estimates it in memory. Fields that cannot be read are left
out of the estimate; they fail, with their reason, when it is their turn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.tables import PLATE, WELL, normalise_well
from bench.errors import DatasetError
from bench.imaging import illumination, settings, standardise
from bench.imaging.planes import Job, in_order, raw_pixels
from bench.imaging.stored import planes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bench.datasets.model import Dataset
    from bench.execute import Executor
    from bench.store import Store

VERSION = 3
"""Raised when the same fields and settings would give another estimate; part of the estimate's key."""

FLAT, MOMENTS = "flat.npy", "moments.npy"


@dataclass(frozen=True, eq=False)
class PlateStatistics:
    """Of one plate: its flat field (C, H, W), and means and standard deviations (2, C) of its controls."""

    flat: NDArray[np.float32] | None
    moments: NDArray[np.float64] | None


def estimate(dataset: Dataset, plate: str) -> PlateStatistics:
    """Return what the dataset's settings ask for of one plate, reading its fields one by one.

    Raises
    ------
    DatasetError
        When no field can be read, the plate has no negative controls, or the flat field cannot be estimated.
    """
    imaging = settings.read(dataset.imaging)
    config, flat, moments = imaging.illumination, None, None
    try:
        if config is not None:
            mean, _ = illumination.mean_image(_fields(dataset, plate, None))
            flat = illumination.flat_field(mean, config)
        if isinstance(imaging.standardise, standardise.ByControls):
            wells = {well for p, well in negative_controls(dataset) if p == plate}
            if not wells:
                raise DatasetError(
                    "standardise = 'negcon' needs wells with Metadata_pert_type negcon on every plate; mark "
                    "them, or set standardise = 'field'"
                )
            fields = _fields(dataset, plate, wells)
            if config is not None and flat is not None:
                divide = functools.partial(
                    _divide, flat=flat, rescale=config.rescale, depth=dataset.bit_depth
                )
                fields = (divided for divided in map(divide, fields) if divided is not None)
            moments = standardise.moments(fields)
    except DatasetError as error:
        raise DatasetError(f"plate {plate}: {error}") from error
    return PlateStatistics(flat, moments)


class Estimates:
    """Estimates of a dataset's plates, made in memory when they are first asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._known: dict[str, PlateStatistics | DatasetError] = {}

    def __call__(self, plate: str) -> PlateStatistics:
        """Return the plate's estimate; what failed once fails again without reading the plate again."""
        if plate not in self._known:
            try:
                self._known[plate] = estimate(self._dataset, plate)
            except DatasetError as error:
                self._known[plate] = error
        found = self._known[plate]
        if isinstance(found, DatasetError):
            raise found
        return found


def folder(dataset: Dataset, plate: str, content_hash: Callable[[Path], str]) -> str:
    """Return where the estimate of a plate stands in the store: by settings, and by the plate's images."""
    from bench.datasets import image_manifest
    from bench.store import digest, escape

    images = digest(image_manifest(dataset, plate, content_hash))
    return f"illumination/key={digest(_document(dataset))}/plate={escape(plate)}/images={images}"


def ensure(
    store: Store,
    dataset: Dataset,
    plates: Sequence[str],
    content_hash: Callable[[Path], str],
    executor: Executor | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Estimate and commit what the store lacks, one unit of work per plate.

    Parameters
    ----------
    store, dataset
        Where to and of what.
    plates
        Which; none is read when the settings need nothing of a whole plate.
    content_hash
        Content hash of an image file.
    executor
        Runs the units; None estimates in this process.

    Returns
    -------
    Path of the committed folder by plate, and the reason by plate that has none.
    """
    from bench.execute import Executor, Unit

    if not settings.read(dataset.imaging).per_plate:
        return {}, {}
    folders = {plate: folder(dataset, plate, content_hash) for plate in plates}
    root = str(dataset.root)
    units = [
        Unit(plate, commit, (str(store.root), root, plate, where))
        for plate, where in folders.items()
        if not store.has(where)
    ]
    outcomes = (executor or Executor(0)).map(units)
    lost = {o.unit.name: o.reason for o in outcomes if o.reason is not None}
    return {p: str(store.path(where)) for p, where in folders.items() if p not in lost}, lost


def commit(store: str, root: str, plate: str, where: str) -> None:
    """Estimate one plate of the dataset at ``root`` and commit it; the unit of work of :func:`ensure`."""
    from bench.datasets import load
    from bench.provenance import provenance
    from bench.store import Store

    dataset = load(Path(root))
    found = estimate(dataset, plate)

    def write(path: Path) -> None:
        for name, array in ((FLAT, found.flat), (MOMENTS, found.moments)):
            if array is not None:
                np.save(path / name, array, allow_pickle=False)

    Store(Path(store)).commit(where, write, {"key_document": _document(dataset), "provenance": provenance()})


@functools.lru_cache(maxsize=4)
def read(path: str) -> PlateStatistics:
    """Return a committed estimate."""
    flat, moments = (
        np.load(file, allow_pickle=False) if (file := Path(path) / name).exists() else None
        for name in (FLAT, MOMENTS)
    )
    return PlateStatistics(flat, moments)


def negative_controls(dataset: Dataset) -> list[tuple[str, str]]:
    """Return plate and well of every negative control, sorted."""
    rows = dataset.wells[dataset.wells["Metadata_pert_type"] == "negcon"]
    return sorted({(str(p), normalise_well(str(w))) for p, w in zip(rows[PLATE], rows[WELL], strict=True)})


def _document(dataset: Dataset) -> dict[str, Any]:
    """Return what determines an estimate apart from the images."""
    imaging = settings.read(dataset.imaging)
    chosen = settings.key(imaging)
    by_controls = isinstance(imaging.standardise, standardise.ByControls)
    return {
        "kind": "plate statistics",
        "version": VERSION,
        "illumination": chosen["illumination"],
        "standardise": chosen["standardise"] if by_controls else "none",
        "negative_controls": negative_controls(dataset) if by_controls else None,
        "bit_depth": dataset.bit_depth,
        "channels": [c.name for c in dataset.channels],
    }


def _fields(dataset: Dataset, plate: str, wells: set[str] | None) -> Iterator[NDArray[Any]]:
    """Yield the readable fields of a plate, or of some of its wells, in order."""
    if dataset.images is None:
        return
    planes = planes_of(dataset, plate=plate)
    for place in in_order(planes):
        if wells is None or place[1] in wells:
            job = Job({}, tuple(planes[place].get(c.name) for c in dataset.channels))
            try:
                yield raw_pixels(job, dataset.channels)
            except DatasetError:
                continue


def _divide(
    pixels: NDArray[Any], flat: NDArray[np.float32], rescale: Any, depth: int
) -> NDArray[np.float32] | None:
    """Return the corrected field, None for one of another size, which will fail on its own."""
    if pixels.shape != flat.shape:
        return None
    top = 1.0 if pixels.dtype.kind == "f" else 2.0**depth - 1.0
    return illumination.correct(pixels, flat, rescale, top)
