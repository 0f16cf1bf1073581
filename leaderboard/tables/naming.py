"""How runs and metrics are called in tables and figures, and what stands where there is nothing to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leaderboard.board import Board


@dataclass(frozen=True, slots=True)
class Absent:
    """A figure or table that cannot be shown: its title and the reason, one sentence without a full stop."""

    title: str
    reason: str


def labels(board: Board) -> dict[str, str]:
    """Name of each run on a board, unique: the label, with the head or the run where labels repeat."""
    rows = board.rows
    label = rows["label"].astype(str)
    head = label + " (" + rows["head"].astype(str) + ")"
    label = label.where(~label.duplicated(keep=False), head)
    label = label.where(~label.duplicated(keep=False), head + " " + rows["run"].astype(str).str[:8])
    return dict(zip(rows["run"].astype(str), label, strict=True))


def metric_title(board: Board, what: str = "mean") -> str:
    """Axis title of the board's metric: R² has the training mean as 0, an AUC has chance as 0.5."""
    unit = "skill (R²)" if board.metric == "skill" else board.metric
    return f"{what} {unit}".strip()


def floor_value(board: Board) -> float | None:
    """Score that shows nothing: the floor's on this board, else that of the metric; None where unknown."""
    own = board.rows.loc[board.rows["role"] == "floor", "skill"].dropna()
    if len(own):
        return float(own.iloc[0])
    return {"skill": 0.0, "ROC AUC": 0.5}.get(board.metric)
