"""Sensitivity: one setting changed at a time, and a conclusion that follows from the verdicts."""

import json
import subprocess

import pytest

from bench.entrants import known
from bench.errors import UsageError
from bench.sensitivity import AXES, Row, Sensitivity, _choices, sensitivity
from bench.settings import Settings
from tasks.protocol import load
from tests.e2e.support import BENCH

BASE = load("nested-cv")


def quiet(*_, **__):
    return None


def test_every_choice_changes_one_setting_and_has_a_hash_of_its_own():
    choices = list(_choices(BASE, "ridge", ("ridge", "knn"), AXES))
    assert (choices[0].axis, choices[0].protocol) == ("protocol", BASE)
    keys = {"normalisation": "normalisation", "selection": "selection", "pca": "pca", "penalty": "penalties"}
    for choice in choices[1:]:
        if choice.axis == "head":
            assert (choice.value, choice.protocol) == ("knn", BASE)
            continue
        ours, theirs = choice.protocol.settings, BASE.settings
        differing = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
        assert differing == {"name", keys[choice.axis]}
    assert len({(c.protocol.hash, c.head) for c in choices}) == len(choices)
    assert {c.axis for c in choices} == {"protocol", *AXES}


def test_a_choice_that_the_base_makes_already_is_not_run_twice():
    only = BASE.with_settings(normalisation=("tvn",))
    values = [c.value for c in _choices(only, "ridge", (), ("normalisation",))]
    assert "tvn" not in values[1:]
    assert len(values) == 6


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_a_held_penalty_reaches_the_default_heads_of_both_kinds_of_task(head):
    held = [c for c in _choices(BASE, head, (), ("penalty",)) if c.axis == "penalty"]
    built = [known(()).get("heads", head).for_protocol(c.protocol).config.penalties for c in held]
    assert built == [c.protocol.penalties for c in held]
    assert len(set(built)) == 3


def row(verdict, axis="pca", value="none", difference=0.1):
    nan = float("nan")
    return Row("rna", axis, value, 0.2, 0.1, difference, nan, nan, nan, verdict, "h", "ridge", "a", "b")


@pytest.mark.parametrize(
    ("verdicts", "first", "last"),
    [
        (["better"] * 3, "A is better under every one of 3 choices.", ""),
        (["worse"] * 2, "B is better under every one of 2 choices.", ""),
        (["tied"] * 2, "No winner under any of 2 choices.", ""),
        (
            ["better", "worse", "tied"],
            "The winner depends on the choice",
            "of 3): A with pca 0; B with pca 1.",
        ),
        (["better", "better", "tied"], "Only A ever wins", "under 1 of 3): not with pca 2."),
        (["tied", "worse", "tied"], "Only B ever wins", "under 2 of 3): only with pca 1."),
        (["undecided"] * 2, "No verdicts", "A has the larger score under 2 of 2 choices."),
    ],
)
def test_the_conclusion_says_whether_the_winner_changes(verdicts, first, last):
    found = Sensitivity("A", "B", "regression", [row(v, value=str(i)) for i, v in enumerate(verdicts)])
    told = found.conclusion("rna")
    assert told.startswith(first)
    assert told.endswith(last)
    assert found.plain()["conclusions"] == {"rna": told}


@pytest.mark.parametrize(
    ("settings", "over", "message"),
    [
        ({"featurizers": ("intensity", "position")}, ("penalties",), "did you mean 'penalty'"),
        ({"featurizers": ("intensity", "intensity")}, ("pca",), "two different entrants"),
        (
            {"featurizers": ("intensity", "position"), "tasks": ("retrieval",)},
            ("pca",),
            "no protocol to vary",
        ),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_opened(settings, over, message):
    with pytest.raises(UsageError, match=message):
        sensitivity(Settings(**settings, dataset="nowhere"), over, quiet)


@pytest.mark.slow
def test_the_command_compares_a_pair_under_every_choice_and_finds_its_runs_again(tmp_path):
    def bench(*words):
        return subprocess.run(
            [str(BENCH), *map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    made = bench("demo", "--plates", 1, "--compounds", 12, "--doses", 1, "--out", "demo")
    assert made.returncode == 0, made.stderr
    words = ("sensitivity", "intensity", "position", "-d", "demo", "--layer", "proteins", "-j", 1)
    done = bench(*words, "--over", "penalty,selection", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [r["axis"] for r in found["rows"]] == ["protocol", *["penalty"] * 3, "selection"]
    assert len({r["protocol_hash"] for r in found["rows"]}) == 5
    runs = sorted(p.name for p in (tmp_path / "wellbench-store/runs").iterdir())
    again = bench(*words, "--over", "penalty,selection")
    assert again.returncode == 0, again.stderr
    assert "A = intensity, B = position" in again.stdout
    assert found["conclusions"]["proteins"] in " ".join(again.stdout.split())
    assert sorted(p.name for p in (tmp_path / "wellbench-store/runs").iterdir()) == runs
    assert bench("verify", "all").returncode == 0
