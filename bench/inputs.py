"""What an entrant predicts from: the images' features, a layer of measured omics, or both beside each other.

A layer is joined to the wells as its own settings say (key, dose rule), one row per well at most, and stored
once with its missing values; the head's fold standardises the block and balances it against the images'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.align import to_wells
from bench.configure import unknown
from bench.datasets.tables import PLATE, WELL, natural, shorten
from bench.entrants import Entrant, known
from bench.errors import BenchError, UsageError
from bench.words import count

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets import Dataset, Layer
    from bench.settings import Settings
    from bench.store import Store
    from tasks.base import Task, TaskData

IMAGE, OMICS, BOTH = INPUTS = ("image", "omics", "image+omics")
TABLE = "inputs.parquet"


@dataclass(frozen=True, eq=False)
class Omics:
    """A layer as features of wells.

    Parameters
    ----------
    folder
        Where it stands in a store.
    wells, X, columns
        Plate and well of the (N, D) float32 values, N the dataset's wells in order; an all-NaN row is a well
        without the layer.
    """

    layer: str
    folder: str
    document: dict[str, Any]
    wells: pd.DataFrame
    X: NDArray[np.float32]
    columns: tuple[str, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) wells that have any value."""
        return np.asarray((~np.isnan(self.X)).any(axis=1))


def check(settings: Settings) -> None:
    """Refuse inputs that do not exist, and those that none of the tasks can predict from."""
    tasks = [known(settings.plugins).get("tasks", name) for name in settings.tasks]
    offered = {word for task in tasks for word in task.inputs}
    for word in settings.inputs:
        if word not in INPUTS:
            raise UsageError(unknown("input", word, INPUTS))
        if word not in offered:
            listed = " and ".join(settings.tasks)
            raise UsageError(
                f"{listed} predict{'s' * (len(tasks) == 1)} from {' or '.join(sorted(offered))}, not from "
                f"{word!r}; --inputs is for tasks such as target"
            )


def asked(settings: Settings, task: type[Task]) -> tuple[str, ...]:
    """Return what a task predicts from: those of the inputs that it offers, else images."""
    return tuple(word for word in settings.inputs if word in task.inputs) or (IMAGE,)


def wanted(settings: Settings) -> bool:
    """Whether any entrant reads omics."""
    return any(word != IMAGE for word in settings.inputs)


def omics(settings: Settings, dataset: Dataset) -> Omics | None:
    """Join the layer that ``--omics`` names, or the only abundance layer, to the dataset's wells.

    Raises
    ------
    UsageError
        When there are several abundance layers and none is named, or the named one is unknown.
    BenchError
        When there is none, or a well would have several of its rows.
    """
    return block(dataset, _layer(settings.omics, dataset)) if wanted(settings) else None


def block(dataset: Dataset, layer: Layer) -> Omics:
    """Join an abundance layer to the dataset's wells, one row per well at most.

    Raises
    ------
    BenchError
        When a well would have several of its rows.
    """
    from bench.datasets import join_with_report
    from bench.featurize import identity
    from bench.store import digest

    joined, _ = join_with_report(dataset, replace(layer, join="broadcast"), dataset.wells)
    links = joined.members.tocoo()
    well, unit = links.col, links.row
    twice = np.flatnonzero(np.bincount(well, minlength=len(dataset.wells)) > 1)
    if twice.size:
        place = "/".join(dataset.wells[[PLATE, WELL]].iloc[int(twice[0])])
        raise BenchError(
            f"layer {layer.name!r} has several rows for well {place} ({twice.size} such wells), because the "
            f"wells lack a column of its key ({', '.join(layer.key)}); as an input it must have one"
        )
    X = np.full((len(dataset.wells), len(joined.readouts)), np.nan, np.float32)
    X[well] = joined.Y[unit]
    document = {
        "kind": "inputs",
        "schema": 1,
        "dataset": identity(dataset),
        "tables": dataset.digest(),
        "layer": layer.name,
    }
    wells = joined.wells[[PLATE, WELL]].reset_index(drop=True)
    return Omics(layer.name, f"inputs/key={digest(document)}", document, wells, X, joined.readouts)


def _layer(named: str, dataset: Dataset) -> Layer:
    layers = [layer for layer in dataset.layers if layer.kind == "abundance"]
    names = [layer.name for layer in layers]
    if named:
        if named not in names:
            raise UsageError(f"dataset {dataset.name!r}: {unknown('abundance layer', named, names)}")
        return dataset.layer(named)
    if len(layers) == 1:
        return layers[0]
    if not layers:
        raise BenchError(f"dataset {dataset.name!r} has no abundance layer, so there are no omics to put in")
    raise UsageError(
        f"dataset {dataset.name!r} has several abundance layers ({', '.join(names)}); "
        "name the one that is put in with --omics"
    )


def ensure(store: Store, block: Omics) -> None:
    """Commit the block's values, if they are not there."""
    from bench.provenance import provenance
    from bench.store.tables import write_matrix

    def write(into: Path) -> None:
        write_matrix(into / TABLE, block.wells, {"values": block.X}, {"columns": list(block.columns)})

    manifest = {"key_document": block.document, "provenance": provenance()}
    store.commit(block.folder, write, manifest)


def aligned(store: Store, folder: str, wells: pd.DataFrame) -> NDArray[np.float32]:
    """Return the stored values (N, D) in the order of ``wells``; a well that is not there has a NaN row."""
    from bench.store.tables import read_matrix

    index, values = read_matrix(store.path(folder) / TABLE)
    return to_wells(index, values["values"], wells)


def restrict(data: TaskData, block: Omics) -> TaskData:
    """Return the units with the omics in a well at least, so that every input is scored on the same ones.

    Negative controls stay: they only normalise. ``notes`` say how many units and which perturbations are left
    out.

    Raises
    ------
    BenchError
        When no unit is left.
    """
    has = np.asarray(data.members @ block.present.astype(np.float64)) > 0
    keep = has | data.control
    if not (has & ~data.control).any():
        raise BenchError(
            f"no unit of layer {data.layer!r} has a value of layer {block.layer!r}: check that the two share "
            "perturbations"
        )
    if keep.all():
        return data
    gone = sorted(set(data.groups[~keep]) - set(data.groups[keep & ~data.control]), key=natural)
    note = (
        f"{count(int((~keep).sum()), 'unit', 'have')} no {block.layer} and take no part"
        + (f", among them all of {count(len(gone), 'perturbation')}: {shorten(gone)}" if gone else "")
        + "."
    )
    rows = np.flatnonzero(keep)
    return replace(
        data,
        units=data.units.iloc[rows].reset_index(drop=True),
        members=data.members[rows],
        Y=data.Y[rows],
        groups=data.groups[rows],
        control=data.control[rows],
        notes=(*data.notes, note),
    )


def beside(entrant: Entrant, layer: str) -> Entrant:
    """Return the entrant that reads the images' features and the layer."""
    return replace(entrant, label=f"{entrant.label} + {layer}", inputs=BOTH)


def alone(layer: str) -> Entrant:
    """Return the entrant that reads the layer and no image."""
    card = {
        "name": OMICS,
        "version": "1",
        "title": f"measured {layer}",
        "trained_on": "nothing: values as measured",
        "fit_scope": "pretrained",
        "role": "entrant",
    }
    return Entrant(OMICS, layer, "entrant", "pretrained", "default", card, inputs=OMICS)
