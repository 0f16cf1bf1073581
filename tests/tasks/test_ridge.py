"""Ridge against scikit-learn, one readout at a time."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from tasks.base import TaskError
from tasks.folds import assign
from tasks.heads.mean import Mean
from tasks.heads.ridge import SPAN, TIES, Ridge, RidgeConfig, patterns
from tasks.protocol import LogGrid, load

GRID = LogGrid(1e-3, 1e6, 7)


def problem(m=60, D=10, T=6, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{i // 3}" for i in range(m)])
    X = rng.normal(size=(m, D)) * rng.uniform(0.1, 10, D) + rng.normal(size=D) * 5
    B = rng.normal(size=(D, T))
    B[:, ::2] = 0
    Y = X @ B + rng.normal(size=(m, T)) * np.linspace(0.5, 20, T) + 100 * rng.normal(size=T)
    mask = rng.random((m, T)) >= missing
    return X, Y, mask, groups


def reference(X, Y, mask, groups, config, Z):
    """scikit-learn per readout: a search over the same inner folds, then a refit; the mean if it wins."""
    fold = assign(groups, config.inner_folds, config.seed)
    centred = X - X.mean(axis=0)
    scale = (centred**2).sum() / len(X)
    alphas = np.geomspace(config.penalties.start, config.penalties.stop, config.penalties.num) * scale
    out, chosen, losses = [], [], []
    for t in range(Y.shape[1]):
        rows = mask[:, t]
        x, y, f = X[rows], Y[rows, t], fold[rows]
        loss = {}
        for alpha in alphas:
            loss[alpha] = 0.0
            for k in np.unique(f):
                fitted = Reference(alpha=alpha, solver="svd").fit(x[f != k], y[f != k])
                loss[alpha] += ((y[f == k] - fitted.predict(x[f == k])) ** 2).sum()
        loss[np.inf] = sum(((y[f == k] - y[f != k].mean()) ** 2).sum() for k in np.unique(f))
        best = max(a for a, own in loss.items() if own <= min(loss.values()) * (1 + TIES))
        chosen.append(best)
        losses.append(loss[best])
        fitted = y.mean() if np.isinf(best) else Reference(alpha=best, solver="svd").fit(x, y).predict(Z)
        out.append(np.broadcast_to(fitted, len(Z)))
    return np.stack(out, axis=1), np.array(chosen), np.array(losses)


def exact(head, Z):
    """Predictions before they are rounded to float32."""
    return (Z - head._origin) @ head.coef_ + head.intercept_


@pytest.mark.parametrize("products", ["float32", "float64"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("D", [4, 50, 300], ids=["tall", "square", "wide"])
def test_every_readout_equals_scikit_learns_grid_search(D, missing, products):
    X, Y, mask, groups = problem(D=D, missing=missing)
    Z = np.random.default_rng(9).normal(size=(11, D))
    config = RidgeConfig(GRID, inner_folds=4, seed=3, products=products, block=4)
    head = Ridge(config).fit(X, np.where(mask, Y, np.nan), mask, groups)
    expected, alpha, loss = reference(X, Y, mask, groups, config, Z)
    np.testing.assert_allclose(head.chosen_["alpha"], alpha, rtol=1e-10)
    np.testing.assert_allclose(exact(head, Z), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(head.inner_loss_, loss, rtol=1e-8 if products == "float64" else 1e-4)
    np.testing.assert_allclose(head.predict(Z), expected, rtol=1e-5, atol=1e-4)


def test_scikit_learns_own_search_chooses_the_same_penalty():
    X, Y, mask, groups = problem(m=80, D=6)
    config = RidgeConfig(GRID, seed=1)
    head = Ridge(config).fit(X, Y, mask, groups)
    fold = assign(groups, 4, 1)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 3  # GridSearchCV averages fold means: equal sizes make it a sum
    for t in (1, 3, 5):
        search = GridSearchCV(
            Reference(solver="svd"), {"alpha": head.penalties_[:-1]}, scoring="neg_mean_squared_error",
            cv=PredefinedSplit(fold),
        ).fit(X, Y[:, t])  # fmt: skip
        assert search.best_params_["alpha"] == pytest.approx(head.chosen_["alpha"][t])
        np.testing.assert_allclose(head.predict(X)[:, t], search.predict(X), rtol=1e-4, atol=1e-3)


def test_blocks_of_readouts_change_nothing():
    X, Y, mask, groups = problem(T=23, missing=0.1)
    whole, parts = (
        Ridge(RidgeConfig(GRID, block=b, products="float64")).fit(X, Y, mask, groups) for b in (99, 5)
    )
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-9, atol=1e-12)


def test_the_order_of_rows_does_not_choose():
    X, Y, mask, groups = problem()
    order = np.random.default_rng(0).permutation(len(X))
    a = Ridge(RidgeConfig(GRID)).fit(X, Y, mask, groups)
    b = Ridge(RidgeConfig(GRID)).fit(X[order], Y[order], mask[order], groups[order])
    np.testing.assert_allclose(a.chosen_["alpha"], b.chosen_["alpha"])
    np.testing.assert_allclose(exact(a, X), exact(b, X), rtol=1e-8)


def test_a_readout_that_features_do_not_predict_falls_back_to_the_mean():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(90, 30)), rng.normal(size=(90, 200))
    groups = np.array([f"g{i // 3}" for i in range(90)])
    mask = np.ones(Y.shape, bool)
    head = Ridge(RidgeConfig(GRID)).fit(X, Y, mask, groups)
    mean = np.isinf(head.chosen_["alpha"])
    assert mean.mean() > 0.3
    np.testing.assert_array_equal(head.coef_[:, mean], 0)
    np.testing.assert_allclose(head.predict(X[:2])[0, mean], Y.mean(axis=0)[mean], rtol=1e-5, atol=1e-7)


def test_the_infinite_penalty_costs_what_the_mean_costs():
    X, Y, mask, groups = problem(missing=0.2)
    huge = RidgeConfig(LogGrid(1e30, 1e30, 1), seed=5, products="float64")
    ridge, mean = Ridge(huge).fit(X, Y, mask, groups), Mean(seed=5).fit(X, Y, mask, groups)
    assert np.isinf(ridge.chosen_["alpha"]).all()  # of equal losses the largest penalty wins
    np.testing.assert_allclose(ridge.inner_loss_, mean.inner_loss_, rtol=1e-9)
    np.testing.assert_allclose(ridge.predict(X), mean.predict(X), rtol=1e-6)


def test_readouts_on_any_scale_are_fitted_alike():
    X, Y, mask, groups = problem()
    a = Ridge(RidgeConfig(GRID)).fit(X, Y, mask, groups)
    b = Ridge(RidgeConfig(GRID)).fit(X, Y * 1e25, mask, groups)
    np.testing.assert_allclose(a.chosen_["alpha"], b.chosen_["alpha"])
    np.testing.assert_allclose(a.coef_ * 1e25, b.coef_, rtol=1e-9)


def test_constant_unobserved_and_once_observed_readouts_are_defined():
    X, Y, mask, groups = problem(T=4)
    Y[:, 0] = 7.0
    mask[:, 1] = False
    mask[:, 2] = groups == "g4"
    head = Ridge(RidgeConfig(GRID)).fit(X, np.where(mask, Y, np.nan), mask, groups)
    p = head.predict(X)
    np.testing.assert_allclose(p[:, 0], 7.0)
    assert np.isnan(p[:, 1]).all()
    np.testing.assert_allclose(p[:, 2], Y[groups == "g4", 2].mean(), rtol=1e-6)
    assert np.isnan(head.inner_loss_[1:3]).all()
    assert np.isfinite(p[:, 3]).all()


def test_constant_features_and_duplicated_columns_are_harmless():
    X, Y, mask, groups = problem(D=3)
    twice = np.concatenate([X, X, np.ones((len(X), 2))], axis=1)
    p = Ridge(RidgeConfig(GRID)).fit(twice, Y, mask, groups).predict(twice)
    assert np.isfinite(p).all()
    flat = Ridge(RidgeConfig(GRID)).fit(np.ones_like(X), Y, mask, groups).predict(X)
    np.testing.assert_allclose(flat, np.tile(Y.mean(axis=0), (len(X), 1)), rtol=1e-5)


def test_features_that_are_not_finite_are_refused():
    X, Y, mask, groups = problem()
    X[0, 0] = np.inf
    with pytest.raises(TaskError, match="finite"):
        Ridge().fit(X, Y, mask, groups)


def test_patterns_cover_every_readout_once():
    mask = np.random.default_rng(0).random((9, 40)) > 0.1
    mask[:, 5:20] = True
    seen = []
    for columns, rows in patterns(mask):
        assert (mask[:, columns] == rows[:, None]).all()
        seen += list(columns)
    assert sorted(seen) == list(range(40))
    assert max(len(columns) for columns, _ in patterns(mask)) >= 15


def test_both_heads_take_menu_and_folds_from_the_protocol():
    protocol = load("nested-cv").with_settings(inner_folds=3, seed=8, penalties=GRID)
    assert Ridge.for_protocol(protocol).config == RidgeConfig(GRID, 3, 8)
    assert vars(Mean.for_protocol(protocol)) == {"inner_folds": 3, "seed": 8}


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.1])
def test_losses_of_readouts_that_features_reproduce_are_within_a_millionth_of_their_variance(noise):
    X, _, _, groups = problem(m=240, D=60, T=80, missing=0.0)
    rng = np.random.default_rng(0)
    Y = X @ rng.standard_normal((60, 80))
    Y += noise * Y.std() * rng.standard_normal(Y.shape)
    grid = LogGrid(1e-3, 1e6, 20)
    fast, exact = (
        Ridge(RidgeConfig(grid, products=products)).fit(X, Y, np.ones(Y.shape, bool), groups)
        for products in ("float32", "float64")
    )
    np.testing.assert_array_equal(fast.chosen_["alpha"], exact.chosen_["alpha"])
    error = np.abs(fast.inner_loss_ - exact.inner_loss_)
    assert (error < 1e-6 * len(Y) * Y.var(axis=0)).all()


@pytest.mark.parametrize("D", [10, 200], ids=["tall", "wide"])
def test_losses_combined_from_few_penalties_are_those_of_every_penalty(D):
    X, Y, mask, groups = problem(m=120, D=D, T=80, missing=0.0)
    grid = LogGrid(1e-3, 1e6, 20)
    combined, each = (
        Ridge(RidgeConfig(grid, products=products)).fit(X, Y, mask, groups)
        for products in ("float32", "float64")
    )
    fold = assign(groups, 4, 0)
    order = np.argsort(fold, kind="stable")
    edges = np.flatnonzero(np.diff(fold[order], prepend=-1, append=-1))
    folds = [slice(*edges[i : i + 2]) for i in range(4)]
    X, Y = X[order] - X.mean(axis=0), Y[order]
    grams = [X[own].T @ X[own] for own in folds] if D < 90 else []
    inner = combined._prepare(X, folds, grams, SPAN, 1)
    assert inner.weights.shape[1] <= 40
    rows = folds[1].stop - folds[1].start
    assert sum(left.size for _, left in inner.parts) < 10 * len(inner.right) * rows
    z = ((Y - Y.mean(axis=0)) / Y.std(axis=0)).astype(np.float32)
    full = each._prepare(X, folds, [], 0.0, 1)
    assert [left.shape for _, left in full.parts] == [(20 * rows, len(full.right))]
    np.testing.assert_allclose(inner.losses(z), full.losses(z.astype(float)), rtol=1e-4)
    np.testing.assert_allclose(combined.inner_loss_, each.inner_loss_, rtol=1e-4)


@pytest.mark.parametrize("D", [10, 200], ids=["tall", "wide"])
def test_torch_gives_what_numpy_gives(D):
    X, Y, mask, groups = problem(D=D, missing=0.1)
    config = RidgeConfig(GRID, products="float64")
    numpy = Ridge(config).fit(X, Y, mask, groups)
    torch = Ridge(config)
    torch.device = "cpu:0"
    torch.fit(X, Y, mask, groups)
    np.testing.assert_array_equal(torch.chosen_["alpha"], numpy.chosen_["alpha"])
    np.testing.assert_allclose(torch.inner_loss_, numpy.inner_loss_, rtol=1e-6)
    np.testing.assert_allclose(exact(torch, X), exact(numpy, X), rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("products", ["float32", "float64"])
def test_a_gpu_gives_what_the_processor_gives(products):
    X, Y, mask, groups = problem(m=400, D=60, T=600)
    config = RidgeConfig(GRID, products=products)
    here, there = Ridge(config).fit(X, Y, mask, groups), Ridge(config)
    there.device = "cuda"
    there.fit(X, Y, mask, groups)
    np.testing.assert_array_equal(there.chosen_["alpha"], here.chosen_["alpha"])
    np.testing.assert_allclose(exact(there, X), exact(here, X), rtol=1e-6, atol=1e-6)


def test_a_device_that_is_not_there_is_named():
    X, Y, mask, groups = problem()
    head = Ridge(RidgeConfig(GRID))
    head.device = "nowhere:7"
    with pytest.raises(TaskError, match="nowhere:7"):
        head.fit(X, Y, mask, groups)


def test_threads_over_blocks_change_no_byte(monkeypatch):
    from threadpoolctl import threadpool_limits

    monkeypatch.setattr("tasks.heads.ridge.SMALL", 0)  # so that even this problem is fitted in threads
    X, Y, mask, groups = problem(m=120, D=20, T=60)
    fitted = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fitted.append(Ridge(RidgeConfig(GRID, block=13)).fit(X, Y, mask, groups))
    assert fitted[0].coef_.tobytes() == fitted[1].coef_.tobytes()
    assert fitted[0].inner_loss_.tobytes() == fitted[1].inner_loss_.tobytes()
