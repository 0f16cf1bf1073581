"""The columns of the printed board: heading, text of a row, and which go first where there is little room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from leaderboard.folded import AUC
from leaderboard.render import cells

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.sheet import Sheet

NAME = "Entrant"
"""Heading of the one column that may wrap: a number that is cut says something else."""
SHORT_NAME, LEAST_NAME, GOOD_NAME = 8, 14, 18
"""Widths that the needed columns, then the deciding ones, then the further ones leave to long names."""
GAP = 2
"""Blanks after a column."""
_NEEDED = 0.5
"""Priority of a needed column: after those always shown, before the counts."""


@dataclass(frozen=True, slots=True)
class Column:
    """One printed column.

    Parameters
    ----------
    heading
        Text above it, lines separated by a newline.
    text
        Row of :meth:`Sheet.to_frame` to text.
    priority
        0: always shown. 1: shown where names keep :data:`LEAST_NAME`. From 2 on: added in this order while
        names keep :data:`GOOD_NAME`.
    justify
        Alignment.
    needed
        Rows of a board to whether the column stands before the counts there: it is shown where names keep
        :data:`SHORT_NAME`, which 80 columns give.
    """

    heading: str
    text: Callable[[Any], str]
    priority: int = 0
    justify: Literal["left", "right"] = "right"
    needed: Callable[[pd.DataFrame], bool] = lambda _: False


def _heads_differ(rows: pd.DataFrame) -> bool:
    """Whether the head tells rows apart; the floor's is its own."""
    return rows.loc[rows["role"] != "floor", "head"].drop_duplicates().size > 1


def _coverage_is_partial(rows: pd.DataFrame) -> bool:
    return bool((rows["coverage"] < 1).any())


COLUMNS: tuple[Column, ...] = (
    Column("Rank", lambda row: cells.rank(row.rank_low, row.rank_high), justify="left"),
    Column(NAME, lambda row: name(row), justify="left"),
    Column("Head", lambda row: row.head, priority=2, justify="left", needed=_heads_differ),
    Column(
        "Mean {metric}\n[{confidence:g} % interval]",
        lambda row: cells.interval(row.skill, row.skill_low, row.skill_high),
    ),
    Column(
        "Against the\none above", lambda row: cells.against_above(row.above_difference, row.above_verdict)
    ),
    Column("Resolv-\nable", lambda row: cells.number(row.above_mdd80), priority=8),
    Column(
        "Predicts\n(perm.)",
        lambda row: cells.predictable(row.predictable, row.predictable_permuted),
        priority=1,
    ),
    Column("Beyond\ncontr.", lambda row: cells.count(row.beyond_controls), priority=1),
    Column("Median\n{metric}", lambda row: cells.number(row.median_skill), priority=7),
    Column("Of noise\nceiling", lambda row: cells.share(row.share_of_ceiling), priority=10),
    Column("Cover-\nage", lambda row: cells.share(row.coverage), priority=4, needed=_coverage_is_partial),
    Column("Fit scope", lambda row: row.fit_scope, priority=3, justify="left"),
    Column("Preset", lambda row: row.preset, priority=9, justify="left"),
    Column("Time", lambda row: cells.seconds(row.seconds), priority=5),
    Column("Memory", lambda row: cells.memory(row.peak_memory_mb), priority=6),
)


def fitting(board: Sheet, width: int) -> tuple[Column, ...]:
    """Choose the columns for a terminal of ``width``: those of high priority while names stay readable."""
    rows = board.to_frame()
    texts = dict(zip(COLUMNS, zip(*table(rows, COLUMNS), strict=True), strict=True))
    longest = max(len(text) for text in texts[next(column for column in COLUMNS if column.heading == NAME)])
    chosen: set[Column] = set()
    used = 1  # the edge
    priority = {column: _NEEDED if column.needed(rows) else column.priority for column in COLUMNS}
    widths = {0: 0, _NEEDED: SHORT_NAME, 1: LEAST_NAME}
    for column in sorted(COLUMNS, key=priority.__getitem__):
        lines = [*heading(column, board).split("\n"), *texts[column]]
        wants = GAP + (0 if column.heading == NAME else max(map(len, lines)))
        least = min(longest, widths.get(priority[column], GOOD_NAME))
        if priority[column] and used + wants + least > width:
            continue
        chosen.add(column)
        used += wants
    return tuple(column for column in COLUMNS if column in chosen)


def name(row: Any) -> str:
    """Label with its role where it is no entrant, or the word where an entrant is not ranked."""
    mark = row.role if row.role != "entrant" else ("not ranked" if row.unranked else "")
    return f"{row.label} ({mark})" if mark and mark != row.label else row.label


def heading(column: Column, board: Sheet) -> str:
    """Heading of a column, with the metric and the level of the intervals it stands over."""
    return column.heading.format(confidence=100 * (1 - board.rules.level), metric=board.metric)


def title(column: Column, board: Sheet) -> str:
    """Heading of a column on one line."""
    return heading(column, board).replace("-\n", "").replace("\n", " ")


def left_out(board: Sheet, shown: tuple[Column, ...]) -> str:
    """Name the columns that found no room, and where they are; empty where all are shown."""
    names = [title(column, board) for column in COLUMNS if column not in shown]
    return f"Left out for width: {', '.join(names)}; --format markdown has all." if names else ""


def legend(board: Sheet) -> str:
    """One sentence on the columns that count readouts."""
    per_fold = board.per_fold
    if board.to_frame()["predictable"].isna().all():
        if per_fold and board.metric != AUC:
            return (
                f"{board.metric}: mean over readouts; the floor is what a random order is expected to score."
            )
        over = "readouts and tested folds" if per_fold else "readouts"
        return f"{board.metric}: mean over {over}. Readouts are not tested one by one."
    if per_fold:
        return (
            f"{board.metric}: mean over readouts and tested folds. Predicts: readouts better than chance, "
            f"q < {board.rules.q:g} (with permuted labels). Beyond contr.: also better than by every control."
        )
    return (
        f"Predicts: readouts predicted better than the floor, q < {board.rules.q:g} (with permuted labels). "
        "Beyond contr.: also better than by every control."
    )


def table(rows: pd.DataFrame, columns: tuple[Column, ...]) -> list[list[str]]:
    """Text of every row and column."""
    return [[column.text(row) for column in columns] for row in rows.itertuples(index=False)]
