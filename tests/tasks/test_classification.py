"""Classification: which calls are missing, an oracle of explicit loops, and what is undefined."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks import evaluate, folds
from tasks.base import TaskError
from tasks.classification import Classification, ClassificationConfig, calls
from tasks.heads.logistic import Logistic
from tasks.heads.mean import Mean
from tasks.heads.ridge import Ridge
from tasks.protocol import load

NESTED = load("nested-cv").with_settings(repeats=2)


def call_screen(screen, missing=0.1, seed=1, **settings):
    """A screen whose values are turned into calls, the same for all wells of a perturbation."""
    own = screen(**({"perturbations": 30, "T": 6, "null": 2} | settings))
    rng = np.random.default_rng(seed)
    Y = own.data.Y.copy()
    for name in np.unique(own.data.groups):
        Y[own.data.groups == name] = Y[own.data.groups == name].mean(axis=0)
        Y[own.data.groups == name] += np.where(rng.random(Y.shape[1]) < missing, np.nan, 0)
    limit = np.nanquantile(np.abs(Y), 0.5, axis=0)
    Y = np.where(np.isnan(Y), np.nan, np.where(np.abs(Y) > limit, np.sign(Y), 0.0)).astype(np.float32)
    return replace(own, data=replace(own.data, Y=Y))


def scored(own, direction=0, head=Logistic, config=None, protocol=NESTED):
    task = Classification(config)
    data = task.problems(own.data)[direction]
    table = folds.make(data, protocol)
    results = evaluate.run(data, own.features, protocol, table, head)
    return data, table, results, task.score(data, table, results)


def fold_scores(data, result, t, keep=None):
    """(AUC, AP, prevalence, positives, negatives) of one fold, from one row per perturbation and call."""
    rows = {}
    for i, u in enumerate(result.rows):
        y, p = data.Y[u, t], float(result.prediction[i, t])
        if not np.isnan([y, p]).any() and (keep is None or keep[u]):
            rows.setdefault((data.groups[u], y), []).append(p)
    y = np.array([call for _, call in rows])
    p = np.array([np.mean(values) for values in rows.values()])
    if len(set(y)) < 2:
        return (np.nan,) * 3 + ((y == 1).sum(), (y == 0).sum())
    return roc_auc_score(y, p), average_precision_score(y, p), y.mean(), (y == 1).sum(), (y == 0).sum()


def test_the_other_direction_and_the_unclassified_are_missing_and_never_negatives():
    Y = np.array([[1, -1, 0, np.nan]], np.float32)
    np.testing.assert_array_equal(calls(Y, 1.0), [[1, np.nan, 0, np.nan]])
    np.testing.assert_array_equal(calls(Y, -1.0), [[np.nan, 1, 0, np.nan]])


def test_a_layer_asks_two_questions_named_apart(screen):
    own = call_screen(screen)
    up, down = Classification().problems(own.data)
    assert (up.layer, down.layer) == ("readouts:up", "readouts:down")
    assert [own.layer.removeprefix("readouts") for own in (up, down)] == list(Classification.boards)
    assert np.nansum(up.Y) == (own.data.Y == 1).sum()
    assert np.nansum(down.Y) == (own.data.Y == -1).sum()


@pytest.mark.parametrize("direction", [0, 1], ids=["up", "down"])
def test_scores_are_means_over_folds_of_scores_within_folds(screen, direction):
    own = call_screen(screen)
    data, _, results, out = scored(own, direction)
    frame = out.scores
    assert out.fold_values.shape == (2, 5, 6)
    assert out.e.shape == (2, 30, 0)
    for t in range(6):
        values = [fold_scores(data, result, t) for result in results]
        for result, value in zip(results, values, strict=True):
            np.testing.assert_allclose(
                out.fold_values[result.id.repeat, result.id.fold, t], value[0], rtol=1e-6
            )
        for column, place in (("roc_auc", 0), ("ap", 1), ("prevalence", 2)):
            known = [value[place] for value in values if not np.isnan(value[place])]
            expected = np.mean(known) if known else np.nan
            np.testing.assert_allclose(frame[column][t], expected, rtol=1e-6)
        tested = ~data.control
        positive = tested & (data.Y[:, t] == 1)
        assert frame["n_pos"][t] == len(set(data.groups[positive]))
        assert frame["n_folds"][t] == sum(not np.isnan(value[0]) for value in values)
    assert frame["roc_auc"][:4].mean() > 0.6 > frame["roc_auc"][4:].mean() - 0.25


def test_strata_of_score_by_are_scored_on_their_own_rows(screen):
    own = call_screen(screen, doses=2, score_by=("Metadata_Dose",))
    data, _, results, out = scored(own)
    for dose in (0, 1):
        keep = data.units["Metadata_Dose"].to_numpy() == dose
        frame = out.scores[out.scores["stratum"] == f"Metadata_Dose={dose}"].reset_index()
        for t in range(6):
            values = [fold_scores(data, result, t, keep)[0] for result in results]
            expected = np.nanmean(values) if np.isfinite(values).any() else np.nan
            np.testing.assert_allclose(frame["roc_auc"][t], expected, rtol=1e-6)


def test_the_floor_scores_a_half_and_its_average_precision_is_the_prevalence(screen):
    frame = scored(call_screen(screen), head=Mean)[3].scores
    known = frame["roc_auc"].notna()
    assert known.any()
    np.testing.assert_array_equal(frame.loc[known, "roc_auc"], 0.5)
    np.testing.assert_allclose(frame.loc[known, "ap"], frame.loc[known, "prevalence"], rtol=1e-6)


def test_ridge_on_calls_ranks_them_too(screen):
    frame = scored(call_screen(screen, missing=0.0, noise=0.2), head=Ridge)[3].scores
    assert frame["roc_auc"][:4].mean() > 0.6


def test_folds_below_the_minimum_do_not_count(screen):
    own = call_screen(screen)
    strict = scored(own, config=ClassificationConfig(min_positives=3, min_negatives=2))
    data, _, results, out = strict
    for result in results:
        for t in range(6):
            value = fold_scores(data, result, t)
            counts = value[3] >= 3 and value[4] >= 2
            assert np.isfinite(out.fold_values[result.id.repeat, result.id.fold, t]) == counts


def test_a_perturbation_without_a_prediction_is_left_out(screen):
    own = call_screen(screen)
    X = own.X.copy()
    X[own.data.groups == "cpd03"] = np.nan
    data, _, results, out = scored(replace(own, X=X))
    rows = {result.id: fold_scores(data, result, 0)[0] for result in results}
    for identifier, value in rows.items():
        np.testing.assert_allclose(out.fold_values[identifier.repeat, identifier.fold, 0], value, rtol=1e-6)


def test_values_that_are_no_calls_and_layers_without_two_classes_are_refused(screen):
    own = screen(perturbations=12)
    with pytest.raises(TaskError, match="not a call"):
        Classification().problems(own.data)
    with pytest.raises(TaskError, match="no readout has both"):
        Classification().problems(replace(own.data, Y=np.zeros_like(own.data.Y)))


def test_a_direction_without_a_call_is_not_asked_and_said(screen):
    own = call_screen(screen)
    (up,) = Classification().problems(replace(own.data, Y=np.where(own.data.Y == -1, np.nan, own.data.Y)))
    assert up.layer == "readouts:up"
    assert up.notes == ("No board readouts:down: no readout has both a down and a not call.",)
    both = Classification().problems(own.data)
    assert [data.notes for data in both] == [(), ()]


def test_poisoned_test_rows_change_no_prediction_of_training(screen):
    own = call_screen(screen)
    data = Classification().problems(own.data)[0]
    table = folds.make(data, NESTED)
    identifier = evaluate.all_ids(table)[0]
    test, _ = evaluate.split(table, identifier)
    spoilt = data.Y.copy()
    spoilt[test] = 1 - spoilt[test]
    clean, poisoned = (
        evaluate.run_fold(each, own.features, NESTED, table, identifier, Logistic)
        for each in (data, replace(data, Y=spoilt))
    )
    assert clean.prediction.tobytes() == poisoned.prediction.tobytes()
