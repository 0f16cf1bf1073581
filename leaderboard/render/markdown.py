"""The board as a Markdown table; names are text, whatever they contain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leaderboard.render.columns import COLUMNS, legend, table, title

if TYPE_CHECKING:
    from leaderboard.sheet import Sheet

_ESCAPES = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\|*_`[]~#"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "\n": " ",
        "\r": " ",
    }
)


def markdown(board: Sheet) -> str:
    """Return the board as GitHub-flavoured Markdown with every column and all notes."""
    head = [escape(title(column, board)) for column in COLUMNS]
    rule = ["---:" if column.justify == "right" else "---" for column in COLUMNS]
    body = [[escape(text) for text in texts] for texts in table(board.to_frame(), COLUMNS)]
    lines = [f"### {escape(board.title)}", ""]
    if board.banner:
        lines += [f"> **{escape(board.banner)}**", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)]
    lines += ["", escape(legend(board)), "", *(f"- {escape(note)}" for note in board.notes), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return ``text`` so that Markdown and HTML show it as it is, on one line."""
    return text.translate(_ESCAPES)
