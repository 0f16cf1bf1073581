"""A board as terminal table, Markdown, CSV and JSON, all from :meth:`leaderboard.sheet.Sheet.to_frame`."""

from __future__ import annotations

from leaderboard.render.data import csv, json
from leaderboard.render.markdown import markdown
from leaderboard.render.terminal import terminal

__all__ = ["csv", "json", "markdown", "terminal"]
