"""Boards of stores that hold little, or nothing good: each said in words, through the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.store import Store
from tests.bench.shelf import READOUTS, command, commit


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def shown(store, capsys, *words, status=0):
    done = command(capsys, "leaderboard", "--store", store.root, *words)
    assert done[0] == status, done[2]
    assert "Traceback" not in done[1] + done[2]
    return " ".join(done[1].split()), " ".join(done[2].split())


def rows(store, capsys):
    return json.loads(command(capsys, "leaderboard", "--store", store.root, "--json")[1])[0]["rows"]


@pytest.mark.parametrize("words", [("leaderboard",), ("report",), ("leaderboard", "--by", "activity")])
def test_an_empty_store_has_no_board_and_says_what_makes_one(store, capsys, tmp_path, words):
    out = ("-o", tmp_path / "r.html") if words == ("report",) else ()
    status, printed, told = command(capsys, *words, "--store", store.root, *out)
    assert (status, printed) == (1, "")
    assert "has no finished run; `bench run` makes them" in told
    assert not (tmp_path / "r.html").exists()


def test_one_entrant_only_has_an_interval_and_nobody_to_be_ranked_against(store, capsys):
    commit(store, "a" * 16)
    text, _ = shown(store, capsys)
    assert "One entrant only: there is nothing to rank it against." in text
    assert "0.200 [" in text


def test_an_entrant_whose_scores_are_all_nan_is_shown_last_and_not_ranked(store, capsys):
    commit(store, "a" * 16, name="broken", label="broken", loss=np.nan)
    commit(store, "b" * 16)
    text, _ = shown(store, capsys)
    assert "broken (not ranked)" in text
    assert "broken is not ranked: no readout has a defined score" in text
    assert [(row["label"], row["rank"], row["skill"]) for row in rows(store, capsys)][1] == (
        "broken",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": {"name": "demo", "version": "2"}}, "the version of the dataset differs (1 and 2)"),
        ({"protocol": "random-wells"}, "the protocol differs (nested-cv and random-wells)"),
    ],
)
def test_runs_of_other_versions_or_protocols_stand_apart_with_the_reason(store, capsys, changes, reason):
    commit(store, "a" * 16)
    commit(store, "b" * 16, label="other", **changes)
    text, told = shown(store, capsys)
    assert text.count("One entrant only") == 2
    assert f"other and mine are not ranked together: {reason}" in told


def test_readouts_that_the_annotation_lacks_are_counted(store, capsys, tmp_path):
    commit(store, "a" * 16)
    table = tmp_path / "where.csv"
    table.write_text("readout,location\n" + "".join(f"g{i:02d},Cytosol\n" for i in range(7)), "utf-8")
    text, _ = shown(store, capsys, "--by", "location", "--annotation", table)
    assert f"{READOUTS - 7} of {READOUTS} readouts stand in no location shown here" in text


def test_a_gene_set_without_genes_is_named_with_its_row(store, capsys, tmp_path):
    commit(store, "a" * 16)
    sets = tmp_path / "sets.gmt"
    sets.write_text("good\tx\tg00\tg01\nempty\tnothing in it\n", "utf-8")
    _, told = shown(store, capsys, "--by", "pathway", "--annotation", sets, status=1)
    assert str(sets) in told
    assert "row 2" in told or "line 2" in told


def test_no_significant_readout_is_a_zero_and_not_an_error(store, capsys):
    commit(store, "a" * 16, loss=1.05)
    text, _ = shown(store, capsys)
    assert "0 (–)" in text
    assert rows(store, capsys)[0]["predictable"] == 0


@pytest.mark.parametrize("width", ["80", "120"])
def test_names_of_200_characters_fold_and_cut_no_number(store, capsys, monkeypatch, width):
    name = "mae with " + "x" * 191
    commit(store, "a" * 16, label=name, layer="y" * 200)
    commit(store, "b" * 16, label=name[:-1] + "z", layer="y" * 200, loss=0.9, seed=1)
    monkeypatch.setenv("COLUMNS", width)
    _, printed, _ = command(capsys, "leaderboard", "--store", store.root)
    assert max(map(len, printed.splitlines())) <= int(width)
    assert "0.200 [" in printed
    assert printed.count("x") == 381  # nothing of a name is cut
    assert "…" not in printed
