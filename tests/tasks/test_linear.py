"""Least squares against scikit-learn and NumPy."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tasks.folds import assign
from tasks.heads.linear import Linear, least_squares


def problem(m=40, D=6, T=5, seed=0, missing=0.2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, D)) + 3
    return (
        X,
        rng.normal(size=(m, T)) + X[:, :1],
        rng.random((m, T)) >= missing,
        np.array([f"g{i // 2}" for i in range(m)]),
    )


@pytest.mark.parametrize("D", [6, 31, 400], ids=["tall", "square", "wide"])
def test_predictions_and_inner_losses_are_scikit_learns(D):
    X, Y, mask, groups = problem(D=D)
    head = Linear().fit(X, np.where(mask, Y, np.nan), mask, groups)
    fold = assign(groups, 4, 0)
    for t in range(5):
        x, y, f = X[mask[:, t]], Y[mask[:, t], t], fold[mask[:, t]]
        np.testing.assert_allclose(
            head.predict(X)[:, t], LinearRegression().fit(x, y).predict(X), rtol=1e-4, atol=1e-4
        )
        loss = sum(
            ((y[f == k] - LinearRegression().fit(x[f != k], y[f != k]).predict(x[f == k])) ** 2).sum()
            for k in range(4)
        )
        np.testing.assert_allclose(head.inner_loss_[t], loss, rtol=1e-6)


def test_of_many_solutions_the_smallest_is_taken():
    X, Y, _, _ = problem(m=10, D=30)
    coef, intercept = least_squares(X, Y, 1e-6)
    np.testing.assert_allclose(X @ coef + intercept, Y, atol=1e-9)
    expected = np.linalg.lstsq(X - X.mean(axis=0), Y - Y.mean(axis=0), rcond=1e-10)[0]
    np.testing.assert_allclose(coef, expected, atol=1e-10)


def test_directions_below_the_cutoff_are_left_out():
    X, Y, mask, groups = problem(missing=0.0)
    noisy = np.concatenate([X, X + 1e-9 * np.random.default_rng(1).normal(size=X.shape)], axis=1)
    head = Linear().fit(noisy, Y, mask, groups)
    assert np.abs(head.coef_).max() < 10
    np.testing.assert_allclose(head.predict(noisy), Linear().fit(X, Y, mask, groups).predict(X), atol=1e-4)
