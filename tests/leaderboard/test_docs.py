"""The example in docs/leaderboard.md runs, and its tables name what exists."""

import dataclasses
import re
from pathlib import Path

import pytest

from leaderboard import Entry

PAGE = Path(__file__).parents[2] / "docs" / "leaderboard.md"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def first_cells(text):
    """Names in backticks in the first column of a Markdown table."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}


def test_the_example_runs_as_printed(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})
    assert "| Rank | Entrant |" in capsys.readouterr().out


def test_every_field_of_an_entry_is_described(page):
    described = first_cells(page.split("## Input")[1].split("## Output")[0])
    assert described == {field.name for field in dataclasses.fields(Entry)}


def test_every_column_of_a_board_is_described(page, board):
    output = page.split("## Output")[1].split("\n## ")[0]
    assert first_cells(output) == set(board.rows.columns)
