"""The selfcheck: reproducible, resumable, right about rates, and able to catch a decision that is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.__main__ import main
from bench.errors import BenchError
from bench.selfcheck.designs import DESIGNS
from bench.selfcheck.examine import examine
from bench.selfcheck.rates import bounds, exceeded, rates
from bench.selfcheck.screening import block, screening
from bench.selfcheck.screens import simulate
from leaderboard.decide import Design as Size
from tasks.layout import confounding, shifted

SMALL = replace(DESIGNS["light"], name="small", perturbations=25, readouts=12, latent=4, nuisance=2)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_a_screen_is_the_same_whenever_it_is_asked_for_and_its_nulls_have_no_link(name):
    one, again, other = (simulate(DESIGNS[name], seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.data.Y, again.data.Y)
    np.testing.assert_array_equal(one.features["A"], again.features["A"])
    assert not np.array_equal(one.data.Y, other.data.Y)
    assert one.linked.mean() == pytest.approx(DESIGNS[name].linked, abs=0.01)
    assert one.data.control.any() == (DESIGNS[name].plate_effect > 0)


def test_linked_readouts_follow_the_state_and_others_do_not():
    design = replace(DESIGNS["light"], noise=(0.0, 0.0, 0.0), perturbations=2000, wells=1, readouts=20)
    screen = simulate(design, 0)
    X = np.hstack([screen.features["A"][:, :10], np.ones((2000, 1))])
    left = screen.data.Y - X @ np.linalg.lstsq(X, screen.data.Y, rcond=None)[0]
    explained = 1 - left.var(axis=0) / screen.data.Y.var(axis=0)
    assert explained[screen.linked].min() > 0.1
    assert explained[~screen.linked].max() < 0.02


def test_relatives_are_alike_and_strangers_are_not():
    screen = simulate(replace(DESIGNS["families"], perturbations=800, wells=1), 0)
    X = screen.features["A"][:, 10:]  # nuisance, of variance 1 + 0.25
    own = np.corrcoef(X[::4].ravel(), X[1::4].ravel())[0, 1]
    assert own == pytest.approx(0.6 / 1.25, abs=0.05)
    assert abs(np.corrcoef(X[3:-1:4].ravel(), X[4::4].ravel())[0, 1]) < 0.05


def test_plates_shift_readouts_and_the_audit_sees_it_and_the_confounding():
    assert shifted(simulate(DESIGNS["plates-raw"], 0).data)
    assert not shifted(simulate(DESIGNS["plates"], 0).data)
    assert not confounding(simulate(DESIGNS["plates"], 0).data)
    assert confounding(simulate(DESIGNS["confounded"], 0).data)


def test_calls_have_the_prevalence_of_the_design():
    design = replace(DESIGNS["calls"], perturbations=4000)
    Y = simulate(design, 0).data.Y
    assert set(np.unique(Y)) == {0.0, 1.0}
    assert Y.mean() == pytest.approx(design.prevalence, abs=0.01)


def test_bounds_equal_scipys_and_one_side_is_closer_than_two():
    values = np.array([1.0] * 7 + [0.0] * 53)
    low, high, least = bounds(values)
    exact = binomtest(7, 60)
    assert (low, high) == pytest.approx(tuple(exact.proportion_ci(method="exact")))
    one_sided = binomtest(7, 60, alternative="greater").proportion_ci(method="exact").low
    assert least == pytest.approx(one_sided)
    assert bounds(np.zeros(10))[0] == 0.0
    assert bounds(np.ones(10))[1] == 1.0


def test_a_rate_is_above_only_beyond_chance():
    record = {"ab_resolved": 0.0}
    few = [record] * 57 + [{"ab_resolved": 1.0}] * 3
    many = [record] * 500 + [{"ab_resolved": 1.0}] * 60
    assert not exceeded(rates(SMALL, few))
    assert [rate.measure for rate in exceeded(rates(SMALL, many))] == ["d1"]
    assert not exceeded(rates(replace(SMALL, claimed=False), many))


def test_an_examined_screen_gives_the_same_numbers_again():
    one, again = (examine(SMALL, 1) for _ in range(2))
    assert {**one, "seconds": 0} == {**again, "seconds": 0}
    assert "ac_difference" not in one  # C in every fourth screen only
    assert one["ab_low"] < one["ab_difference"] < one["ab_high"]


def test_a_stopped_check_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def stand_in(design, seed):
        asked.append((design.heavy, seed))
        return {"seed": float(seed), "seconds": 0.1, "heavy": design.heavy}

    monkeypatch.setattr("bench.selfcheck.screening.examine", stand_in)
    keep = tmp_path / "screens.jsonl"
    screening([SMALL], 2, keep=keep)
    keep.write_text(keep.read_text() + '{"design": "small", "rec')  # what a kill leaves
    whole = screening([SMALL], 13, keep=keep)["small"]
    assert [record["seed"] for record in whole] == list(range(13))
    assert asked == [(0.0, seed) for seed in range(13)]
    assert len(keep.read_text().splitlines()) == 13
    other = screening([replace(SMALL, heavy=0.5)], 1, keep=keep)["small"]
    assert [record["heavy"] for record in other] == [0.5]


def test_a_file_that_is_no_record_is_named_with_its_line(tmp_path):
    keep = tmp_path / "notes.txt"
    keep.write_text("hello\n")
    with pytest.raises(BenchError, match=r"notes.txt, line 1: not a record"):
        screening([SMALL], 2, keep=keep)


def test_the_command_shows_kept_screens_and_writes_the_page(tmp_path, capsys):
    keep, page = tmp_path / "screens.jsonl", tmp_path / "rates.md"
    lines = [
        {"design": "light", "version": 1, "settings": _settings("light"), "code": "c0de", "record": record}
        for record in ({"seed": s, "seconds": 0.3, "ab_resolved": float(s < 30)} for s in range(60))
    ]
    keep.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [
        "selfcheck",
        "--designs",
        "light",
        "--only-kept",
        "--keep",
        str(keep),
        "--out",
        str(page),
        "--json",
    ]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)[0] | {"low": 0, "high": 0, "least": 0} == {
        "design": "light",
        "measure": "d1",
        "text": "equal entrants declared different (D1, no margin)",
        "observed": 0.5,
        "low": 0,
        "high": 0,
        "least": 0,
        "screens": 60,
        "stated": 0.05,
        "exceeds": True,
    }
    assert "observed 50.0 % in 60 screens" in shown.err
    assert "| 50 | 37–63 | 5 | 60 | ABOVE |" in page.read_text()
    assert "seeds 0 to 59, code c0de" in page.read_text()


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["--designs", "lite"], "did you mean 'light'?", 2),
        (["--only-kept"], "name it with --keep", 1),
    ],
)
def test_wrong_words_are_answered(words, sentence, code, capsys):
    with pytest.raises(SystemExit) as left:
        main(["selfcheck", *words])
    assert left.value.code == code
    assert sentence in capsys.readouterr().err


def test_the_list_names_every_design(capsys):
    with pytest.raises(SystemExit):
        main(["selfcheck", "--designs", "list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in DESIGNS)


@pytest.mark.slow
def test_observed_error_rates_do_not_exceed_the_stated_ones():
    records = {name: block(DESIGNS[name], range(60)) for name in ("light", "calls")}
    found = [rate for name, own in records.items() for rate in rates(DESIGNS[name], own)]
    assert not exceeded(found)
    power = {(rate.design, rate.measure): rate.observed for rate in found}
    assert power["light", "power"] > 0.5
    assert power["light", "floor-power"] > 0.1


@pytest.mark.slow
def test_a_variance_that_forgets_the_shared_training_sets_is_caught(monkeypatch):
    monkeypatch.setattr(Size, "factor", property(lambda self: 1.0 / self.values))
    records = [examine(DESIGNS["light"], seed) for seed in range(1, 41) if seed % 4]
    assert {"d1", "one-missed"} <= {rate.measure for rate in exceeded(rates(DESIGNS["light"], records))}


def _settings(name):
    from bench.selfcheck.screening import _mark

    return _mark(DESIGNS[name])["settings"]
