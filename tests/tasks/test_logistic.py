"""Logistic regression against scikit-learn, one readout at a time."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference

from tasks.base import TaskError
from tasks.folds import assign
from tasks.heads.logistic import TIES, Logistic, LogisticConfig
from tasks.heads.logit import diagonalise, log_loss, solve
from tasks.heads.ridge import Ridge
from tasks.protocol import LogGrid, load

GRID = LogGrid(1e-2, 1e2, 5)
EXACT = LogisticConfig(GRID, tolerance=1e-6)


def problem(m=120, D=10, T=9, seed=0, missing=0.2, strength=1.0):
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{i // 3}" for i in range(m)])
    X = rng.normal(size=(m, D)) * rng.uniform(0.5, 2, D) + rng.normal(size=D) * 5
    B = strength * rng.normal(size=(D, T)) / np.sqrt(D)
    B[:, ::3] = 0
    z = (X - X.mean(axis=0)) @ B + rng.normal(size=T)
    Y = (rng.random((m, T)) < 1 / (1 + np.exp(-z))).astype(np.float32)
    return X, Y, rng.random((m, T)) >= missing, groups


def objective(X, y, b, c, alpha):
    z = X @ b + c
    return (np.logaddexp(0, z) - y * z).sum() + alpha / 2 * (b @ b)


def optimum(X, y, alpha):
    fitted = Reference(C=1 / alpha, tol=1e-10, max_iter=10_000).fit(X, y)
    return fitted, objective(X, y, fitted.coef_[0], fitted.intercept_[0], alpha)


@pytest.mark.parametrize("multiplier", [1e-3, 1e-1, 10.0])
@pytest.mark.parametrize("D", [8, 60, 300], ids=["tall", "square", "wide"])
def test_every_readout_is_within_the_stated_share_of_scikit_learns_optimum(D, multiplier):
    X, Y, mask, _ = problem(D=D, T=12, strength=2.0)
    X = X - X.mean(axis=0)
    alpha = np.full(12, multiplier * D)
    design = diagonalise(X)
    fit = solve(design, np.where(mask, Y, np.nan), mask, alpha)
    assert (fit.gap <= 1e-4).all()
    for t in range(12):
        rows = mask[:, t]
        _, best = optimum(X[rows], Y[rows, t], alpha[t])
        own = objective(X[rows], Y[rows, t], design.axes @ fit.b[:, t], fit.c[t], alpha[t])
        assert own <= best * (1 + 1e-4)
        # The gap is a promise: no readout is further from its optimum than it says.
        assert own - best <= (fit.gap[t] + 1e-6) * own


def test_penalties_and_predictions_are_those_of_a_loop_over_scikit_learn():
    X, Y, mask, groups = problem(strength=3.0)
    head = Logistic(EXACT).fit(X, np.where(mask, Y, np.nan), mask, groups)
    fold = assign(groups, 4, 0)
    Z = np.random.default_rng(3).normal(size=(7, X.shape[1])) + X.mean(axis=0)
    for t in range(Y.shape[1]):
        x, y, f = X[mask[:, t]], Y[mask[:, t], t], fold[mask[:, t]]
        losses = []
        for alpha in head.penalties_[:-1]:
            inner = 0.0
            for k in range(4):
                chance = optimum(x[f != k], y[f != k], alpha)[0].predict_proba(x[f == k])[:, 1]
                inner -= np.log(np.where(y[f == k] == 1, chance, 1 - chance)).sum()
            losses.append(inner)
        floor = [
            np.log(np.where(y[f == k] == 1, y[f != k].mean(), 1 - y[f != k].mean())).sum() for k in range(4)
        ]
        losses = np.array([*losses, -sum(floor)])
        best = np.flatnonzero(losses <= losses.min() * (1 + TIES))[-1]
        np.testing.assert_allclose(head.inner_loss_[t], losses[best], rtol=1e-3)
        assert losses[head.penalties_ == head.chosen_["alpha"][t]] <= losses[best] * (1 + 1e-3)
        if head.chosen_["alpha"][t] == np.inf:
            expected = np.full(7, y.mean())
        else:
            expected = optimum(x, y, head.chosen_["alpha"][t])[0].predict_proba(Z)[:, 1]
        np.testing.assert_allclose(head.predict(Z)[:, t], expected, atol=2e-3)
    assert np.isfinite(head.chosen_["alpha"]).sum() >= 4


def torch_agrees(where):
    X, Y, mask, groups = problem(strength=3.0)
    here, there = Logistic(EXACT), Logistic(EXACT)
    there.device = where
    for head in (here, there):
        head.fit(X, np.where(mask, Y, np.nan), mask, groups)
    np.testing.assert_allclose(there.chosen_["alpha"], here.chosen_["alpha"], rtol=1e-6)
    np.testing.assert_allclose(there.inner_loss_, here.inner_loss_, rtol=1e-4)
    assert (there.gap_ <= 1e-6).all()
    for t in np.flatnonzero(np.isfinite(here.chosen_["alpha"])):
        x, y, alpha = X[mask[:, t]] - X.mean(axis=0), Y[mask[:, t], t], here.chosen_["alpha"][t]
        own, other = (objective(x, y, h.coef_[:, t], h.intercept_[t], alpha) for h in (here, there))
        assert abs(own - other) <= 1e-6 * own  # both stand within their gap of the one optimum


def test_torch_reaches_the_optimum_that_numpy_reaches():
    torch_agrees("cpu:0")


@pytest.mark.gpu
def test_a_gpu_reaches_the_optimum_that_the_processor_reaches():
    torch_agrees("cuda")


def test_separable_classes_get_finite_coefficients():
    X, _, _, groups = problem(T=1)
    Y = np.stack([X[:, 0] > X[:, 0].mean(), X @ np.ones(10) > 0], axis=1).astype(np.float32)
    head = Logistic(LogisticConfig(LogGrid(1e-6, 1e-6, 1))).fit(X, Y, np.ones(Y.shape, bool), groups)
    assert np.isfinite(head.coef_).all()
    assert (head.gap_ <= 1e-4).all()
    assert ((head.predict(X) > 0.5) == (Y == 1)).all()


def test_one_class_and_no_row_are_defined():
    X, Y, mask, groups = problem(T=5)
    Y[:, 0], Y[:, 1] = 1, 0
    mask[:, 2] = False
    # The only positive stands in one inner fold: the others have one class when it is validated.
    Y[:, 3] = 0
    Y[4, 3], mask[4, 3] = 1, True
    head = Logistic(EXACT).fit(X, Y, mask, groups)
    out = head.predict(X[:3])
    np.testing.assert_array_equal(out[:, 0], 1)
    np.testing.assert_array_equal(out[:, 1], 0)
    assert np.isnan(out[:, 2]).all()
    assert np.isnan(head.inner_loss_[:3]).all()
    assert np.isinf(head.chosen_["alpha"][:3]).all()
    assert np.isfinite(out[:, 3:]).all()
    assert np.isfinite(head.inner_loss_[3:]).all()


def test_a_readout_without_two_inner_classes_is_predicted_its_prevalence():
    X, Y, mask, groups = problem(T=1, missing=0.0)
    fold = assign(groups, 4, 0)
    Y[:, 0] = fold == 2
    mask[:, 0] = np.isin(fold, (1, 2))
    head = Logistic(EXACT).fit(X, Y, mask, groups)
    np.testing.assert_allclose(head.predict(X[:2])[:, 0], Y[mask].mean(), rtol=1e-6)
    assert np.isnan(head.inner_loss_[0])


def test_blocks_and_the_order_of_rows_change_no_choice():
    X, Y, mask, groups = problem(T=23)
    whole = Logistic(LogisticConfig(GRID, tolerance=1e-6)).fit(X, Y, mask, groups)
    parts = Logistic(LogisticConfig(GRID, tolerance=1e-6, block=5)).fit(X, Y, mask, groups)
    order = np.random.default_rng(0).permutation(len(X))
    mixed = Logistic(EXACT).fit(X[order], Y[order], mask[order], groups[order])
    for other in (parts, mixed):
        np.testing.assert_allclose(whole.chosen_["alpha"], other.chosen_["alpha"], rtol=1e-9)
        np.testing.assert_allclose(whole.predict(X), other.predict(X), atol=2e-3)


def test_the_same_input_gives_the_same_bytes():
    X, Y, mask, groups = problem()
    a, b = (Logistic().fit(X, Y, mask, groups).predict(X) for _ in range(2))
    assert a.tobytes() == b.tobytes()


def test_wide_features_and_constant_ones_are_taken():
    X, Y, mask, groups = problem(m=30, D=1500)
    X[:, 3] = 7.0
    assert np.isfinite(Logistic().fit(X, Y, mask, groups).predict(X)).all()
    flat = Logistic().fit(np.ones((30, 2)), Y, np.ones_like(mask), groups).predict(np.ones((1, 2)))
    np.testing.assert_allclose(flat[0], Y.mean(axis=0), rtol=1e-5)


def test_log_loss_is_minus_the_log_chance_and_leaves_out_what_is_masked():
    z, y = np.array([[2.0], [-1.0], [50.0]]), np.array([[1.0], [0.0], [np.nan]])
    expected = np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))
    np.testing.assert_allclose(log_loss(z, y, ~np.isnan(y)), [expected])


def test_values_that_are_no_calls_and_infinite_features_are_refused():
    X, Y, mask, groups = problem()
    with pytest.raises(TaskError, match="0 and 1"):
        Logistic().fit(X, Y + 0.5, mask, groups)
    X[3, 2] = np.inf
    with pytest.raises(TaskError, match="finite"):
        Logistic().fit(X, Y, mask, groups)


def test_the_protocol_gives_inner_folds_and_seed():
    protocol = load("nested-cv")
    config = Logistic.for_protocol(protocol).config
    assert (config.inner_folds, config.seed) == (protocol.inner_folds, protocol.seed)
    assert Ridge.for_protocol(protocol).config.inner_folds == config.inner_folds


def test_a_protocol_that_holds_the_penalty_holds_it_here_too():
    protocol = load("nested-cv").with_settings(penalties=LogGrid(100.0, 100.0, 1))
    assert Logistic.for_protocol(protocol).config.penalties == protocol.penalties
    assert Logistic.for_protocol(load("nested-cv")).config.penalties == LogisticConfig().penalties
