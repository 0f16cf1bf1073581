"""Screens that are too small, too wide or too empty: one sentence, or a score that says what it is of."""

from dataclasses import replace

import numpy as np
import pytest

from tasks import evaluate, folds
from tasks.audit import audit
from tasks.base import TaskError
from tasks.heads.ridge import Ridge
from tasks.protocol import load
from tasks.regression import Regression

PROTOCOL = load("nested-cv").with_settings(repeats=2)


def run(data, X, protocol=PROTOCOL):
    prepared = Regression().prepare(data)
    table = folds.make(prepared, protocol)
    results = evaluate.run(prepared, lambda _: X, protocol, table, Ridge)
    return table, results, Regression().score(prepared, table, results)


def test_two_perturbations_for_five_folds_are_refused_with_what_would_work(screen):
    own = screen(perturbations=2, doses=10)
    with pytest.raises(TaskError, match="has 2 perturbations, too few for 'nested-cv'") as caught:
        run(own.data, own.X)
    told = str(caught.value)
    assert "\n" not in told
    assert "no number of folds works" in told
    assert "random-wells" in told


def test_a_readout_in_one_perturbation_only_has_no_score_and_leaves_the_others_alone(screen):
    own = screen(perturbations=14)
    Y = own.data.Y.copy()
    Y[own.data.groups != "cpd03", 2] = np.nan
    _, _, out = run(replace(own.data, Y=Y), own.X)
    _, _, whole = run(own.data, own.X)
    others = [0, 1, 3, 4]
    assert np.isnan(out.scores["r2"][2])
    assert (
        out.scores["n_perturbations"][2] == 0
    )  # its only perturbation has no training mean to be scored against
    assert np.isfinite(out.scores["r2"][others]).all()
    assert (out.scores["n_perturbations"][others] == 14).all()
    np.testing.assert_allclose(out.scores["r2"][others], whole.scores["r2"][others], atol=0.05)


def test_a_readout_in_two_perturbations_is_scored_on_those(screen):
    own = screen(perturbations=14)
    Y = own.data.Y.copy()
    Y[~np.isin(own.data.groups, ["cpd03", "cpd07"]), 2] = np.nan
    table, _, out = run(replace(own.data, Y=Y), own.X)
    fold = table.drop_duplicates(["repeat", "perturbation"]).set_index(["repeat", "perturbation"])["fold"]
    together = [fold[r, "cpd03"] == fold[r, "cpd07"] for r in range(2)]
    assert not all(together)
    assert out.scores["n_perturbations"][2] == 2
    assert np.isfinite(out.scores["mse0"][2])


def test_fifty_times_more_features_than_wells_are_scored_without_a_warning(screen, recwarn):
    own = screen(perturbations=12, plates=1, controls=5)
    wide = np.random.default_rng(0).normal(size=(len(own.X), 50 * len(own.X))).astype(np.float32)
    wide[:, : own.X.shape[1]] += 20 * own.X
    for menu in (("fold", "plate-standardise", "plate-spherise"), ("tvn",)):
        _, results, out = run(own.data, wide, PROTOCOL.with_settings(repeats=1, normalisation=menu))
        assert np.isfinite(out.scores["r2"]).all()
        assert all(np.isfinite(r.prediction).all() for r in results)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("hole", ["", "nan", "None"])
def test_a_unit_without_a_perturbation_is_named(screen, hole):
    own = screen(perturbations=14)
    groups = own.data.groups.astype(object)
    row = int(np.flatnonzero(~own.data.control)[4])
    groups[row] = hole
    with pytest.raises(TaskError, match=f"unit row {row} has no perturbation .1 such units"):
        run(replace(own.data, groups=groups.astype(np.str_)), own.X)


def test_negative_controls_alone_are_refused(screen):
    own = screen(perturbations=14)
    with pytest.raises(TaskError, match="negative controls only"):
        run(replace(own.data, control=np.ones_like(own.data.control)), own.X)


def test_infinite_features_are_counted_and_the_first_is_named(screen):
    own = screen(perturbations=14)
    X = own.X.copy()
    X[3, 1], X[9, 0] = np.inf, -np.inf
    with pytest.raises(TaskError, match=r"feature 1 of well row 3 is infinite .2 such values"):
        run(own.data, X)


def test_a_panel_that_a_score_picked_is_warned_of_by_the_audit(screen):
    data = screen(perturbations=14).data
    table = folds.make(data, PROTOCOL)
    flagged = audit(replace(data, panel="score-selected"), PROTOCOL, table)
    assert "panel-selected" in {f.code for f in flagged}
    assert "panel-selected" not in {f.code for f in audit(replace(data, panel="named"), PROTOCOL, table)}
