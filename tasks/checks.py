"""What every task asks of its data before anything is fitted: shapes that agree, names, finite readouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskError
from tasks.folds import strata

if TYPE_CHECKING:
    from tasks.base import TaskData


def check_wells(data: TaskData) -> None:
    """Raise :class:`TaskError` with what is wrong with wells that carry no readout."""
    if data.control.all():
        raise TaskError(
            f"{len(data.groups)} wells are all negative controls: there is no perturbation to test"
        )
    _named(data, "the wells", "well")


def check(data: TaskData) -> None:
    """Raise :class:`TaskError` with the first thing that is wrong with the data.

    Readouts that are constant or never observed are no error: they stay, and score NaN.
    """
    n, T = data.Y.shape
    where = f"layer {data.layer!r}"
    expected = {
        "units": (len(data.units), n),
        "groups": (len(data.groups), n),
        "control": (len(data.control), n),
        "readouts": (len(data.readouts), T),
        "rows of members": (data.members.shape[0], n),
        "columns of members": (data.members.shape[1], len(data.wells)),
        "well_control": (len(data.well_control), len(data.wells)),
    }
    for name, (found, needed) in expected.items():
        if found != needed:
            raise TaskError(f"{where}: {found} {name} where the readouts and wells need {needed}")
    if n == 0 or T == 0:
        raise TaskError(f"{where} has {n} units and {T} readouts: there is nothing to predict")
    if len(set(data.readouts)) < T:
        twice = next(r for i, r in enumerate(data.readouts) if r in data.readouts[:i])
        raise TaskError(f"{where}: readout {twice!r} stands twice; give readouts unique names")
    _named(data, where, "unit")
    if data.control.all():
        raise TaskError(f"{where} has negative controls only: there is no perturbation to test")
    infinite = np.argwhere(np.isinf(data.Y))
    if len(infinite):
        row, column = infinite[0]
        raise TaskError(
            f"{where}: readout {data.readouts[column]!r} of unit row {row} is infinite ({len(infinite)} such "
            "values); make it missing or repair the transform"
        )
    strata(data.units, data.fit_by, "fit_by")
    strata(data.units, data.score_by, "score_by")


def _named(data: TaskData, where: str, what: str) -> None:
    nameless = np.flatnonzero(np.isin(data.groups, ("", "nan", "None", "<NA>")) & ~data.control)
    if nameless.size:
        raise TaskError(
            f"{where}: {what} row {nameless[0]} has no perturbation ({nameless.size} such {what}s); "
            "name it or drop the row"
        )
