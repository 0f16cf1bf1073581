"""Stored predictions of a panel, and the figures that need predictions or measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import runs

if TYPE_CHECKING:
    import pandas as pd

    from bench.problem import Problem
    from bench.store import Store
    from leaderboard import Board
    from leaderboard.figures import Absent, Figure

AUC = "ROC AUC"
MOST_UNITS = 1000
"""Units whose measured and predicted values are shown; beyond it, evenly spaced ones."""
DRAWN = ("entrant",)
DOSE = "Metadata_Concentration"
WITHIN_SKILL = (
    "Mean skill over readouts within each dose: errors of the first repeat's out-of-fold predictions, rows "
    "of a perturbation averaged; the floor is the training mean of all doses."
)
WITHIN_AUC = (
    "Mean over readouts of the ROC AUC within each dose: pairs of units of that dose within one fold of the "
    "first repeat, averaged over the folds that have both classes; few pairs, so points that scatter."
)


def first_repeat(record_folds: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the outer folds of the first repeat: every tested unit once."""
    return [(int(r), int(f)) for r, f in record_folds if r == 0]


def predictions(store: Store, board: Board, problem: Problem, panel: Sequence[str]) -> pd.DataFrame | None:
    """Return measured and out-of-fold predicted values of the panel, first repeat, for every entrant."""
    import numpy as np
    import pandas as pd

    data = problem.data
    place = {name: i for i, name in enumerate(data.readouts)}
    columns = [place[name] for name in panel if name in place]
    if not columns or board.metric not in ("skill", AUC):
        return None
    parts = []
    units = _unit_names(data.units)
    for entry in board.entries:
        if entry.role not in DRAWN:
            continue
        record = runs.load_record(store, entry.run)
        folds = [runs.load_fold(store, entry.run, *fold) for fold in first_repeat(record["folds"])]
        rows = np.concatenate([fold.rows for fold in folds])
        values = np.concatenate([fold.prediction[:, columns] for fold in folds])
        if len(rows) > MOST_UNITS:
            kept = np.unique(np.linspace(0, len(rows) - 1, MOST_UNITS).round().astype(int))
            rows, values = rows[kept], values[kept]
        for column, index in enumerate(columns):
            own = pd.DataFrame(
                {
                    "run": entry.run,
                    "readout": data.readouts[index],
                    "unit": [units[row] for row in rows],
                    "measured": data.Y[rows, index],
                    "predicted": values[:, column],
                }
            )
            parts.append(own.dropna())
    return pd.concat(parts, ignore_index=True) if parts else None


def figures(
    store: Store,
    board: Board,
    by_run: Mapping[str, Any],
    problem: Problem,
    locations: pd.DataFrame | None,
    pathways: Mapping[str, frozenset[str]] | None,
) -> list[Figure | Absent]:
    """Return the figures of one board that need more than its scores."""
    import numpy as np
    import pandas as pd

    from leaderboard.figures import Absent
    from leaderboard.figures.explained import by_location, forest
    from leaderboard.report.sections import leading

    found: list[Figure | Absent] = [dose(store, board, by_run, problem)]
    run = leading(board)
    if run is None:
        return found
    if locations is None:
        found.append(Absent("Score by location", "no table of locations was given (--locations FILE)"))
    else:
        found.append(by_location(board, run, locations))
    if locations is None and pathways is None:
        found.append(
            Absent("What goes with the score", "neither locations nor pathways were given (--pathways FILE)")
        )
        return found
    data = problem.data
    abundance = None
    if board.metric == "skill":
        with np.errstate(invalid="ignore"):
            known = np.isfinite(data.Y).any(axis=0)
            means = np.full(data.Y.shape[1], np.nan)
            means[known] = np.nanmean(data.Y[:, known], axis=0, dtype=np.float64)
        abundance = pd.Series(means, index=list(data.readouts))
    found.append(forest(board, run, locations, pathways, abundance))
    return found


def dose(store: Store, board: Board, by_run: Mapping[str, Any], problem: Problem) -> Figure | Absent:
    """Skill against dose from the stored predictions of the first repeat, where units differ in dose."""
    import numpy as np
    import pandas as pd

    from leaderboard.figures import Absent
    from leaderboard.figures.strata import profile
    from leaderboard.tables.naming import labels, metric_title

    title = "Skill against dose"
    data = problem.data
    if board.metric not in ("skill", AUC):
        return Absent(title, "the board's score has no part per unit")
    if DOSE not in data.units.columns:
        return Absent(title, f"units of this layer have no {DOSE}, or hold several doses each")
    doses = pd.to_numeric(data.units[DOSE], errors="coerce").to_numpy(np.float64)
    levels = np.unique(doses[np.isfinite(doses) & ~data.control])
    if len(levels) < 2:
        return Absent(title, f"units of this layer stand at {len(levels)} dose{'s' * (len(levels) != 1)}")
    names = labels(board)
    code = np.unique(data.groups, return_inverse=True)[1]
    rows = []
    for entry in board.entries:
        if entry.role not in ("entrant", "control", "ceiling"):
            continue
        folds = [runs.load_fold(store, entry.run, *fold) for fold in first_repeat(by_run[entry.run]["folds"])]
        for level in levels:
            if board.metric == AUC:
                score = _auc([(f.rows, f.prediction) for f in folds], data.Y, doses == level)
            else:
                score = _skill([(f.rows, f.prediction, f.floor) for f in folds], data.Y, code, doses == level)
            rows.append((names[entry.run], f"Metadata_Concentration={level:g}", score))
    frame = pd.DataFrame(rows, columns=["entrant", "stratum", "score"]).dropna()
    if frame.empty:
        return Absent(title, "no dose has a defined skill")
    caption = WITHIN_AUC if board.metric == AUC else WITHIN_SKILL
    return profile(frame, metric_title(board), "dose", title, caption)


def _skill(folds: Sequence[tuple[Any, Any, Any]], Y: Any, code: Any, keep: Any) -> float:
    """Mean over readouts of 1 - sum e / sum e0, each perturbation's kept rows averaged first."""
    import numpy as np

    shape = (int(code.max()) + 1, Y.shape[1])
    e, e0, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for rows, prediction, floor in folds:
        inside = keep[rows]
        own, y = rows[inside], Y[rows[inside]].astype(np.float64)
        p, f = prediction[inside].astype(np.float64), floor[inside].astype(np.float64)
        known = np.isfinite(y) & np.isfinite(p) & np.isfinite(f)
        np.add.at(e, code[own], np.where(known, (p - y) ** 2, 0.0))
        np.add.at(e0, code[own], np.where(known, (f - y) ** 2, 0.0))
        np.add.at(count, code[own], known)
    some = count > 0
    total = np.divide(e0, count, out=np.zeros(shape), where=some).sum(axis=0)
    mine = np.divide(e, count, out=np.zeros(shape), where=some).sum(axis=0)
    defined = total > 0
    return float((1 - mine[defined] / total[defined]).mean()) if defined.any() else float("nan")


def _auc(folds: Sequence[tuple[Any, Any]], Y: Any, keep: Any) -> float:
    """Mean over readouts of the mean over folds of the ROC AUC among a fold's kept rows."""
    import numpy as np

    from tasks.ranking import roc_auc

    found = []
    for rows, prediction in folds:
        inside = keep[rows]
        y, p = Y[rows[inside]].astype(np.float64), prediction[inside].astype(np.float64)
        found.append(roc_auc(y, p, np.isfinite(y) & np.isfinite(p)))
    values = np.stack(found)
    known = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0)[known > 0] / known[known > 0]
    return float(mean.mean()) if len(mean) else float("nan")


def _unit_names(units: pd.DataFrame) -> list[str]:
    """What tells a unit from others, joined: compound and dose, or plate and well."""
    wanted = [
        c
        for c in ("Metadata_Compound", "Metadata_Gene", DOSE, "Metadata_Plate", "Metadata_Well")
        if c in units.columns
    ]
    columns = wanted or [c for c in units.columns if c.startswith("Metadata_")][:3]
    if not columns:
        return [f"unit {i}" for i in range(len(units))]
    return [" ".join(map(str, row)) for row in units[columns].itertuples(index=False, name=None)]
