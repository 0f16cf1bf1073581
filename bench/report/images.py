"""Figures of wells and features: plates, maps before and after plate correction, canonical correlations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import activity, runs
from bench import problem as problems
from bench.errors import BenchError
from bench.report.attribution import TITLE, attribution
from bench.report.values import first_repeat
from leaderboard.tables.naming import Absent as Missing

if TYPE_CHECKING:
    from bench.problem import Problem
    from bench.store import Store
    from leaderboard import Board
    from leaderboard.figures import Absent, Figure

LEFT_OUT = Missing(TITLE, "left out as asked (--no-attribution)")
MOST_SETS = 4
"""Feature sets related to each other, the best entrants first."""


def figures(
    store: Store,
    boards: Sequence[Board],
    by_run: Mapping[str, Any],
    *,
    maps: bool,
    gradients: bool,
    tick: Callable[..., None],
) -> list[Figure | Absent]:
    """Return the figures that belong to wells: once per dataset version."""
    found: list[Figure | Absent] = []
    firsts: dict[tuple[str, str], Board] = {}
    for board in boards:
        firsts.setdefault((board.entries[0].dataset, board.entries[0].dataset_version), board)
    for number, board in enumerate(firsts.values(), start=1):
        own = _of_dataset(store, board, by_run, maps=maps)
        problem = problems.load(store, by_run[board.entries[0].run]["problem"])
        own.append(attribution(store, board, by_run, problem, tick) if gradients else LEFT_OUT)
        found += _numbered(own, board.entries[0].dataset, number) if len(firsts) > 1 else own
        tick("features and plates", number, len(firsts))
    return found


def _numbered(items: list[Figure | Absent], dataset: str, number: int) -> list[Figure | Absent]:
    """Tell the figures of several datasets apart."""
    from leaderboard.figures import Absent

    return [
        replace(item, title=f"{dataset}: {item.title}")
        if isinstance(item, Absent)
        else replace(item, title=f"{dataset}: {item.title}", name=f"{item.name}-{number}")
        for item in items
    ]


def _of_dataset(
    store: Store, board: Board, by_run: Mapping[str, Any], *, maps: bool
) -> list[Figure | Absent]:
    from leaderboard.figures import Absent, by_activity
    from leaderboard.figures.wells import canonical
    from leaderboard.figures.wells import maps as draw_maps

    problem = problems.load(store, by_run[board.entries[0].run]["problem"])
    sets, reasons = activity.features(store, board, by_run, problem, MOST_SETS)
    found: list[Figure | Absent] = [
        _errors(store, board, by_run, problem),
        _cells(store, board, problem),
    ]
    title = "Map of wells before and after plate correction"
    if not sets:
        why = reasons[0] if reasons else "no entrant of this board has features in the store"
        found += [Absent(title, why), Absent("Canonical correlation between feature sets", why)]
    else:
        label, X = next(iter(sets.items()))
        if maps:
            found.append(draw_maps(X, problem.data.wells, label))
        else:
            found.append(Absent(title, "left out as asked (--no-umap)"))
        found.append(canonical(sets, activity.groups(problem)))
        found.append(by_activity(board, *activity.measured(X, label, problem)))
    return found


def _errors(store: Store, board: Board, by_run: Mapping[str, Any], problem: Problem) -> Figure | Absent:
    """Plates coloured by how badly the leading entrant's predictions miss, relative to the floor."""
    import numpy as np

    from leaderboard.figures import Absent
    from leaderboard.figures.wells import plates
    from leaderboard.report.sections import leading
    from leaderboard.tables.naming import labels

    title = "Plates: error of the predictions"
    run = leading(board)
    if run is None or board.metric != "skill":
        return Absent(title, "the first board has no entrant with squared errors")
    data = problem.data
    Y = data.Y.astype(np.float64)
    own, nothing = np.full(len(Y), np.nan), np.full(len(Y), np.nan)
    scale = np.nanvar(np.where(data.control[:, None], np.nan, Y), axis=0)
    scale = np.where(scale > 0, scale, np.nan)
    for fold in (runs.load_fold(store, run, *f) for f in first_repeat(by_run[run]["folds"])):
        for values, into in ((fold.prediction, own), (fold.floor, nothing)):
            error = (values - Y[fold.rows]) ** 2 / scale
            known = np.isfinite(error)
            total = np.where(known, error, 0.0).sum(axis=1)
            into[fold.rows] = np.divide(
                total, known.sum(axis=1), out=np.full(len(total), np.nan), where=known.any(axis=1)
            )
    frame = _per_well(problem, own / nothing)
    caption = (
        f"{labels(board)[run]}, {board.entries[0].layer}: squared error of a well's unit over readouts, each "
        "in units of its variance, divided by that of the training mean; below 1 is better than the floor. "
        "First repeat; blank wells were not tested."
    )
    return plates(frame, "plates-error", title, "error, as a share of the floor's", caption)


def _cells(store: Store, board: Board, problem: Problem) -> Figure | Absent:
    """Plates coloured by the number of cells, where the control that counts them was run."""
    import pandas as pd

    from leaderboard.figures import Absent
    from leaderboard.figures.wells import plates

    title = "Plates: number of cells"
    run = next((e.run for e in board.entries if e.name == "cell-count"), None)
    if run is None:
        return Absent(title, "the control cell-count was not run")
    try:
        X = activity.stored_features(store, run, problem)
    except BenchError as error:
        return Absent(title, str(error).rstrip("."))
    wells = problem.data.wells
    frame = pd.DataFrame(
        {"plate": wells["Metadata_Plate"], "well": wells["Metadata_Well"], "value": X[:, 0].astype(float)}
    )
    return plates(
        frame,
        "plates-cells",
        title,
        "cells per field, mean",
        "Cells that the segmentation found, mean over the fields of a well.",
    )


def _per_well(problem: Problem, values: Any) -> Any:
    """Frame of plate, well and value: the mean over the units a well belongs to."""
    import numpy as np
    import pandas as pd

    data = problem.data
    links = data.members.tocoo()
    known = np.isfinite(values[links.row])
    total = np.bincount(links.col[known], values[links.row[known]], minlength=len(data.wells))
    count = np.bincount(links.col[known], minlength=len(data.wells))
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    wells = data.wells
    return pd.DataFrame({"plate": wells["Metadata_Plate"], "well": wells["Metadata_Well"], "value": mean})
