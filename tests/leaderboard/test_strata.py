"""Boards in parts: each part is the board of its readouts or perturbations, and says what it cannot."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from leaderboard import BoardError, Leaderboard, strata
from leaderboard.decide import skill_interval
from leaderboard.render import parts as render
from leaderboard.summands import summands


@pytest.fixture(scope="module")
def board(small_screen):
    return Leaderboard(small_screen).boards[0]


def test_a_part_of_the_readouts_has_the_skill_and_interval_of_these_readouts_alone(board):
    first, last = (
        frozenset(f"gene{i:04d}" for i in range(10)),
        frozenset(f"gene{i:04d}" for i in range(20, 27)),
    )
    found = strata.by_readouts(board, {"b": last, "a": first, "few": frozenset(["gene0001"])}, "location")
    assert found["stratum"].drop_duplicates().tolist() == ["a", "b"]
    entry = next(e for e in board.entries if e.name == "mae")
    own = found[(found["run"] == entry.run) & (found["stratum"] == "b")].iloc[0]
    alone = summands(entry.e[:, :, 20:27], entry.e0[:, :, 20:27], entry.folds)
    expected = skill_interval(alone, board.rules.level)
    assert (own["skill"], own["low"], own["high"]) == (alone.skill, expected.low, expected.high)
    assert own["n"] == 7
    assert set(found["role"]) <= {"entrant", "control", "ceiling"}


def test_the_whole_panel_as_one_part_is_the_board(board):
    everything = frozenset(board.entries[0].readouts)
    found = strata.by_readouts(board, {"all": everything}, "pathway").set_index("run")
    rows = board.rows.set_index("run").loc[found.index]
    np.testing.assert_allclose(found[["skill", "low", "high"]], rows[["skill", "skill_low", "skill_high"]])


def test_bins_of_activity_are_points_over_their_perturbations(board):
    names = board.entries[0].perturbations
    activity = pd.Series(np.arange(len(names), dtype=float)[::-1], index=list(names))
    found = strata.by_activity(board, activity, bins=4)
    assert found["low"].isna().all()
    assert (found["n"] == len(names) // 4).all()
    entry = next(e for e in board.entries if e.name == "mae")
    weakest = found[found["run"] == entry.run].iloc[0]
    inside = slice(len(names) - len(names) // 4, None)
    e, e0 = entry.e[:, inside].astype(float), entry.e0[:, inside].astype(float)
    assert weakest["skill"] == pytest.approx(float((1 - e.sum((0, 1)) / e0.sum((0, 1))).mean()))


def test_perturbations_of_equal_activity_share_a_bin(board):
    names = list(board.entries[0].perturbations)
    activity = pd.Series(np.where(np.arange(len(names)) < 12, np.arange(len(names)), 99.0), index=names)
    found = strata.activity_bins(board, activity, bins=4)
    assert found[names[12:]].nunique() == 1
    assert found[names[:12]].nunique() + 1 == found.nunique() < 4
    assert found[names[12]].startswith(f"{found.nunique()} of {found.nunique()} (99 to 99)")


def test_doses_stand_in_order_of_their_value_with_their_number_of_perturbations(small_screen):
    scores = pd.DataFrame(
        [
            {"readout": g, "stratum": s, "r2": v, "n_perturbations": n}
            for g in ("gene0000", "gene0001")
            for s, v, n in (("dose=10", 0.4, 20), ("dose=9.5", 0.2, 30), ("all", 0.3, 50))
        ]
    )
    found = strata.by_score_stratum(Leaderboard([replace(e, scores=scores) for e in small_screen]).boards[0])
    assert found["stratum"].drop_duplicates().tolist() == ["dose=9.5", "dose=10"]
    assert found.loc[found["stratum"] == "dose=10", "skill"].unique() == pytest.approx([0.4])
    assert set(found["n"]) == {20, 30}


def test_what_cannot_be_parted_says_why(board):
    with pytest.raises(BoardError, match="no location has 5 of its 30 readouts \\(1 are annotated"):
        strata.by_readouts(board, {"x": frozenset(["gene0001", "other"])}, "location")
    with pytest.raises(BoardError, match="score_by"):
        strata.by_score_stratum(board)
    with pytest.raises(BoardError, match="0 of its perturbations"):
        strata.by_activity(board, pd.Series([1.0], index=["nobody"]))


def test_every_format_shows_every_part_and_names_are_text(board):
    evil = "<img src=x> [red]|"
    found = strata.by_readouts(board, {evil: frozenset(board.entries[0].readouts)}, "location")
    assert "&lt;img src=x&gt;" in render.markdown_parts(found)
    console = Console(width=80, file=io.StringIO())
    console.print(render.terminal_parts(found))
    text = console.file.getvalue()
    assert "[red]" in text
    assert "Mean score [interval]" in text
    assert max(map(len, text.splitlines())) <= 80
    assert render.csv_parts(found).count("\n") == len(found) + 1
    assert '"schema_version": 1' in render.json_parts(found)
