"""Outer and inner folds: which units are tested when. Made once, stored and shared by every entrant.

The order in which groups are dealt to folds is the order of sha256(seed, repeat, name), so that it depends
neither on the order of rows nor on a library's random generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData
    from tasks.protocol import Protocol


TRAINED = -1
"""Fold of a unit that is trained on in a repeat and not tested in it."""

UNUSED = -2
"""Fold of a unit that is neither trained on nor tested in a repeat."""


def make(data: TaskData, protocol: Protocol) -> pd.DataFrame:
    """Deal the units to R × K outer folds.

    Under ``grouped`` every perturbation is tested as a whole and folds differ by at most one perturbation;
    under ``random-units`` units are dealt singly and folds differ by at most one unit; under ``scaffold`` all
    perturbations of one Bemis–Murcko scaffold are dealt together. Under ``leave-out`` the values of a column
    (the blocks) are dealt to at most K block folds; where a perturbation stands in several blocks, the
    perturbations are dealt too, and a fold is one block fold crossed with one fold of perturbations. Under
    ``random-splits`` each repeat tests a share of the perturbations, drawn anew. Negative controls are
    absent: they are neither trained on nor tested.

    Returns
    -------
    DataFrame
        ``repeat`` and ``fold`` (int16; :data:`TRAINED` and :data:`UNUSED` for units without a fold), ``unit``
        (int64, row of ``data.units``), ``perturbation``, and under ``leave-out`` ``block`` (int16, the block
        fold); every unit that is not a control once per repeat, ordered by repeat and unit. What a fold
        trains on is :func:`split`'s to say.

    Raises
    ------
    TaskError
        When a training set would hold fewer than ``min_groups_per_inner_fold`` groups per inner fold, in the
        whole or in a stratum of ``fit_by``, the message saying what would work; when the column that the
        split needs is absent, or empty for a unit.
    """
    unit = np.flatnonzero(~data.control)
    if unit.size == 0:
        raise TaskError(
            f"layer {data.layer!r} has no unit that is not a negative control: there is nothing to test"
        )
    groups = split_groups(data, protocol)[unit]
    blocks = _blocks(data, protocol, unit, groups) if protocol.split == "leave-out" else None
    frames = []
    for repeat in range(protocol.repeats):
        frame: dict[str, NDArray[Any]] = {
            "repeat": np.full(unit.size, repeat, np.int16),
            "fold": np.zeros(unit.size, np.int16),
            "unit": unit.astype(np.int64),
            "perturbation": data.groups[unit],
        }
        if blocks is not None:
            frame |= blocks.deal(groups, protocol, repeat)
        elif protocol.split == "random-splits":
            frame["fold"] = _random_split(groups, protocol, repeat)
        else:
            frame["fold"] = assign(groups, protocol.outer_folds, protocol.seed, repeat)
        frames.append(pd.DataFrame(frame))
    table = pd.concat(frames, ignore_index=True)
    _check(data, protocol, unit, groups, table)
    return table


def split(table: pd.DataFrame, repeat: int, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tested and the training units of an outer fold, ascending.

    Trained on are the repeat's other units, save :data:`UNUSED` ones and, where the table has blocks, the
    units of the tested block and of the tested perturbations.

    Raises
    ------
    TaskError
        When the table has no such fold.
    """
    own = table[table["repeat"] == repeat]
    unit, of = own["unit"].to_numpy(np.int64), own["fold"].to_numpy()
    tested = of == fold
    if fold < 0 or not tested.any():
        raise TaskError(f"there is no fold {fold} in repeat {repeat} of these folds")
    trained = ~tested & (of > UNUSED)
    if "block" in own.columns:
        for name in ("block", "perturbation"):
            values = own[name].to_numpy()
            trained &= ~np.isin(values, np.unique(values[tested]))
    return np.sort(unit[tested]), np.sort(unit[trained])


def ids(table: pd.DataFrame) -> list[tuple[int, int]]:
    """Return every (repeat, fold) under test of a fold table, ascending."""
    pairs = table.loc[table["fold"] >= 0, ["repeat", "fold"]].drop_duplicates()
    return sorted((int(r), int(k)) for r, k in pairs.itertuples(index=False, name=None))


def split_groups(data: TaskData, protocol: Protocol) -> NDArray[np.str_]:
    """Return (n,) names of what is kept together: perturbations, their scaffolds, or single units."""
    if protocol.split == "scaffold":
        from tasks.scaffold import of_units

        return of_units(data, protocol.split_by)
    if protocol.split != "random-units":
        return data.groups
    named = [column for column in sorted(data.units.columns) if str(column).startswith("Metadata_")]
    label = pd.Series(data.groups.astype(str), dtype=object)
    for column in named:
        label = label + "|" + data.units[column].astype(str).to_numpy()
    # Units that no column tells apart (replicate rows) are numbered in their order.
    twin = label.groupby(label, sort=False).cumcount().astype(str)
    return (label + "|" + twin).to_numpy(dtype=np.str_)


def unit_column(data: TaskData, column: str, what: str) -> NDArray[np.str_]:
    """Return (n,) a metadata column of the units as text, from their wells where the units lack it.

    Negative controls may be without a value (``""``).

    Raises
    ------
    TaskError
        When neither units nor wells have the column, the wells of a unit differ in it, or it is empty for a
        unit that is no control. ``what`` says who needs it.
    """
    if column in data.units.columns:
        values = _text(data.units[column])
    elif column in data.wells.columns:
        well = _text(data.wells[column])
        links = data.members.tocoo()
        own = pd.DataFrame({"unit": links.row, "value": well[links.col]})[links.data != 0]
        several = own.groupby("unit")["value"].nunique()
        mixed = several.index[(several > 1) & ~data.control[several.index]]
        if len(mixed):
            seen = sorted(set(own.loc[own["unit"] == mixed[0], "value"]))
            raise TaskError(
                f"layer {data.layer!r}: {what} needs one {column} per unit, but unit row {mixed[0]} averages "
                f"wells of {', '.join(map(repr, seen[:3]))} ({len(mixed)} such units); add {column} to the "
                "layer's key"
            )
        values = np.full(len(data.groups), "", dtype=object)
        first = own.drop_duplicates("unit")
        values[first["unit"].to_numpy()] = first["value"].to_numpy()
    else:
        raise TaskError(
            f"layer {data.layer!r}: {what} needs the column {column}, which the wells table does not have; "
            "add it, or choose another protocol"
        )
    empty = np.flatnonzero((values == "") & ~data.control)
    if empty.size:
        raise TaskError(
            f"layer {data.layer!r}: {what} needs {column}, which is empty for unit row {empty[0]} "
            f"({str(data.groups[empty[0]])!r}; {empty.size} such units); fill it in or drop the rows"
        )
    return values.astype(np.str_)


def _text(column: pd.Series) -> NDArray[Any]:
    """Values as text, missing ones empty."""
    words = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return np.where(np.isin(words, ("nan", "None", "<NA>")), "", words)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Values of the left-out column per unit, and whether a perturbation stands in several."""

    values: NDArray[np.str_]
    count: int
    crossed: bool

    def deal(self, groups: NDArray[np.str_], protocol: Protocol, repeat: int) -> dict[str, NDArray[np.int16]]:
        """Return ``fold`` and ``block`` of every unit."""
        block = assign(self.values, min(protocol.outer_folds, self.count), protocol.seed, repeat)
        if not self.crossed:
            return {"fold": block, "block": block}
        inner = protocol.perturbation_folds
        fold = block * inner + assign(groups, inner, protocol.seed, repeat)
        return {"fold": fold.astype(np.int16), "block": block}


def _blocks(data: TaskData, protocol: Protocol, unit: NDArray[np.int64], groups: NDArray[np.str_]) -> _Blocks:
    values = unit_column(data, protocol.split_by, f"protocol {protocol.name!r}")[unit]
    names = np.unique(values)
    if len(names) < 2:
        raise TaskError(
            f"layer {data.layer!r}: every unit has {protocol.split_by} = {str(names[0])!r}, so protocol "
            f"{protocol.name!r} has nothing to leave out and train on the rest; choose another protocol"
        )
    pairs = pd.DataFrame({"group": groups, "value": values}).drop_duplicates()
    return _Blocks(values, len(names), bool(pairs["group"].duplicated().any()))


def _random_split(groups: NDArray[np.str_], protocol: Protocol, repeat: int) -> NDArray[np.int16]:
    """0 for the perturbations under test, :data:`TRAINED` and :data:`UNUSED` for the others."""
    order, inverse = _order(groups, protocol.seed, repeat)
    place, shares = order[inverse], protocol.shares
    test, aside = round(shares.test * len(order)), round(shares.validation * len(order))
    fold = np.full(len(groups), TRAINED, np.int16)
    fold[place < test] = 0
    if protocol.validation == "unused":
        fold[(place >= test) & (place < test + aside)] = UNUSED
    return fold


def assign(groups: NDArray[np.str_], k: int, seed: int, repeat: int = 0) -> NDArray[np.int16]:
    """Return (m,) fold of each row: groups in the order of their hash, dealt to ``k`` folds in turn.

    Fold sizes differ by at most one group; rows of one group share a fold; the result does not depend on the
    order of rows. With fewer groups than ``k`` some folds stay empty.
    """
    place, inverse = _order(groups, seed, repeat)
    return (place % k).astype(np.int16)[inverse]


def _order(groups: NDArray[np.str_], seed: int, repeat: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each distinct group in the order of hashes, and which group each row is of."""
    names, inverse = np.unique(groups, return_inverse=True)
    marks = [hashlib.sha256(f"{seed}\x1f{repeat}\x1f{name}".encode()).digest() for name in names]
    place = np.empty(len(names), np.int64)
    place[sorted(range(len(names)), key=marks.__getitem__)] = np.arange(len(names))
    return place, inverse


def digest(frame: pd.DataFrame) -> str:
    """Return the sha256 (hex) of a fold table, whatever the order of its rows."""
    columns = ["repeat", "fold", "unit", "perturbation", *(["block"] if "block" in frame.columns else [])]
    ordered = frame[columns].sort_values(["repeat", "unit"], kind="stable")
    lines = ("\x1f".join(map(str, row)) for row in ordered.itertuples(index=False, name=None))
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()


def strata(frame: pd.DataFrame, columns: tuple[str, ...], option: str) -> NDArray[np.str_]:
    """Return (n,) names of strata, ``column=value`` joined by ``, ``; ``all`` when there are no columns."""
    if not columns:
        return np.full(len(frame), "all")
    for column in columns:
        if column not in frame.columns:
            raise TaskError(f"{option} names {column!r}, which is not a column of the units")
    parts = [column + "=" + frame[column].astype(str) for column in columns]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + ", " + part
    return joined.to_numpy(dtype=np.str_)


def _check(
    data: TaskData,
    protocol: Protocol,
    unit: NDArray[np.int64],
    groups: NDArray[np.str_],
    table: pd.DataFrame,
) -> None:
    """Refuse a split whose smallest training set cannot be tuned."""
    need = protocol.min_groups_per_inner_fold * protocol.inner_folds
    stratum = strata(data.units, data.fit_by, "fit_by")[unit]
    code = np.unique(groups, return_inverse=True)[1]
    place = np.full(len(data.control), -1)
    place[unit] = np.arange(unit.size)
    trained = [place[split(table, *own)[1]] for own in ids(table)]
    for name in np.unique(stratum):
        inside = stratum == name
        total = len(np.unique(code[inside]))
        smallest = min(
            (len(np.unique(code[rows[inside[rows]]])) for rows in trained),
            default=0,
        )
        dealt = protocol.split in ("grouped", "random-units", "scaffold")
        if smallest >= need and not (dealt and total < protocol.outer_folds):
            continue
        raise TaskError(_refusal(data, protocol, str(name), total, smallest, int(inside.sum())))


def _refusal(data: TaskData, protocol: Protocol, stratum: str, total: int, smallest: int, units: int) -> str:
    """Say which training set is too small, and what would work."""
    need = protocol.min_groups_per_inner_fold * protocol.inner_folds
    what = {"random-units": "units", "scaffold": "scaffolds"}.get(protocol.split, "perturbations")
    where = "" if stratum == "all" else f" in stratum {stratum!r}"
    folds = {
        "random-splits": f"a share of {protocol.shares.train:g} for training leaves {smallest}",
        "leave-out": f"leaving out one {protocol.split_by} and its perturbations leaves {smallest}",
    }.get(protocol.split, f"{protocol.outer_folds} outer folds leave {smallest} to train on")
    return (
        f"layer {data.layer!r} has {total} {what}{where}, too few for {protocol.name!r}: {folds}, and "
        f"{protocol.inner_folds} inner folds need {need} "
        f"({protocol.min_groups_per_inner_fold} each); {_remedy(total, smallest, units, protocol)}"
    )


def _remedy(total: int, smallest: int, units: int, protocol: Protocol) -> str:
    """Say which settings would work with this many groups and units."""
    each = protocol.min_groups_per_inner_fold
    remedies = []
    if protocol.split in ("leave-out", "random-splits"):
        inner = smallest // each
        if inner >= 2:
            return f"a protocol file with inner_folds = {inner} would work"
        return "choose another protocol, or add perturbations"
    if total >= protocol.outer_folds:
        inner = (total - -(-total // protocol.outer_folds)) // each
        if inner >= 2:
            remedies.append(f"a protocol file with inner_folds = {inner} would work")
    else:
        inner = (total - 1) // each
        if total >= 2 and inner >= 2:
            remedies.append(
                f"a protocol file with outer_folds = {total}, the largest possible, and inner_folds = "
                f"{min(inner, protocol.inner_folds)} would work"
            )
    if protocol.split != "random-units":
        if not remedies:
            remedies.append("no number of folds works with so few")
        if units - -(-units // protocol.outer_folds) >= each * protocol.inner_folds:
            remedies.append("`--protocol random-wells` would run, but it is optimistic and labelled so")
    elif not remedies:
        remedies.append("add units")
    return "; ".join(remedies)
