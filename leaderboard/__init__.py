"""Scores and per-perturbation summands to intervals, comparisons, ranks and tables, over arrays and frames.

>>> from leaderboard import Entry, Leaderboard, compare
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leaderboard.board import Board, Leaderboard
    from leaderboard.comparison import Comparison, compare
    from leaderboard.rules import Rules
    from leaderboard.schema import BoardError, Entry

__all__ = ["Board", "BoardError", "Comparison", "Entry", "Leaderboard", "Rules", "compare"]

_HOMES = {
    "Board": "leaderboard.board",
    "BoardError": "leaderboard.schema",
    "Comparison": "leaderboard.comparison",
    "Entry": "leaderboard.schema",
    "Leaderboard": "leaderboard.board",
    "Rules": "leaderboard.rules",
    "compare": "leaderboard.comparison",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: numpy and pandas cost half a second."""
    if name not in _HOMES:
        raise AttributeError(f"module 'leaderboard' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
