"""The columns of the printed board: heading, text of a row, and from which width it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from leaderboard.render import cells

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.rules import Rules

ROLE_MARKS = {
    "entrant": "",
    "control": "control",
    "ceiling": "ceiling",
    "floor": "floor",
    "permuted": "permuted",
}


NARROW = 100
"""Below this many columns of a terminal headings are abbreviated."""


@dataclass(frozen=True, slots=True)
class Column:
    """One printed column.

    Parameters
    ----------
    heading
        Text above it, lines separated by a newline.
    text
        Row of :meth:`Board.to_frame` to text.
    short
        Heading on a terminal below :data:`NARROW`, where it differs.
    from_width
        Narrowest terminal that shows it.
    justify
        Alignment.
    """

    heading: str
    text: Callable[[Any], str]
    short: str = ""
    from_width: int = 0
    justify: Literal["left", "right"] = "right"


COLUMNS: tuple[Column, ...] = (
    Column("Rank", lambda row: cells.rank(row.rank_low, row.rank_high), short="#", justify="left"),
    Column("Entrant", lambda row: name(row), justify="left"),
    Column("Head", lambda row: row.head, from_width=100, justify="left"),
    Column(
        "Mean skill\n[{confidence:g} % interval]",
        lambda row: cells.interval(row.skill, row.skill_low, row.skill_high),
    ),
    Column(
        "Against the\none above", lambda row: cells.against_above(row.above_difference, row.above_verdict)
    ),
    Column("Resolv-\nable", lambda row: cells.number(row.above_mdd80), from_width=146),
    Column(
        "Predicts\n(permuted)",
        lambda row: cells.predictable(row.predictable, row.predictable_permuted),
        short="Predicts\n(perm.)",
    ),
    Column("Beyond\ncontrols", lambda row: cells.count(row.beyond_controls), short="Beyond\ncontr."),
    Column("Median\nskill", lambda row: cells.number(row.median_skill), from_width=138),
    Column("Cover-\nage", lambda row: cells.share(row.coverage), from_width=116),
    Column("Fit scope", lambda row: row.fit_scope, from_width=116, justify="left"),
    Column("Preset", lambda row: row.preset, from_width=160, justify="left"),
    Column("Time", lambda row: cells.seconds(row.seconds), from_width=100),
    Column("Memory", lambda row: cells.memory(row.peak_memory_mb), from_width=130),
)


def name(row: Any) -> str:
    """Label with its role where it is no entrant, or the word where an entrant is not ranked."""
    mark = row.role if row.role != "entrant" else ("not ranked" if row.unranked else "")
    return f"{row.label} ({mark})" if mark and mark != row.label else row.label


def heading(column: Column, rules: Rules, *, narrow: bool = False) -> str:
    """Heading of a column, with the level of the intervals it stands over."""
    text = column.short if narrow and column.short else column.heading
    return text.format(confidence=100 * (1 - rules.level))


def table(rows: pd.DataFrame, columns: tuple[Column, ...]) -> list[list[str]]:
    """Text of every row and column."""
    return [[column.text(row) for column in columns] for row in rows.itertuples(index=False)]
