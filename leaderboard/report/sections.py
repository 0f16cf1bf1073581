"""One board to its section of the page: the ranked table, figures, tables, and what cannot be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leaderboard.figures import overview, predicted, readouts, strata
from leaderboard.figures.base import Figure
from leaderboard.render.cells import NOTHING
from leaderboard.render.columns import COLUMNS, Column, legend, title
from leaderboard.report.material import BoardMaterial
from leaderboard.tables import poster
from leaderboard.tables.folds import fold_scores
from leaderboard.tables.frames import Table
from leaderboard.tables.naming import Absent, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leaderboard.board import Board

PANEL = 3
"""Readouts at each end of the leading entrant whose folds and predictions can be opened."""
SORTED_BY = {
    "Rank": "rank",
    "Entrant": "label",
    "Mean": "skill",
    "Against": "above_difference",
    "Resolvable": "above_mdd80",
    "Predicts": "predictable",
    "Beyond": "beyond_controls",
    "Median": "median_skill",
    "Of": "share_of_ceiling",
    "Coverage": "coverage",
    "Time": "seconds",
    "Memory": "peak_memory_mb",
}
"""First word of a heading to the column of the rows that orders it; others are ordered by their text."""


@dataclass(frozen=True, eq=False)
class Section:
    """What the page's template shows of one board; ``data`` is what its script reads."""

    anchor: str
    title: str
    short: str
    banner: str
    legend: str
    notes: list[str]
    key: dict[str, str]
    headings: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    controls: str
    figures: list[Figure]
    tables: list[Table]
    absent: list[Absent]
    material: BoardMaterial
    panel: dict[str, Any] = field(default_factory=dict)


def section(board: Board, number: int, siblings: Sequence[Board], material: BoardMaterial | None) -> Section:
    """Build the section of one board.

    Parameters
    ----------
    number
        Its place among the boards, from 0.
    siblings
        Boards of the same layer and task shown in one table (``LAYER:up`` and ``LAYER:down``).
    """
    material = material or BoardMaterial()
    panel = panel_of(board, material)
    shown: list[Figure | Table | Absent] = [
        overview.intervals(board),
        overview.matrix(board),
        overview.cost(board),
        *_papers(board, siblings),
        strata.by_stratum(board),
        predicted.measured_against_predicted(board, material.predictions),
        *material.figures,
    ]
    first = board.entries[0]
    return Section(
        anchor=f"board-{number + 1}",
        title=board.title,
        short=f"{first.layer} · {first.task}",
        banner=board.banner,
        legend=legend(board),
        notes=list(board.notes),
        key=board.key(),
        headings=[{"text": title(c, board), "right": c.justify == "right"} for c in _columns(board)],
        rows=_ranked(board),
        controls=_controls(board),
        figures=[item for item in shown if isinstance(item, Figure)],
        tables=[item for item in shown if isinstance(item, Table)],
        absent=[item for item in shown if isinstance(item, Absent)],
        material=material,
        panel=_panel_data(board, material, panel),
    )


def leading(board: Board) -> str | None:
    """Run of the best entrant with a score, ranked ones first; None on a board without one."""
    rows = board.rows[(board.rows["role"] == "entrant") & board.rows["skill"].notna()]
    if rows.empty:
        return None
    return str(rows.sort_values("rank", na_position="last", kind="stable")["run"].iloc[0])


def panel_of(board: Board, material: BoardMaterial | None = None, size: int = PANEL) -> list[str]:
    """Return the readouts to open whole: best and worst of the leading entrant, and those named."""
    run = leading(board)
    chosen: list[str] = []
    if run is not None:
        own = board.readouts[(board.readouts["run"] == run) & board.readouts["skill"].notna()]
        order = own.sort_values("skill", ascending=False, kind="stable")["readout"].astype(str).tolist()
        chosen = [*order[:size], *order[max(size, len(order) - size) :]]
    known = set(board.entries[0].readouts)
    named = [name for name in (material.panel if material else ()) if name in known]
    return list(dict.fromkeys([*chosen, *named]))


def _papers(board: Board, siblings: Sequence[Board]) -> list[Figure | Table | Absent]:
    table = poster.significant(board)
    run = leading(board)
    found: list[Figure | Table | Absent] = [
        readouts.violins([board]),
        readouts.shares(table) if isinstance(table, Table) else table,
        poster.levels(siblings),
    ]
    if run is None:
        return [*found, Absent("Top and bottom readouts", "no entrant has a defined score")]
    return [*found, poster.ends(board, run)]


def _columns(board: Board) -> list[Column]:
    """Return the columns that are always shown, and those that say something of any run."""
    rows = list(board.rows.itertuples(index=False))
    return [c for c in COLUMNS if not c.priority or any(c.text(row) != NOTHING for row in rows)]


def _ranked(board: Board) -> list[dict[str, Any]]:
    rows = []
    columns = _columns(board)
    for row in board.rows.itertuples(index=False):
        cells = []
        for column in columns:
            by = SORTED_BY.get(title(column, board).split()[0])
            value = getattr(row, by) if by else None
            key = "" if value is None or pd.isna(value) else value
            cells.append({"text": column.text(row), "key": key, "right": column.justify == "right"})
        rows.append({"cells": cells, "role": row.role, "ties": row.ties, "unranked": row.unranked})
    return rows


def _controls(board: Board) -> str:
    names = labels(board)
    by_role = {
        role: [names[e.run] for e in board.entries if e.role == role]
        for role in ("control", "ceiling", "permuted", "floor")
    }
    return "; ".join(f"{role}: {', '.join(found) or 'none'}" for role, found in by_role.items())


def _panel_data(board: Board, material: BoardMaterial, panel: list[str]) -> dict[str, Any]:
    """Scores per outer fold and predictions of the panel, by readout and place of the run."""
    if not panel:
        return {}
    found: dict[str, Any] = {name: {"folds": {}, "predictions": {}} for name in panel}
    for number, entry in enumerate(board.entries):
        place = {name: i for i, name in enumerate(entry.readouts)}
        here = [name for name in panel if name in place]
        if not here or entry.role == "floor":
            continue
        scores = fold_scores(entry, np.array([place[name] for name in here]))
        for column, name in enumerate(here):
            found[name]["folds"][number] = [
                float(f"{v:.4g}") if np.isfinite(v) else None for v in scores[:, column]
            ]
    frame = material.predictions
    if frame is not None:
        numbers = {entry.run: i for i, entry in enumerate(board.entries)}
        for (run, readout), own in frame.groupby(["run", "readout"], sort=False):
            name = str(readout)
            if name in found and run in numbers:
                found[name]["predictions"][numbers[run]] = {
                    "unit": own["unit"].astype(str).tolist(),
                    "measured": [float(f"{v:.5g}") for v in own["measured"]],
                    "predicted": [float(f"{v:.5g}") for v in own["predicted"]],
                }
    return found
