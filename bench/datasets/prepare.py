"""A layer's preparation applied to its table, before rows meet wells: what the steps need to know of a row.

A row is a negative control when every well that its key meets is one. After ``draw-replicates`` the rows are
groups; image plates take the draws in turn, in natural order, so the key becomes the groups' columns and
``Metadata_Plate``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.datasets.identity import NEGATIVE
from bench.datasets.tables import PERT_TYPE, PLATE, natural
from bench.datasets.units import canonical
from bench.errors import DatasetError
from tasks.base import TaskError
from tasks.prepare import Readouts, prepare
from tasks.prepare.replicates import DRAW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset, Layer


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer as its steps leave it.

    Parameters
    ----------
    layer
        With the key and scale of ``frame``.
    sentences
        What was done, a sentence per step.
    panel
        ``all``, ``named`` or ``score-selected``.
    """

    layer: Layer
    frame: pd.DataFrame
    sentences: tuple[str, ...] = ()
    panel: str = "all"


def document(layer: Layer) -> list[dict[str, Any]]:
    """Return name, version and settings of the layer's steps, for keys."""
    return [
        {"step": step.name, "version": step.version, **dataclasses.asdict(step)}  # type: ignore[call-overload]
        for step in layer.prepare
    ]


def apply(dataset: Dataset, layer: Layer, frame: pd.DataFrame) -> Prepared:
    """Apply the layer's steps to its frame, as :meth:`Layer.read` gave it.

    Raises
    ------
    DatasetError
        Naming the layer and the step that refuses.
    """
    if not layer.prepare:
        return Prepared(layer, frame)
    names = tuple(frame.columns[len(layer.key) :])
    given = Readouts(
        values=frame[list(names)].to_numpy(np.float64),
        names=names,
        rows=frame[list(layer.key)].reset_index(drop=True),
        control=controls(dataset, layer, frame),
        scale=layer.scale,
    )
    try:
        out, sentences = prepare(given, layer.prepare)
    except TaskError as error:
        raise DatasetError(f"{layer.table}: layer {layer.name!r}: {error}") from error
    rows, values = out.rows, out.values
    key = tuple(rows.columns)
    if DRAW in key:
        rows, values, key = _to_plates(dataset, layer, rows, values)
    table = pd.DataFrame(values.astype(np.float32), columns=list(out.names))
    done = replace(layer, key=key, scale=out.scale, prepare=())  # type: ignore[arg-type]
    said = tuple(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    return Prepared(done, pd.concat([rows.reset_index(drop=True), table], axis=1), said, out.panel)


def controls(dataset: Dataset, layer: Layer, frame: pd.DataFrame) -> NDArray[np.bool_] | None:
    """Return (m,) which rows of the layer are negative controls; None where no row meets a well."""
    shared = [c for c in layer.key if c in dataset.wells.columns]
    if not shared:
        return None
    wells = canonical(dataset.wells, shared).assign(
        negative=(dataset.wells[PERT_TYPE] == NEGATIVE).to_numpy()
    )
    flags = wells.groupby(shared, as_index=False)["negative"].all()
    met = canonical(frame, shared).merge(flags, on=shared, how="left")["negative"]
    return None if met.isna().all() else (met == True).to_numpy(np.bool_)  # noqa: E712  # NaN is not a control


def _to_plates(
    dataset: Dataset, layer: Layer, rows: pd.DataFrame, values: NDArray[np.float64]
) -> tuple[pd.DataFrame, NDArray[np.float64], tuple[str, ...]]:
    """Give each image plate on which a group has wells one of the group's draws."""
    by = [c for c in rows.columns if c != DRAW]
    shared = [c for c in by if c in dataset.wells.columns]
    draws = int(rows[DRAW].astype(int).max())
    if PLATE in by or not shared:
        raise DatasetError(
            f"{layer.table}: layer {layer.name!r}: draw-replicates groups rows by {', '.join(by)}; give it "
            f"columns of the wells table that name a treatment, without {PLATE}"
        )
    wells = canonical(dataset.wells, shared).assign(**{PLATE: dataset.wells[PLATE].to_numpy()})
    places = wells.drop_duplicates()
    order = sorted(range(len(places)), key=lambda i: natural(str(places[PLATE].iloc[i])))
    places = places.iloc[order]
    places[DRAW] = (places.groupby(shared, sort=False).cumcount() % draws + 1).astype(str)
    groups = canonical(rows, shared).assign(**{DRAW: rows[DRAW].to_numpy(), "_row": np.arange(len(rows))})
    met = groups.merge(places, on=[*shared, DRAW]).sort_values("_row", kind="stable")
    taken = met["_row"].to_numpy(np.int64)
    out = rows[by].iloc[taken].reset_index(drop=True)
    out[PLATE] = met[PLATE].to_numpy()
    return out, values[taken], (*by, PLATE)
