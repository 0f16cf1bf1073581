"""The tables of the founding papers: AUC levels, best and worst readouts, how many are significant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leaderboard.predictable import against_floor
from leaderboard.render.cells import MINUS, NOTHING, count, number
from leaderboard.tables.folds import fold_scores, spread
from leaderboard.tables.frames import Table
from leaderboard.tables.naming import Absent, labels

if TYPE_CHECKING:
    from leaderboard.board import Board
    from leaderboard.schema import Entry

LEVELS = (0.6, 0.7, 0.8, 0.9)
"""ROC AUC levels whose readouts are counted (the poster's, and one more)."""
RANGED = 3
"""Best entrants whose significant readouts are counted in every repeat alone too: it takes a test each."""
ENDS = 10
"""Readouts shown at each end."""


def percent(value: Any) -> str:
    """Return a share as a percentage with one decimal."""
    return NOTHING if pd.isna(value) else f"{100 * value:.1f} %"


def levels(boards: Sequence[Board]) -> Table | Absent:
    """Return the poster's Tables 1 and 3: mean AUC, and how many readouts reach each level, per board.

    Parameters
    ----------
    boards
        Boards of one task and layer, such as ``LAYER:up`` and ``LAYER:down``, or a single one.
    """
    title = "Readouts that reach a level"
    scored = [board for board in boards if board.metric == "ROC AUC"]
    if not scored:
        return Absent(title, "this task is not scored by ROC AUC")
    rows = []
    for board in scored:
        names = labels(board)
        for entry in board.entries:
            if entry.role == "floor":
                continue
            values = _skill(board, entry.run)
            values = values[np.isfinite(values)]
            row: dict[str, Any] = {
                "entrant": names[entry.run],
                "layer": entry.layer,
                "mean AUC": float(values.mean()) if len(values) else np.nan,
                "readouts": len(values),
            }
            for level in LEVELS:
                reached = int((values >= level).sum())
                row[f"≥ {level:g}"] = reached
                row[f"share ≥ {level:g}"] = reached / len(values) if len(values) else np.nan
            rows.append(row)
    caption = (
        "Mean ROC AUC over readouts, and the number and share of readouts at or above each level. Point "
        "estimates, which noise spreads: read the counts beside those of the permuted runs."
    )
    formats = {"mean AUC": number, "readouts": count}
    formats |= {f"≥ {level:g}": count for level in LEVELS}
    formats |= {f"share ≥ {level:g}": percent for level in LEVELS}
    return Table("levels", title, caption, pd.DataFrame(rows), formats)


def ends(board: Board, run: str, size: int = ENDS) -> Table | Absent:
    """Return the readouts of a run with the highest and lowest score, with their spread over outer folds.

    Estimands that the task adds (SMAPE, squared Pearson, Spearman …) stand beside it where defined.
    """
    entry = next(e for e in board.entries if e.run == run)
    title = f"Top and bottom {size} readouts: {labels(board)[run]}"
    skill = _skill(board, run)
    known = np.flatnonzero(np.isfinite(skill))
    if not len(known):
        return Absent(title, "the run has no readout with a defined score")
    order = known[np.argsort(-skill[known], kind="stable")]
    top = order[:size]
    bottom = order[max(len(order) - size, len(top)) :]
    chosen = np.concatenate([top, bottom])
    low, high = spread(fold_scores(entry, chosen))
    tests = _own(board, run)
    frame = pd.DataFrame(
        {
            "end": ["top"] * len(top) + ["bottom"] * len(bottom),
            "rank": [*range(1, len(top) + 1), *range(len(order) - len(bottom) + 1, len(order) + 1)],
            "readout": [entry.readouts[i] for i in chosen],
            board.metric: skill[chosen],
            "2.5 % of folds": low,
            "97.5 % of folds": high,
            "q": tests["q"].to_numpy(np.float64)[chosen],
        }
    )
    formats = {"rank": count, board.metric: number, "q": small}
    formats |= {"2.5 % of folds": number, "97.5 % of folds": number}
    for name, title_ in (("smape", "SMAPE, %"), ("pearson_r2", "Pearson r²"), ("spearman", "Spearman ρ")):
        values = _estimand(entry, name)
        if values is not None and np.isfinite(values[chosen]).any():
            frame[title_] = values[chosen]
            formats[title_] = number
    caption = (
        f"{len(top)} best and {len(bottom)} worst of {len(order)} readouts by {board.metric}. The two "
        "quantiles are over the run's outer folds (Image2Omics: 95 % over splits): how much a score moves "
        "from test set to test set, not a confidence interval. q: against the floor."
    )
    return Table("ends", title, caption, frame, formats)


def significant(board: Board) -> Table | Absent:
    """Return how many readouts of each run are significant, not, or without a score, with a range.

    The range is of the counts with each repeat of the cross-validation tested by itself.
    """
    title = "Readouts predicted better than the floor"
    names = labels(board)
    ranged = [entry.run for entry in board.entries if entry.role == "entrant"][:RANGED]
    if board.readouts["q"].isna().all():
        return Absent(title, "no readout of this board is tested by itself")
    rows = []
    for entry in board.entries:
        if entry.role not in ("entrant", "control", "ceiling", "permuted"):
            continue
        own = _own(board, entry.run)
        defined = own["skill"].notna().to_numpy()
        found = int(own["predictable"].sum())
        alone = _alone(board, entry, defined) if entry.run in ranged else []
        total = len(defined)
        rows.append(
            {
                "entrant": names[entry.run],
                "significant": found,
                "not significant": int(defined.sum()) - found,
                "without a score": int((~defined).sum()),
                "share": found / total,
                "share, least repeat": min(alone, default=np.nan) / total,
                "share, most repeat": max(alone, default=np.nan) / total,
            }
        )
    if not rows:
        return Absent(title, "only the floor stands on this board")
    formats = dict.fromkeys(("significant", "not significant", "without a score"), count)
    formats |= dict.fromkeys(("share", "share, least repeat", "share, most repeat"), percent)
    caption = (
        f"q < {board.rules.q:g} against the floor over all repeats (sign-flips over perturbations, "
        f"Benjamini–Hochberg). Range, of the {RANGED} best entrants: the same count with each repeat of the "
        "cross-validation tested alone."
    )
    return Table("significant", title, caption, pd.DataFrame(rows), formats)


def small(value: Any) -> str:
    """Return a p- or q-value: two significant digits, never as exactly 0."""
    if pd.isna(value):
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}".replace("-", MINUS)


def _alone(board: Board, entry: Entry, defined: Any) -> list[int]:
    """Count the significant readouts of an entrant in every repeat tested by itself."""
    if entry.fold_values is not None or len(entry.folds) < 2:
        return []
    found = []
    for repeat in range(len(entry.folds)):
        one = slice(repeat, repeat + 1)
        test = against_floor(entry.e[one], entry.e0[one], entry.folds[one], defined, board.rules)
        found.append(int(test.significant(board.rules.q).sum()))
    return found


def _own(board: Board, run: str) -> pd.DataFrame:
    return board.readouts[board.readouts["run"] == run]


def _skill(board: Board, run: str) -> Any:
    return _own(board, run)["skill"].to_numpy(np.float64)


def _estimand(entry: Entry, name: str) -> Any:
    """(T,) values of an estimand over all strata, in the order of the run's readouts; None without it."""
    scores = entry.scores
    if name not in scores or "stratum" not in scores:
        return None
    whole = scores[scores["stratum"] == "all"].set_index("readout")[name]
    return whole.reindex(list(entry.readouts)).to_numpy(np.float64)
