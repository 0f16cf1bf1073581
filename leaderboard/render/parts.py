"""Boards in parts (:mod:`leaderboard.strata`) in the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from leaderboard.render.cells import interval
from leaderboard.render.data import plain_records
from leaderboard.render.markdown import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from rich.console import Group

HEADINGS = ("Part", "n", "Entrant", "Mean score [interval]")


def terminal_parts(frame: pd.DataFrame) -> Group:
    """Return one table per board, parts in their order, runs within each as on the board."""
    from rich import box
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for title, own in frame.groupby("board", sort=False):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        for heading, justify in zip(HEADINGS, ("left", "right", "left", "right"), strict=True):
            wraps = heading in ("Part", "Entrant")
            table.add_column(Text(heading), justify=justify, no_wrap=not wraps, overflow="fold")  # type: ignore[arg-type]
        for texts, last in _lines(own):
            table.add_row(*map(Text, texts), end_section=last)
        parts += [Text(str(title), style="bold"), table, Text(_legend(own), style="dim")]
    return Group(*parts)


def markdown_parts(frame: pd.DataFrame) -> str:
    """Return one Markdown table per board."""
    lines = []
    for title, own in frame.groupby("board", sort=False):
        lines += [f"### {escape(str(title))}", "", "| " + " | ".join(HEADINGS) + " |"]
        lines += ["| --- | ---: | --- | ---: |"]
        lines += ["| " + " | ".join(map(escape, texts)) + " |" for texts, _ in _lines(own, repeat=True)]
        lines += ["", escape(_legend(own)), ""]
    return "\n".join(lines)


def csv_parts(frame: pd.DataFrame) -> str:
    """Return all rows in full precision."""
    return frame.to_csv(index=False, lineterminator="\n")


def json_parts(frame: pd.DataFrame) -> str:
    """Return all rows as strict JSON."""
    document: dict[str, Any] = {"schema_version": 1, "rows": plain_records(frame)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(own: pd.DataFrame, *, repeat: bool = False) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Texts of each row, the part's name once unless repeated, and whether the row is its part's last."""
    for stratum, rows in own.groupby("stratum", sort=False):
        for number, row in enumerate(_rows(rows)):
            first = number == 0 or repeat
            name = str(row.entrant) + (f" ({row.role})" if row.role != "entrant" else "")
            texts = (str(stratum) if first else "", str(row.n) if first else "", name)
            yield (*texts, interval(row.skill, row.low, row.high)), number == len(rows) - 1


def _rows(rows: pd.DataFrame) -> Iterator[Any]:
    yield from rows.itertuples(index=False)


def _legend(own: pd.DataFrame) -> str:
    counted = f"n: {' or '.join(dict.fromkeys(own['of']))}."
    notes = [f"{note}." for note in dict.fromkeys(own["note"]) if note]
    counted = " ".join([counted, *notes])
    if own["low"].isna().all():
        known = own["of"].ne("readouts").all() or "without an interval" in counted
        return counted if known else f"{counted} Points: error rates under this protocol are unknown."
    return f"{counted} Intervals are of one part each, not corrected for looking at many."
