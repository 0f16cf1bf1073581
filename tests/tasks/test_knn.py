"""Nearest neighbours against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from tasks.base import TaskError
from tasks.folds import assign
from tasks.heads.knn import Knn, KnnConfig, nearest, neighbour_means


def problem(m=80, D=5, T=6, seed=0, missing=0.25):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, D)) + 0.5
    Y = np.tanh(X @ rng.normal(size=(D, T))) + 0.2 * rng.normal(size=(m, T))
    return X, Y, rng.random((m, T)) >= missing, np.array([f"g{i // 2}" for i in range(m)])


def reference(x, y, z, k, metric):
    return KNeighborsRegressor(k, metric=metric, algorithm="brute").fit(x, y).predict(z)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("missing", [0.0, 0.25, 0.9])
def test_means_are_scikit_learns_on_the_observed_rows(metric, missing):
    X, Y, mask, _ = problem(missing=missing)
    Z = np.random.default_rng(5).normal(size=(9, 5))
    means = neighbour_means(nearest(Z, X, metric), np.where(mask, Y, 0.0), mask, (1, 4, 30))
    for t in range(Y.shape[1]):
        rows = mask[:, t]
        for i, k in enumerate((1, 4, 30)):
            expected = reference(X[rows], Y[rows, t], Z, min(k, rows.sum()), metric)
            np.testing.assert_allclose(means[i, :, t], expected, rtol=1e-10, atol=1e-12)


def test_k_and_metric_are_those_of_a_loop_over_scikit_learn():
    X, Y, mask, groups = problem()
    config = KnnConfig(neighbours=(1, 5, 20), seed=3)
    head = Knn(config).fit(X, np.where(mask, Y, np.nan), mask, groups)
    fold = assign(groups, 4, 3)
    Z = np.random.default_rng(6).normal(size=(7, 5))
    for t in range(Y.shape[1]):
        x, y, f = X[mask[:, t]], Y[mask[:, t], t], fold[mask[:, t]]
        loss = {
            (k, metric): sum(
                ((y[f == own] - reference(x[f != own], y[f != own], x[f == own], k, metric)) ** 2).sum()
                for own in range(4)
            )
            for k in (1, 5, 20)
            for metric in ("euclidean", "cosine")
        }
        k, metric = min(loss, key=lambda own: loss[own])
        assert (head.chosen_["k"][t], head.chosen_["metric"][t]) == (k, metric)
        np.testing.assert_allclose(head.inner_loss_[t], loss[k, metric], rtol=1e-9)
        np.testing.assert_allclose(head.predict(Z)[:, t], reference(x, y, Z, k, metric), rtol=1e-5)


def test_equal_distances_go_to_the_earlier_row():
    X = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    np.testing.assert_array_equal(nearest(np.zeros((1, 2)), X, "euclidean"), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(nearest(np.zeros((1, 2)), X, "cosine"), [[0, 1, 2, 3]])


def test_blocks_change_no_byte():
    X, Y, mask, groups = problem(T=11)
    a, b = (Knn(KnnConfig(block=size)).fit(X, Y, mask, groups).predict(X) for size in (99, 3))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "settings", [{"neighbours": (5, 1)}, {"neighbours": ()}, {"metrics": ("manhattan",)}]
)
def test_a_menu_that_makes_no_sense_is_refused(settings):
    with pytest.raises(TaskError, match="knn"):
        KnnConfig(**settings)
