"""The same rows as terminal table, Markdown, CSV and JSON."""

import csv as csv_reader
import io
import json as json_reader
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from leaderboard import Leaderboard, Rules
from leaderboard.render import cells, csv, json, markdown, terminal
from leaderboard.render.columns import COLUMNS, fitting
from leaderboard.render.data import schema

NASTY = '<script>alert("x")</script> | a","b\n[red]'


def printed(board, width):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(terminal(board, width))
    return console.file.getvalue()


@pytest.fixture(scope="module")
def nasty(small_screen):
    return Leaderboard([replace(small_screen[0], label=NASTY), *small_screen[1:]], Rules(flips=100)).boards[0]


@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_no_number_is_cut_and_no_line_is_too_long(board, width):
    text = printed(board, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in board.rows.itertuples():
        assert cells.interval(row.skill, row.skill_low, row.skill_high) in text


def test_a_wider_terminal_shows_more_columns_and_keeps_names_readable(board):
    assert "transductive" not in printed(board, 80)
    assert "transductive" in printed(board, 120)
    assert "1.6 GB" in printed(board, 140)
    assert "tiny  " in printed(board, 180)
    counts = [len(fitting(board, width)) for width in range(60, 200, 5)]
    assert counts == sorted(counts)
    assert "vits-imagenet" in printed(board, 80)


@pytest.mark.parametrize("width", [80, 120])
def test_columns_without_room_are_named_below_the_table(board, width):
    shown = {column.heading for column in fitting(board, width)}
    flat = " ".join(printed(board, width).split())
    _, _, told = flat.partition("Left out for width: ")
    named = told.partition("; --format markdown has all.")[0].split(", ")
    titles = {"Memory": "Memory", "Preset": "Preset", "Resolv-\nable": "Resolvable", "Time": "Time"}
    assert {title for heading, title in titles.items() if heading not in shown} == {*named} & {
        *titles.values()
    }
    assert len(named) + len(shown) == len(COLUMNS)
    assert {"Memory", "Preset", "Resolvable"} <= {*named}


def test_nothing_is_said_of_width_where_every_column_is_shown(board):
    assert len(fitting(board, 200)) == len(COLUMNS)
    assert "Left out" not in printed(board, 200)


@pytest.mark.parametrize("width", [80, 120])
def test_the_head_and_the_coverage_are_shown_where_rows_differ_in_them(small_screen, width):
    first, second, *others = small_screen
    entries = [replace(first, head="logistic"), replace(second, coverage=0.93), *others]
    text = printed(Leaderboard(entries, Rules(flips=50)).boards[0], width)
    assert {"logistic", "93", "vits-imagenet", "position"} <= {*text.split()}
    assert max(map(len, text.splitlines())) <= width


def test_on_a_very_narrow_terminal_the_counts_go_first(board):
    headings = [column.heading for column in fitting(board, 60)]
    assert headings == [
        "Rank",
        "Entrant",
        "Mean {metric}\n[{confidence:g} % interval]",
        "Against the\none above",
    ]


def test_the_heading_states_the_level_of_the_interval(small_screen):
    board = Leaderboard(small_screen[:2], Rules(flips=50, level=0.1)).boards[0]
    assert "[90 % interval]" in printed(board, 80)
    assert "90 % interval" in markdown(board)


def test_notes_and_banner_are_printed(small_screen):
    board = Leaderboard([replace(entry, optimistic=True) for entry in small_screen], Rules(flips=50)).boards[
        0
    ]
    flat = " ".join(printed(board, 80).split())
    assert "OPTIMISTIC PROTOCOL" in flat
    assert "Effective number of perturbations" in flat


def test_names_are_text_in_the_terminal(nasty):
    flat = "".join(printed(nasty, 300).split())
    assert "<script>alert(" in flat
    assert "[red]" in flat


def test_markdown_escapes_pipes_and_markup_and_keeps_its_columns(nasty):
    text = markdown(nasty)
    table = [line for line in text.splitlines() if line.startswith("|")]
    unescaped = {line.replace("\\|", "").count("|") for line in table}
    assert len(unescaped) == 1
    assert len(table) == 2 + len(nasty.rows)
    assert "<script>" not in text
    assert '&lt;script&gt;alert("x")&lt;/script&gt; \\|' in text


def test_csv_reads_back_with_full_precision(nasty):
    rows = list(csv_reader.DictReader(io.StringIO(csv(nasty))))
    assert len(rows) == len(nasty.rows)
    assert {row["dataset"] for row in rows} == {"demo"}
    assert NASTY in {row["label"] for row in rows}
    np.testing.assert_array_equal([float(row["skill"]) for row in rows], nasty.rows["skill"])


def test_json_follows_its_schema(nasty, board):
    for each in (nasty, board):
        document = json_reader.loads(json(each))
        described = schema()["properties"]
        assert list(document) == schema()["required"]
        assert list(document["rows"][0]) == described["rows"]["items"]["required"] == list(each.rows.columns)
        assert list(document["pairs"][0]) == described["pairs"]["items"]["required"]
        assert document["rows"][0]["rank"] is None


def test_json_validates_against_the_schema(nasty, small_screen):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    broken = replace(small_screen[0], e=np.full_like(small_screen[0].e, np.nan), seconds=float("inf"))
    for each in (nasty, Leaderboard([broken]).boards[0]):
        document = json_reader.loads(json(each))
        validator.validate(document)
    document["rows"][0]["role"] = "winner"
    assert not validator.is_valid(document)


def test_json_is_strict_and_the_same_twice(nasty):
    text = json(nasty)
    assert text == json(nasty)
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-0.0311, "−0.031"),
        (-0.0001, "0.000"),
        (-4e31, "−4.0e+31"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_have_three_decimals_and_no_negative_zero(value, text):
    assert cells.number(value) == text


def test_cells_say_their_units():
    assert cells.interval(0.1, 0.05, 0.15) == "0.100 [0.050, 0.150]"
    assert cells.interval(0.1, float("nan"), float("nan")) == "0.100"
    assert [cells.seconds(s) for s in (0.42, 12, 200, 7200)] == ["0.4 s", "12 s", "3 min", "2.0 h"]
    assert [cells.memory(m) for m in (420, 1630)] == ["420 MB", "1.6 GB"]
    assert [cells.share(s) for s in (1.0, 0.9996, 0.5)] == ["100 %", "99.9 %", "50 %"]
    assert [cells.rank(2, 2), cells.rank(1, 3)] == ["2", "1–3"]
    assert cells.against_above(-0.0312, "worse") == "−0.031 worse"


def test_the_package_imports_neither_torch_nor_numpy_until_asked():
    code = (
        "import sys, leaderboard; assert not {'numpy', 'torch', 'rich'} & set(sys.modules); leaderboard.Entry"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys, leaderboard.render; leaderboard.Leaderboard; "
        "print('torch' in sys.modules, 'scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_unknown_public_name_is_an_attribute_error():
    import leaderboard

    with pytest.raises(AttributeError, match="nonsense"):
        _ = leaderboard.nonsense
