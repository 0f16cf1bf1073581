"""Two runs side by side, and the gate that fails only on a resolved drop."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from bench.compare import Gate, choose, compared, gate
from bench.errors import BenchError, UsageError
from bench.store import Store
from leaderboard import BoardError
from tests.bench.shelf import READOUTS, command, commit

HALF = np.r_[np.full(READOUTS // 2, 0.6), np.full(READOUTS // 2, 0.9)]


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    commit(made, "a" * 16, loss=0.8, second=1)
    commit(made, "b" * 16, loss=HALF, second=2, seed=1, name="theirs", label="theirs[tiny]")
    commit(made, "c" * 16, loss=0.8, second=3, layer="proteins", name="mine")
    commit(made, "d" * 16, loss=1.0, second=4, name="mean", label="training mean", role="floor", head="mean")
    return made


def test_a_label_means_the_newest_run_on_the_newest_board_that_holds_both(store):
    assert [r["run"][0] for r in choose(store, "mine", "theirs", {})] == ["a", "b"]
    commit(store, "e" * 16, loss=0.7, second=9, seed=2)
    assert [r["run"][0] for r in choose(store, "mine", "theirs[tiny]", {})] == ["e", "b"]
    assert [r["run"][0] for r in choose(store, "aaa", "theirs", {})] == ["a", "b"]


def test_several_heads_of_both_are_told_apart_by_the_option(store):
    commit(store, "1" * 16, head="knn", second=5)
    commit(store, "2" * 16, head="knn", second=6, name="theirs", label="theirs[tiny]")
    with pytest.raises(UsageError, match="knn, ridge"):
        choose(store, "mine", "theirs", {})
    assert [r["run"][0] for r in choose(store, "mine", "theirs", {"head": "knn"})] == ["1", "2"]


def test_an_unknown_label_names_the_nearest(store):
    with pytest.raises(BenchError, match="did you mean 'mine'"):
        choose(store, "mini", "theirs", {})


def test_runs_of_different_boards_are_refused_with_the_reason(store, capsys):
    status, _, told = command(capsys, "compare", "aaaa", "cccc", "--store", store.root)
    assert status == 1
    assert "the readout layer differs (transcripts and proteins)" in told


def test_the_comparison_counts_readouts_and_its_formats_agree(store, capsys):
    words = ("compare", "mine", "theirs", "--layer", "transcripts", "--store", store.root)
    document = json.loads(command(capsys, *words, "--json")[1])
    assert document["counts"] == {
        "better": READOUTS // 2,
        "worse": READOUTS // 2,
        "tied": 0,
        "undecided": 0,
    }
    assert document["overall"]["difference"] == pytest.approx(0.2 - 0.25, abs=0.01)
    chances = [document["overall"][f"p_{name}"] for name in ("worse", "same", "better")]
    assert sum(chances) == pytest.approx(1)
    table = pd.read_csv(io.StringIO(command(capsys, *words, "--format", "csv")[1]))
    listed = [r["difference"] for r in document["readouts"]]
    np.testing.assert_allclose(table["difference"], listed, rtol=1e-12)
    text = command(capsys, *words, "--format", "markdown")[1]
    assert "A better 6, worse 6, tied 0" in text
    assert text.count("| g0") + text.count("| g1") == READOUTS


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_keeps_to_its_width_and_hides_no_readout_name(store, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    status, text, _ = command(capsys, "compare", "mine", "theirs", "--store", store.root)
    assert status == 0
    assert max(map(len, text.splitlines())) <= width
    assert "A better, first 5 of 6" in text
    assert "theirs[tiny]" in text


@pytest.mark.parametrize(
    ("loss", "noise", "outcome", "status"),
    [(0.95, 0.02, "dropped", 1), (0.802, 0.02, "held", 0), (0.745, 0.9, "undecided", 0)],
)
def test_the_gate_fails_only_on_a_resolved_drop(store, capsys, loss, noise, outcome, status):
    commit(store, "e" * 16, loss=loss, noise=noise, second=9, seed=5)
    words = ("gate", "eeee", "--baseline", "aaaa", "--max-drop", "0.02", "--store", store.root)
    got, text, _ = command(capsys, *words, "--json")
    found = json.loads(text)
    assert (found["outcome"], got) == (outcome, status)
    low, high = found["overall"]["low"], found["overall"]["high"]
    assert {"dropped": high < -0.02, "held": low >= -0.02, "undecided": low < -0.02 <= high}[outcome]
    assert ("UNDECIDED" in command(capsys, *words)[1]) == (outcome == "undecided")


def test_a_resolved_drop_within_what_is_tolerated_passes(store):
    commit(store, "e" * 16, loss=0.81, second=9, seed=5, noise=0.001)
    pair = compared(store, *choose(store, "eeee", "aaaa", {}))
    assert pair.found.overall.high < 0
    assert Gate(pair, 0.02).outcome == "held"
    assert Gate(pair, 0.0).outcome == "dropped"


def test_the_candidate_is_by_default_the_newest_entrant_on_the_board_after_the_baseline(store):
    commit(store, "e" * 16, loss=0.95, second=9, seed=5)
    assert gate(store, "aaaa", None, 0.01).pair.a.run == "e" * 16
    with pytest.raises(BenchError, match="name the candidate"):
        gate(store, "eeee", None, 0.01)


def test_without_known_error_rates_no_drop_is_resolved(store):
    for run, loss in (("e", 0.5), ("f", 0.99)):
        commit(store, run * 16, loss=loss, second=9, protocol="image2omics", layer="other")
    found = gate(store, "eeee", "ffff", 0.01)
    assert found.outcome == "undecided"
    assert "no drop is resolved" in found.sentence()


def test_what_cannot_be_compared_exits_with_another_status_than_a_drop(store, capsys):
    commit(store, "e" * 16, coverage=0.5, second=9)
    for words in (("eeee",), ("cccc",), ("nobody",)):
        status, _, told = command(
            capsys, "gate", *words, "--baseline", "aaaa", "--max-drop", "0.1", "--store", store.root
        )
        assert status == 2, told
        assert told.startswith("bench: ")
    with pytest.raises(BenchError, match="50 % of what is asked"):
        gate(store, "aaaa", "eeee", 0.1)
    with pytest.raises(BoardError, match="layer"):
        gate(store, "aaaa", "cccc", 0.1)


@pytest.mark.parametrize("drop", [-0.1, float("nan"), float("inf")])
def test_a_senseless_tolerance_is_refused(store, drop):
    with pytest.raises(UsageError, match="max-drop"):
        gate(store, "aaaa", "bbbb", drop)
