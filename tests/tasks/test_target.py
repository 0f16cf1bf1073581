"""Targets: which are asked about, what a compound counts for, and refusals in a sentence."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tasks import evaluate, folds
from tasks.base import TaskError
from tasks.heads.logistic import Logistic
from tasks.protocol import load
from tasks.target import Target, TargetConfig

NESTED = load("nested-cv").with_settings(repeats=1)


def target_screen(screen, hits, **settings):
    """A screen whose readouts are targets; target t is hit by every ``hits[t]``-th perturbation."""
    own = screen(**({"perturbations": 20, "T": len(hits), "null": 0, "D": 6} | settings))
    number = np.array([int(g[3:]) if g.startswith("cpd") else -1 for g in own.data.groups])
    Y = np.stack([number % step == 0 for step in hits], axis=1).astype(np.float32)
    Y[own.data.control] = np.nan
    names = tuple(f"t{step}" for step in hits)
    return replace(own, data=replace(own.data, Y=Y, readouts=names, layer="targets"))


def test_labels_of_a_compound_count_once_whatever_its_wells_and_doses(screen):
    own = target_screen(screen, (2,), doses=3, plates=2)
    data = Target().prepare(own.data)
    table = folds.make(data, NESTED)
    results = evaluate.run(data, own.features, NESTED, table, Logistic)
    out = Target().score(data, table, results)
    expected = []
    for result in results:
        groups = data.groups[result.rows]
        names = np.unique(groups)
        y = [data.Y[result.rows][groups == g, 0][0] for g in names]
        p = [result.prediction[groups == g, 0].astype(np.float64).mean() for g in names]
        if len(set(y)) == 2:
            expected.append(roc_auc_score(y, p))
    assert out.scores["roc_auc"][0] == pytest.approx(np.mean(expected), abs=1e-6)
    assert out.scores[["n_pos", "n_neg", "n_units"]].to_numpy().tolist() == [[10, 10, 120]]


def test_targets_of_too_few_compounds_are_not_asked_and_are_named_with_their_numbers(screen):
    own = target_screen(screen, (2, 20, 7))
    data = Target().prepare(own.data)
    assert np.isnan(data.Y).all(axis=0).tolist() == [False, True, True]
    assert data.notes == (
        "2 of 3 targets have fewer than 5 perturbations that hit them, or that do not, and are not asked: "
        "t20 (1 hit, 19 not), t7 (3 hit, 17 not).",
    )
    assert Target(TargetConfig(min_perturbations=3)).prepare(own.data).notes[0].startswith("1 of 3")
    every = Target(TargetConfig(min_perturbations=1)).prepare(own.data)
    assert every.notes == ()


def test_too_few_compounds_for_every_target_is_refused_with_the_best_supported_one(screen):
    own = target_screen(screen, (20, 7))
    with pytest.raises(TaskError, match=r"best supported of 2, 't7', is hit by 3 and not hit by 17, and 5"):
        Target().prepare(own.data)
    with pytest.raises(TaskError, match="'t1', is hit by 20 and not hit by 0"):
        Target().prepare(target_screen(screen, (1,)).data)


def test_a_value_that_is_no_target_is_refused(screen):
    own = target_screen(screen, (2, 4))
    Y = own.data.Y.copy()
    row = int(np.flatnonzero(~own.data.control)[3])
    Y[row, 1] = 0.5
    with pytest.raises(TaskError, match=rf"target 't4' of unit row {row} is 0.5 \(1 such values\)"):
        Target().prepare(replace(own.data, Y=Y))
    with pytest.raises(TaskError, match="negative controls only"):
        Target().prepare(replace(own.data, control=np.ones(len(Y), bool)))
