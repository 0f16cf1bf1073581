"""Tables for papers, from boards alone: AUC levels, best and worst readouts, significant shares."""

from leaderboard.tables.frames import Table, guarded
from leaderboard.tables.poster import ends, levels, significant

__all__ = ["Table", "ends", "guarded", "levels", "significant"]
