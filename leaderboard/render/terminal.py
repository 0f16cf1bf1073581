"""The board in the terminal; columns are chosen by its width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leaderboard.render.columns import NAME, fitting, heading, left_out, legend, table

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from leaderboard.sheet import Sheet

_STYLES = {"control": "yellow", "ceiling": "cyan", "floor": "dim", "permuted": "dim"}


def terminal(board: Sheet, width: int = 120) -> Group:
    """Return the board as a rich renderable for a console of ``width`` columns.

    Parameters
    ----------
    board
        The board.
    width
        Columns of the terminal; at 80 the columns that decide, on wider ones cost and provenance too. A line
        below the table names those left out.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = board.to_frame()
    columns = fitting(board, width)
    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        wraps = column.heading == NAME
        text = Text(heading(column, board))
        sheet.add_column(text, justify=column.justify, no_wrap=not wraps, overflow="fold")
    for row, texts in zip(rows.itertuples(index=False), table(rows, columns), strict=True):
        style = _STYLES.get(str(row.role), "" if not row.unranked else "dim")
        sheet.add_row(*(Text(text) for text in texts), style=style)
    parts: list[RenderableType] = [Text(board.title, style="bold")]
    if board.banner:
        parts.append(Text(board.banner, style="bold black on yellow"))
    parts.append(sheet)
    parts += [Text(text, style="dim") for text in (left_out(board, columns), legend(board)) if text]
    bullets = Table.grid(padding=(0, 1, 0, 0))
    for note in board.notes:
        bullets.add_row("•", Text(note))
    parts.append(bullets)
    return Group(*parts)
