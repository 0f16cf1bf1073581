"""Units: layer rows and wells matched on a key, numbered in their final order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.datasets.tables import DOSE, DOSE_UNIT, PLATE, PREFIX, WELL, natural, shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.datasets.model import Layer

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")


@dataclass(frozen=True, eq=False)
class Units:
    """n units over p pairs of a layer's row and a well.

    Parameters
    ----------
    id, col
        (p,) int64, the unit and the well of each pair.
    row, first
        (n,) int64, the layer's row and the first well of each unit.
    """

    id: NDArray[np.int64]
    col: NDArray[np.int64]
    row: NDArray[np.int64]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def constant(self, values: Sequence[Any] | NDArray[Any] | pd.Series) -> NDArray[np.bool_]:
        """Return (n,) whether a well-level column has one value over each unit's wells."""
        codes = pd.factorize(np.asarray(values))[0]
        differs = codes[self.col] != codes[self.first][self.id]
        same: NDArray[np.bool_] = np.bincount(self.id, weights=differs, minlength=len(self)) == 0
        return same


def match(
    layer: Layer, frame: pd.DataFrame, table: pd.DataFrame, usable: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (p,) layer rows and (p,) wells whose keys agree.

    Doses agree to six significant digits and ``24.0`` agrees with ``24``; all else is compared as text. A key
    column that only the readouts have (a stimulus) must be named in ``fit_by`` or ``score_by``; every well of
    the rest of the key then stands for each of its values.

    Raises
    ------
    DatasetError
        When the wells lack a key column, or a key occurs twice in the layer.
    """
    shared = [c for c in layer.key if c in table.columns]
    absent = [c for c in layer.key if c not in shared and c not in (*layer.fit_by, *layer.score_by)]
    if absent or not shared:
        raise DatasetError(
            f"layer {layer.name!r}: the wells table lacks its key column {shorten(absent or layer.key)}; "
            "add it there, or list it under fit_by or score_by if only the readouts have it"
        )
    twice = np.flatnonzero(canonical(frame, layer.key).duplicated().to_numpy())
    if twice.size:
        raise DatasetError(
            f"{layer.table}, row {twice[0] + 1}: key {label(layer, frame, int(twice[0]))} occurs twice "
            f"({twice.size} such rows); average replicates first, or add a column to the key"
        )
    left = canonical(frame, shared).assign(_row=np.arange(len(frame)))
    right = canonical(table, shared).assign(_col=np.arange(len(table)))[usable]
    both = left.merge(right, on=shared)
    return both["_row"].to_numpy(np.int64), both["_col"].to_numpy(np.int64)


def canonical(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return keys as comparable text: doses to six significant digits, whole numbers without ``.0``."""

    def one(column: str) -> list[str]:
        if column == DOSE:
            return [f"{d:.6g}" for d in frame[column]]
        return [_WHOLE.sub(r"\1", v) if _WHOLE.fullmatch(v) else v for v in frame[column]]

    return pd.DataFrame({c: one(c) for c in columns}, dtype=object)


def choose(
    layer: Layer,
    frame: pd.DataFrame,
    table: pd.DataFrame,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
) -> Units:
    """Apply the dose rule and the join to matched pairs; units come sorted by key, dose, plate and well.

    Raises
    ------
    DatasetError
        When doses that must be compared stand in several units of concentration.
    """
    split = np.full(rows.size, np.nan)
    if DOSE not in layer.key and DOSE in table.columns and layer.dose_rule != "mean":
        _one_dose_unit(layer, frame, table, rows, cols)
        dose = np.array([float(f"{d:.6g}") for d in table[DOSE]], np.float64)[cols]
        if layer.dose_rule == "each":
            split = dose
        else:
            kept = _top(rows, dose)
            rows, cols, split = rows[kept], cols[kept], split[kept]
    plates, wells = table[PLATE].tolist(), table[WELL].tolist()
    keys = [canonical(frame, [c])[c].tolist() for c in layer.key]
    place = cols.tolist() if layer.join == "broadcast" else [-1] * rows.size
    # NaN is unequal to itself, so a pair without dose is told apart by a flag.
    doses = [(0, 0.0) if np.isnan(d) else (1, float(d)) for d in split]
    pairs = list(zip(rows.tolist(), doses, place, strict=True))

    def order(unit: tuple[int, tuple[int, float], int]) -> tuple[Any, ...]:
        row, dose_of, well = unit
        where = () if well < 0 else (natural(plates[well]), natural(wells[well]))
        return (*(natural(k[row]) for k in keys), dose_of, *where)

    distinct = sorted(dict.fromkeys(pairs), key=order)
    index = {unit: i for i, unit in enumerate(distinct)}
    ids = np.array([index[p] for p in pairs], np.int64)
    first = np.full(len(distinct), len(table), np.int64)
    np.minimum.at(first, ids, cols)
    return Units(ids, cols, np.array([u[0] for u in distinct], np.int64), first)


def describe(layer: Layer, frame: pd.DataFrame, table: pd.DataFrame, units: Units) -> pd.DataFrame:
    """Return one row per unit: the key's columns, then every ``Metadata_`` column constant over its wells."""
    columns: dict[str, Any] = {}
    for c in layer.key:
        columns[c] = (
            table[c].to_numpy()[units.first] if c in table.columns else frame[c].to_numpy()[units.row]
        )
    for c in table.columns:
        if c.startswith(PREFIX) and c not in columns and units.constant(table[c]).all():
            columns[c] = table[c].to_numpy()[units.first]
    for what, wanted in (("fit_by", layer.fit_by), ("score_by", layer.score_by)):
        absent = [c for c in wanted if c not in columns]
        if absent:
            raise DatasetError(
                f"layer {layer.name!r}: {what} column {shorten(absent)} is not in the wells table, or "
                "differs between the wells of one unit; add it to the wells table, or to the layer's key"
            )
    return pd.DataFrame(columns)


def label(layer: Layer, frame: pd.DataFrame, row: int) -> str:
    """Return a layer row's key as a person reads it, or the row's number where the key is empty."""
    values = ((c, frame[c].iloc[row]) for c in layer.key)
    return "/".join(f"{v:.6g}" if c == DOSE else str(v) for c, v in values) or f"row {row + 1}"


def _one_dose_unit(
    layer: Layer,
    frame: pd.DataFrame,
    table: pd.DataFrame,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
) -> None:
    if DOSE_UNIT not in table.columns:
        return
    pairs = pd.DataFrame({"row": rows, "unit": table[DOSE_UNIT].to_numpy()[cols]})
    counts = pairs[pairs["unit"] != ""].groupby("row")["unit"].nunique()
    mixed = counts.index[counts > 1]
    if len(mixed):
        raise DatasetError(
            f"layer {layer.name!r}: doses of {label(layer, frame, int(mixed[0]))} stand in several units "
            f"({len(mixed)} such keys); convert {DOSE} to one {DOSE_UNIT} in the wells table"
        )


def _top(rows: NDArray[np.int64], dose: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pairs are at their row's highest dose; a row without any dose keeps all its wells."""
    finite = np.where(np.isnan(dose), -np.inf, dose)
    best = np.full(rows.max() + 1, -np.inf)
    np.maximum.at(best, rows, finite)
    kept: NDArray[np.bool_] = finite == best[rows]
    return kept
