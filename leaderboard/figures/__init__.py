"""Figures of boards and of plain frames: Altair charts, for notebooks and to save as SVG, PNG or CSV."""

from leaderboard.figures.base import Figure
from leaderboard.figures.overview import cost, intervals, matrix
from leaderboard.figures.readouts import scatter, shares, violins
from leaderboard.figures.strata import by_activity, by_stratum
from leaderboard.tables.naming import Absent

__all__ = [
    "Absent",
    "Figure",
    "by_activity",
    "by_stratum",
    "cost",
    "intervals",
    "matrix",
    "scatter",
    "shares",
    "violins",
]
