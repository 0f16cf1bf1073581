"""``bench leaderboard --by``: the options, and files that are wrong."""

from __future__ import annotations

import json

import pytest

from bench.store import Store
from tests.bench.shelf import command, commit


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    commit(made, "a" * 16)
    commit(made, "b" * 16, layer="proteins")
    return made


def test_layers_stand_side_by_side_and_pathways_need_their_file(store, capsys, tmp_path):
    words = ("leaderboard", "--store", store.root, "--json", "--by")
    rows = json.loads(command(capsys, *words, "layer")[1])["rows"]
    assert [row["stratum"] for row in rows] == ["transcripts", "proteins"]
    status, _, told = command(capsys, *words, "pathway")
    assert status == 2
    assert "GMT" in told
    sets = tmp_path / "sets.gmt"
    sets.write_text("one\tx\t" + "\t".join(f"g{i:02d}" for i in range(6)) + "\n", encoding="utf-8")
    rows = json.loads(command(capsys, *words, "pathway", "--annotation", sets)[1])["rows"]
    assert [(row["stratum"], row["n"]) for row in rows] == [("one", 6), ("one", 6)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no columns perturbation and activity"),
        ("perturbation,activity\np00,much\n", "row 2: activity 'much'"),
        ("perturbation,activity\np00,1\np00,2\n", "'p00' stands twice"),
    ],
)
def test_a_wrong_table_of_activity_is_refused(store, capsys, tmp_path, text, message):
    table = tmp_path / "activity.csv"
    table.write_text(text, encoding="utf-8")
    words = ("leaderboard", "--store", store.root, "--by", "activity", "--annotation", table)
    status, _, told = command(capsys, *words)
    assert status == 1
    assert message in told


@pytest.mark.parametrize(
    "words", [("leaderboard",), ("leaderboard", "--by", "layer"), ("compare", "a" * 16, "a" * 16)]
)
def test_what_the_terminal_shows_can_be_written_to_a_file(store, capsys, tmp_path, words):
    out = tmp_path / "board.txt"
    status, _, told = command(capsys, *words, "--store", store.root, "--out", out)
    assert (status, told) == (0, "")
    assert "transcripts" in out.read_text(encoding="utf-8")
