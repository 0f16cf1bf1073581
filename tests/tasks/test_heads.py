"""What every head keeps, whatever its method: masks, folds, undefined readouts, bytes."""

import numpy as np
import pytest

from tasks.base import TaskError
from tasks.folds import assign
from tasks.heads.elastic_net import ElasticNet, ElasticNetConfig
from tasks.heads.knn import Knn
from tasks.heads.lightgbm import Lightgbm, LightgbmConfig
from tasks.heads.linear import Linear
from tasks.heads.mean import observed_mean
from tasks.heads.mlp import Mlp, MlpConfig
from tasks.protocol import LogGrid, load

HEADS = {
    "elastic-net": lambda **k: ElasticNet(
        ElasticNetConfig(LogGrid(0.05, 0.5, 3), (0.5,), tolerance=1e-7, **k)
    ),
    "linear": lambda **_: Linear(),
    "knn": lambda **_: Knn(),
    "mlp": lambda **_: Mlp(MlpConfig(width=8, steps=60, check=20, rate=1e-2)),
    "lightgbm": lambda **_: Lightgbm(LightgbmConfig(trees=10, panel=99)),
}
WITH_MEAN = sorted(set(HEADS) - {"linear"})
"""Heads that fall back to the mean: least squares has no menu."""


def problem(m=72, D=6, T=7, seed=0, missing=0.0, calls=False):
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{i // 3}" for i in range(m)])
    X = rng.normal(size=(m, D))
    B = rng.normal(size=(D, T))
    B[:, ::3] = 0
    Y = X @ B + 0.5 * rng.normal(size=(m, T)) + (0 if calls else 20)
    Y = (Y > 0).astype(np.float32) if calls else Y.astype(np.float32)
    return X, Y, rng.random((m, T)) >= missing, groups


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]


@pytest.mark.parametrize("calls", [False, True], ids=["values", "calls"])
def test_what_is_masked_is_never_read(head, calls):
    X, Y, mask, groups = problem(missing=0.2, calls=calls)
    a = head().fit(X, np.where(mask, Y, np.nan), mask, groups)
    b = head().fit(X, np.where(mask, Y, 1e9), mask, groups)
    assert a.predict(X).tobytes() == b.predict(X).tobytes()
    np.testing.assert_array_equal(a.inner_loss_, b.inner_loss_)


@pytest.mark.parametrize("name", ["elastic-net", "linear", "knn", "lightgbm"])
def test_masked_rows_are_the_same_as_dropped_rows(name):
    """Each readout alone, on the rows where it is observed, gives the same predictions (a net shares its
    rows)."""
    X, Y, mask, groups = problem(m=150, missing=0.3)
    mask[::3] = True  # the inner folds deal groups: no readout lacks one
    head = HEADS[name]
    whole = head().fit(X, Y, mask, groups)
    for t in range(Y.shape[1]):
        rows = mask[:, t]
        one = head().fit(X[rows], Y[rows][:, [t]], np.ones((rows.sum(), 1), bool), groups[rows])
        np.testing.assert_allclose(whole.predict(X)[:, t], one.predict(X)[:, 0], rtol=2e-3, atol=2e-3)


def test_a_readout_that_was_never_observed_is_predicted_nan_and_a_constant_one_its_value(head):
    X, Y, mask, groups = problem()
    mask[:, 1] = False
    Y[:, 2] = 7.0
    fitted = head().fit(X, Y, mask, groups)
    p = fitted.predict(X[:5])
    assert np.isnan(p[:, 1]).all()
    assert np.isnan(fitted.inner_loss_[1])
    np.testing.assert_allclose(p[:, 2], 7.0, rtol=1e-5)
    assert np.isfinite(np.delete(p, 1, axis=1)).all()


def test_a_readout_in_one_perturbation_only_is_defined(head):
    X, Y, mask, groups = problem()
    mask[:, 1] = groups == "g4"
    fitted = head().fit(X, Y, mask, groups)
    p = fitted.predict(X)
    assert np.isfinite(p).all()
    assert np.isnan(fitted.inner_loss_[1])


@pytest.mark.parametrize("name", HEADS)
def test_a_fold_without_positives_is_defined(name):
    X, Y, mask, groups = problem(calls=True)
    fold = assign(groups, 4, 0)
    Y[:, 1] = fold == 2  # every positive in one inner fold
    Y[:, 2] = 0.0
    p = HEADS[name]().fit(X, Y, mask, groups).predict(X)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p[:, 2], 0.0, atol=1e-6)


@pytest.mark.parametrize("name", WITH_MEAN)
def test_noise_is_predicted_by_its_mean_more_often_than_not(name):
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(72, 6)), rng.normal(size=(72, 30)).astype(np.float32)
    groups = np.array([f"g{i // 3}" for i in range(72)])
    mask = np.ones(Y.shape, bool)
    head = HEADS[name]().fit(X, Y, mask, groups)
    flat = np.isclose(head.predict(X[:9]), observed_mean(Y, mask), atol=1e-6).all(axis=0)
    assert flat.mean() > 0.3


def test_separable_calls_give_finite_predictions_in_their_order(head):
    X, _, mask, groups = problem()
    Y = np.repeat((X[:, :1] > 0).astype(np.float32), 7, axis=1)
    p = head().fit(X, Y, mask, groups).predict(X)
    assert np.isfinite(p).all()
    assert p[Y[:, 0] == 1, 0].mean() > p[Y[:, 0] == 0, 0].mean() + 0.1


def test_fifty_times_more_features_than_rows_and_duplicated_columns_are_taken(head):
    X, Y, mask, groups = problem(m=24)
    wide = np.random.default_rng(0).normal(size=(24, 1200))
    for features in (wide, np.concatenate([X, X, np.ones((24, 2))], axis=1)):
        assert np.isfinite(head().fit(features, Y, mask, groups).predict(features)).all()


def test_features_that_are_not_finite_are_refused(head):
    X, Y, mask, groups = problem()
    X[3, 2] = np.inf
    with pytest.raises(TaskError, match="finite"):
        head().fit(X, Y, mask, groups)


@pytest.mark.parametrize("calls", [False, True], ids=["values", "calls"])
def test_the_same_input_gives_the_same_bytes(head, calls):
    X, Y, mask, groups = problem(missing=0.1, calls=calls)
    a, b = (head().fit(X, Y, mask, groups).predict(X) for _ in range(2))
    assert a.tobytes() == b.tobytes()


def test_chosen_values_stand_for_every_readout(head):
    X, Y, mask, groups = problem()
    fitted = head().fit(X, Y, mask, groups)
    assert all(len(values) == 7 for values in fitted.chosen_.values())
    assert fitted.inner_loss_.shape == (7,)


@pytest.mark.parametrize("cls", [ElasticNet, Linear, Knn, Mlp, Lightgbm])
def test_the_protocol_gives_inner_folds_and_seed(cls):
    protocol = load("nested-cv").with_settings(inner_folds=3, seed=8)
    config = cls.for_protocol(protocol).config
    assert (config.inner_folds, config.seed) == (3, 8)
