"""Outer and inner folds: which units are tested when. Made once, stored and shared by every entrant.

The order in which groups are dealt to folds is the order of sha256(seed, repeat, name), so that it depends
neither on the order of rows nor on a library's random generator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData
    from tasks.protocol import Protocol


def make(data: TaskData, protocol: Protocol) -> pd.DataFrame:
    """Deal the units to R × K outer folds.

    Under ``grouped`` every perturbation is tested as a whole and folds differ by at most one perturbation;
    under ``random-units`` units are dealt singly and folds differ by at most one unit. Negative controls are
    absent: they are neither trained on nor tested.

    Returns
    -------
    DataFrame
        ``repeat`` and ``fold`` (int16), ``unit`` (int64, row of ``data.units``), ``perturbation``; every unit
        that is not a control once per repeat, ordered by repeat and unit.

    Raises
    ------
    TaskError
        When a training set would hold fewer than ``min_groups_per_inner_fold`` groups per inner fold, in the
        whole or in a stratum of ``fit_by``; the message says what would work.
    """
    unit = np.flatnonzero(~data.control)
    if unit.size == 0:
        raise TaskError(
            f"layer {data.layer!r} has no unit that is not a negative control: there is nothing to test"
        )
    groups = split_groups(data, protocol)[unit]
    frames = []
    for repeat in range(protocol.repeats):
        frame = {
            "repeat": np.full(unit.size, repeat, np.int16),
            "fold": assign(groups, protocol.outer_folds, protocol.seed, repeat),
            "unit": unit.astype(np.int64),
            "perturbation": data.groups[unit],
        }
        frames.append(pd.DataFrame(frame))
    _check(data, protocol, unit, groups, [frame["fold"].to_numpy() for frame in frames])
    return pd.concat(frames, ignore_index=True)


def split_groups(data: TaskData, protocol: Protocol) -> NDArray[np.str_]:
    """Return (n,) names of what is kept together: perturbations, or the units under ``random-units``."""
    if protocol.split == "grouped":
        return data.groups
    named = [column for column in sorted(data.units.columns) if str(column).startswith("Metadata_")]
    label = pd.Series(data.groups.astype(str), dtype=object)
    for column in named:
        label = label + "|" + data.units[column].astype(str).to_numpy()
    # Units that no column tells apart (replicate rows) are numbered in their order.
    twin = label.groupby(label, sort=False).cumcount().astype(str)
    return (label + "|" + twin).to_numpy(dtype=np.str_)


def assign(groups: NDArray[np.str_], k: int, seed: int, repeat: int = 0) -> NDArray[np.int16]:
    """Return (m,) fold of each row: groups in the order of their hash, dealt to ``k`` folds in turn.

    Fold sizes differ by at most one group; rows of one group share a fold; the result does not depend on the
    order of rows. With fewer groups than ``k`` some folds stay empty.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    marks = [hashlib.sha256(f"{seed}\x1f{repeat}\x1f{name}".encode()).digest() for name in names]
    fold = np.empty(len(names), np.int16)
    fold[sorted(range(len(names)), key=marks.__getitem__)] = np.arange(len(names)) % k
    return fold[inverse]


def digest(frame: pd.DataFrame) -> str:
    """Return the sha256 (hex) of a fold table, whatever the order of its rows."""
    columns = ["repeat", "fold", "unit", "perturbation"]
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
    folds: list[NDArray[np.int16]],
) -> None:
    """Refuse a split whose smallest training set cannot be tuned."""
    need = protocol.min_groups_per_inner_fold * protocol.inner_folds
    stratum = strata(data.units, data.fit_by, "fit_by")[unit]
    for name in np.unique(stratum):
        inside = stratum == name
        total = len(np.unique(groups[inside]))
        smallest = min(
            len(np.unique(groups[inside & (fold != k)]))
            for fold in folds
            for k in range(protocol.outer_folds)
        )
        empty = total < protocol.outer_folds
        if smallest >= need and not empty:
            continue
        what = "perturbations" if protocol.split == "grouped" else "units"
        where = "" if name == "all" else f" in stratum {str(name)!r}"
        raise TaskError(
            f"layer {data.layer!r} has {total} {what}{where}, too few for {protocol.name!r}: "
            f"{protocol.outer_folds} outer folds leave {smallest} to train on, and "
            f"{protocol.inner_folds} inner folds need {need} "
            f"({protocol.min_groups_per_inner_fold} each); {_remedy(total, int(inside.sum()), protocol)}"
        )


def _remedy(total: int, units: int, protocol: Protocol) -> str:
    """Say which settings would work with this many groups and units."""
    each = protocol.min_groups_per_inner_fold
    remedies = []
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
    if protocol.split == "grouped":
        if not remedies:
            remedies.append("no number of folds works with so few perturbations")
        if units - -(-units // protocol.outer_folds) >= each * protocol.inner_folds:
            remedies.append("`--protocol random-wells` would run, but it is optimistic and labelled so")
    elif not remedies:
        remedies.append("add units")
    return "; ".join(remedies)
