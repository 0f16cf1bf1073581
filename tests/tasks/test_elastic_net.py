"""Elastic net against scikit-learn, one readout at a time."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet as Reference
from sklearn.linear_model import LogisticRegression

from tasks.base import TaskError
from tasks.folds import assign
from tasks.heads import coordinate, newton
from tasks.heads.coordinate import solve
from tasks.heads.elastic_net import TIES, ElasticNet, ElasticNetConfig
from tasks.protocol import LogGrid

EXACT = ElasticNetConfig(LogGrid(0.02, 0.5, 3), (0.1, 0.9), tolerance=1e-9)


def problem(m=90, D=12, T=8, seed=0, missing=0.2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, D)) @ (np.eye(D) + 0.3 * rng.normal(size=(D, D))) + rng.normal(size=D)
    B = rng.normal(size=(D, T)) * (rng.random((D, T)) < 0.5)
    B[:, ::4] = 0
    Y = X @ B + 2 * rng.normal(size=(m, T)) + 50
    return X, Y, rng.random((m, T)) >= missing, np.array([f"g{i // 3}" for i in range(m)])


def calls(Y):
    return (np.median(Y, axis=0) < Y).astype(np.float64)


@pytest.mark.parametrize("D", [6, 40, 200], ids=["tall", "square", "wide"])
@pytest.mark.parametrize("ratio", [0.1, 1.0], ids=["ridge-like", "lasso"])
def test_every_readout_is_at_scikit_learns_optimum(D, ratio):
    X, Y, mask, _ = problem(m=60, D=D)
    X = X - X.mean(axis=0)
    n, alpha = mask.sum(axis=0), np.full(8, 0.3)
    fit = solve(X.T.copy(), Y.T.copy(), mask.T.copy(), n * alpha * ratio, n * alpha * (1 - ratio),
                logistic=False, tolerance=1e-5, iterations=500)  # fmt: skip
    assert (fit.gap <= 1e-5).all()
    for t in range(8):
        x, y = X[mask[:, t]], Y[mask[:, t], t]

        def objective(b, c):
            penalty = ratio * np.abs(b).sum() + (1 - ratio) / 2 * (b**2).sum()
            return ((y - c - x @ b) ** 2).sum() / 2 + len(y) * 0.3 * penalty  # noqa: B023

        best = Reference(alpha=0.3, l1_ratio=ratio, tol=1e-10, max_iter=100_000).fit(x, y)
        least, nothing = objective(best.coef_, best.intercept_), ((y - y.mean()) ** 2).sum() / 2
        assert objective(fit.b[t], fit.c[t]) - least <= (fit.gap[t] + 1e-9) * nothing


@pytest.mark.parametrize("D", [6, 60, 150], ids=["tall", "square", "wide"])
def test_every_readout_of_calls_is_at_scikit_learns_optimum(D):
    X, Y, mask, _ = problem(m=60, D=D)
    X, Y = X - X.mean(axis=0), calls(Y)
    l1, l2 = np.full(8, 1.5), np.full(8, 1.5)
    fit = solve(X.T.copy(), Y.T.copy(), mask.T.copy(), l1, l2, logistic=True, tolerance=1e-9, iterations=500)
    assert (fit.gap <= 1e-9).all()
    for t in range(8):
        rows = mask[:, t]
        best = LogisticRegression(solver="saga", C=1 / 3.0, l1_ratio=0.5, tol=1e-10, max_iter=50_000)
        best.fit(X[rows], Y[rows, t])
        np.testing.assert_allclose(fit.b[t], best.coef_[0], atol=1e-4)


@pytest.mark.parametrize("logistic", [False, True], ids=["squared", "log loss"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_newton_on_the_dual_and_coordinate_descent_find_the_same_fits(logistic, missing, monkeypatch):
    X, Y, mask, _ = problem(m=40, D=120, missing=missing)
    X = (X - X.mean(axis=0)).T.copy()
    y, seen = (calls(Y) if logistic else Y).T.copy(), mask.T.copy()
    strength = 0.02 * np.abs(X @ np.where(mask, Y - Y.mean(axis=0), 0.0)).max(axis=0)
    if logistic:
        strength = np.full(8, 0.05)
    given = (X, y, seen, 0.5 * strength, 0.5 * strength)
    ours = solve(*given, logistic=logistic, tolerance=1e-10)
    called = []
    own = newton.kernel()
    monkeypatch.setattr(newton, "kernel", lambda: called.append(1) or own)
    again = solve(*given, ours, logistic=logistic, tolerance=1e-10)
    monkeypatch.setattr(
        coordinate._State, "smooth", property(lambda _: False, lambda *_: None), raising=False
    )
    other = solve(*given, logistic=logistic, tolerance=1e-9, iterations=1000)
    assert (ours.gap <= 1e-10).all()
    assert (other.gap <= 1e-9).all()
    assert not called  # a start at the optimum needs no step
    np.testing.assert_array_equal(ours.b, again.b)
    size = np.abs(other.b @ X).max()
    np.testing.assert_allclose(ours.b @ X, other.b @ X, atol=1e-3 * size)
    np.testing.assert_allclose(ours.c, other.c, atol=1e-3 * size)


@pytest.mark.parametrize("logistic", [False, True], ids=["squared", "log loss"])
@pytest.mark.parametrize("ratio", [0.99, 0.999])
@pytest.mark.parametrize("alike", [0.0, 0.9], ids=["independent", "resembling"])
def test_newton_reaches_the_optimum_of_weak_penalties_that_are_almost_a_lasso(logistic, ratio, alike):
    rng = np.random.default_rng(0)
    X = np.sqrt(1 - alike) * rng.normal(size=(500, 100))
    X += np.sqrt(alike) * rng.normal(size=(5, 100))[rng.integers(0, 5, 500)]
    X -= X.mean(axis=1, keepdims=True)
    Y = np.where(rng.random((3, 500)) < 0.03, rng.normal(size=(3, 500)), 0.0) @ X + 2 * rng.normal(
        size=(3, 100)
    )
    Y = calls(Y.T).T if logistic else Y
    largest = np.abs((Y - Y.mean(axis=1, keepdims=True)) @ X.T).max(axis=1)
    l1 = 0.01 * largest
    l2 = l1 * (1 - ratio) / ratio
    fit = solve(X, Y, np.ones(Y.shape, bool), l1, l2, logistic=logistic)
    assert (fit.gap <= 1e-4).all()
    if logistic:
        return
    for t in range(3):
        best = Reference(alpha=l1[t] / ratio / 100, l1_ratio=ratio, tol=1e-8, max_iter=100_000).fit(X.T, Y[t])
        theirs = objective(best.coef_, best.intercept_, X, Y[t], l1[t], l2[t])
        nothing = ((Y[t] - Y[t].mean()) ** 2).sum() / 2
        assert objective(fit.b[t], fit.c[t], X, Y[t], l1[t], l2[t]) - theirs <= 1e-4 * nothing


def objective(b, c, X, y, l1, l2):
    return ((y - c - b @ X) ** 2).sum() / 2 + l1 * np.abs(b).sum() + l2 / 2 * (b**2).sum()


def test_newton_steps_that_end_early_leave_no_worse_than_they_found(monkeypatch):
    X, Y, _, _ = problem(m=40, D=120)
    X = (X - X.mean(axis=0)).T.copy()
    strength = 0.02 * np.abs(X @ (Y - Y.mean(axis=0))).max(axis=0)
    given = (X, Y.T.copy(), np.ones(Y.T.shape, bool), 0.99 * strength, 0.01 * strength)
    near = solve(*given, logistic=False, tolerance=1e-3)
    # Off the optimum by a little everywhere: its dual variables are far worse than its objective.
    near.b *= 1 + 0.01 * np.random.default_rng(0).normal(size=near.b.shape)
    for steps in range(1, 30):
        monkeypatch.setattr(newton, "STEPS", steps)
        again = solve(*given, near, logistic=False, tolerance=1e-12, iterations=1)
        for t in range(8):
            before, after = (objective(f.b[t], f.c[t], X, Y[:, t], 0.99 * strength[t], 0.01 * strength[t])
                             for f in (near, again))  # fmt: skip
            assert after <= before * (1 + 1e-12)


def test_a_fit_that_ends_short_of_its_optimum_warns_and_says_what_to_do():
    X, Y, mask, groups = problem(D=200)
    config = ElasticNetConfig(LogGrid(1e-3, 1e-3, 1), (1.0,), tolerance=1e-8, iterations=2)
    with pytest.warns(RuntimeWarning) as told:
        head = ElasticNet(config).fit(X, Y, mask, groups)
    final = (head.gap_ > 1e-8).sum()
    assert final
    (message,) = (str(w.message) for w in told)
    assert message.startswith(
        f"elastic-net: of 8 readouts {final} in the fit on all rows and 8 in an inner fold"
    )
    assert "raise iterations" in message


def test_a_fit_that_ends_short_in_an_inner_fold_only_warns_too():
    X, Y, mask, groups = problem(D=200, T=3)
    noise = np.random.default_rng(1).normal(size=Y.shape)  # the mean is chosen, which is exact
    config = ElasticNetConfig(LogGrid(1e-3, 1e-3, 1), (1.0,), tolerance=1e-8, iterations=2)
    with pytest.warns(RuntimeWarning, match="0 in the fit on all rows and 3 in an inner fold ended"):
        head = ElasticNet(config).fit(X, noise, mask, groups)
    assert (head.gap_ == 0).all()


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("ratio", [0.1, 0.9])
def test_fits_at_their_optimum_warn_of_nothing(ratio, loss, recwarn):
    X, Y, mask, groups = problem(m=60, D=200)
    Y = calls(Y) if loss == "logistic" else Y
    ElasticNet(ElasticNetConfig(LogGrid(0.01, 0.5, 3), (ratio,))).fit(X, Y, mask, groups)
    assert not recwarn.list


def test_coordinate_descent_takes_over_where_rounding_stalls_newton(monkeypatch):
    X, Y, mask, _ = problem(m=100, D=500, T=4, missing=0.3, seed=1)
    X *= np.exp(2 * np.random.default_rng(1).normal(size=(100, 1)))  # rows of unlike sizes
    X, Y = (X - X.mean(axis=0)).T.copy(), Y - Y.mean(axis=0)
    l1 = 1e-3 * np.abs((mask * Y).T @ X.T).max(axis=1)
    given = (X, Y.T.copy(), mask.T.copy(), l1, 1e-5 * l1)
    with monkeypatch.context() as alone:
        alone.setattr(coordinate, "STALLS", 1000)
        assert (solve(*given, logistic=False).gap > 1e-4).any()
    assert (solve(*given, logistic=False).gap <= 1e-4).all()


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("alike", [0.0, 0.9], ids=["independent", "resembling"])
def test_near_lasso_fits_of_calls_meet_the_conditions_of_an_optimum(ratio, alike):
    rng = np.random.default_rng(0)
    X = np.sqrt(1 - alike) * rng.normal(size=(500, 100))
    X += np.sqrt(alike) * rng.normal(size=(5, 100))[rng.integers(0, 5, 500)]
    X -= X.mean(axis=1, keepdims=True)
    Y = calls(X[:12].T @ rng.normal(size=(12, 3)) + rng.normal(size=(100, 3))).T
    l1 = 0.01 * np.abs((Y - Y.mean(axis=1, keepdims=True)) @ X.T).max(axis=1)
    l2 = l1 * (1 - ratio) / ratio
    fit = solve(X, Y, np.ones(Y.shape, bool), l1, l2, logistic=True, tolerance=1e-8)
    off = Y - 1 / (1 + np.exp(-(fit.b @ X + fit.c[:, None])))
    slope = (off @ X.T - l2[:, None] * fit.b) / l1[:, None]
    assert (fit.gap <= 1e-8).all()
    np.testing.assert_allclose(off.sum(axis=1), 0, atol=1e-6)
    assert (np.abs(slope) <= 1 + 1e-3).all()
    np.testing.assert_allclose(slope[fit.b != 0], np.sign(fit.b[fit.b != 0]), atol=1e-3)


def test_a_row_far_out_on_the_right_side_of_separable_calls_keeps_no_fit_from_its_optimum():
    X, Y, _, _ = problem(m=40, D=120)
    Y = calls(Y)
    X = X - X.mean(axis=0)
    X[0] *= 50
    weak = np.full(8, 0.02)
    fit = solve(X.T.copy(), Y.T.copy(), np.ones(Y.T.shape, bool), weak, weak, logistic=True)
    assert np.abs(fit.b @ X.T + fit.c[:, None]).max() > 40
    assert (fit.gap <= 1e-4).all()


@pytest.mark.parametrize("logistic", [False, True], ids=["squared", "log loss"])
def test_the_gap_is_a_bound_on_the_distance_from_the_optimum(logistic):
    X, Y, mask, _ = problem(D=20)
    X = (X - X.mean(axis=0)).T.copy()
    y, seen = (calls(Y) if logistic else Y).T.copy(), mask.T.copy()
    l1, l2 = np.full(8, 1.0), np.full(8, 0.5)

    def objective(fit):
        z = fit.b @ X + fit.c[:, None]
        loss = np.logaddexp(0, z) - y * z if logistic else 0.5 * (y - z) ** 2
        return (seen * loss).sum(axis=1) + l1 * np.abs(fit.b).sum(axis=1) + 0.5 * l2 * (fit.b**2).sum(axis=1)

    best = objective(solve(X, y, seen, l1, l2, logistic=logistic, tolerance=1e-12, iterations=2000))
    nothing = objective(solve(X, y, seen, np.full(8, 1e6), l2, logistic=logistic))
    for looks in (1, 2, 3, 5):
        fit = solve(X, y, seen, l1, l2, logistic=logistic, tolerance=1e-12, iterations=looks)
        # What is returned after the last look has descended once more: no further away than its gap said.
        assert (objective(fit) - best <= fit.gap * nothing + 1e-9 * nothing).all()
    assert (fit.gap < 0.1).all()


def test_penalties_are_those_of_a_loop_over_scikit_learn():
    X, Y, mask, groups = problem()
    head = ElasticNet(EXACT).fit(X, np.where(mask, Y, np.nan), mask, groups)
    fold, centred = assign(groups, 4, 0), X - X.mean(axis=0)
    for t in range(Y.shape[1]):
        rows = mask[:, t]
        x, y, f = X[rows], Y[rows, t], fold[rows]
        largest = np.abs(centred[rows].T @ (y - y.mean())).max() / rows.sum()
        loss = {}
        for u in np.geomspace(0.02, 0.5, 3):
            for ratio in (0.1, 0.9):
                own = Reference(alpha=u * largest / ratio, l1_ratio=ratio, tol=1e-12, max_iter=100_000)
                loss[u * largest / ratio, ratio] = sum(
                    ((y[f == k] - own.fit(x[f != k], y[f != k]).predict(x[f == k])) ** 2).sum()
                    for k in range(4)
                )
        loss[np.inf, 1.0] = sum(((y[f == k] - y[f != k].mean()) ** 2).sum() for k in range(4))
        assert head.inner_loss_[t] <= min(loss.values()) * (1 + 2 * TIES)
        nearest = min(
            loss,
            key=lambda own: (
                not np.isclose(own[0], head.chosen_["alpha"][t]),
                own[1] != head.chosen_["l1_ratio"][t],
            ),
        )
        np.testing.assert_allclose(loss[nearest], head.inner_loss_[t], rtol=1e-5)
    assert np.isfinite(head.chosen_["alpha"]).sum() >= 4
    assert (head.gap_ <= 1e-9).all()


def test_blocks_change_no_choice():
    X, Y, mask, groups = problem(T=11)
    whole, parts = (
        ElasticNet(ElasticNetConfig(LogGrid(0.02, 0.5, 3), (0.5,), tolerance=1e-9, block=b)).fit(
            X, Y, mask, groups
        )
        for b in (99, 4)
    )
    np.testing.assert_allclose(whole.chosen_["alpha"], parts.chosen_["alpha"], rtol=1e-12)
    np.testing.assert_allclose(whole.predict(X), parts.predict(X), rtol=1e-5)


def test_calls_get_the_log_loss_and_other_values_are_refused_it():
    X, Y, mask, groups = problem()
    head = ElasticNet(EXACT).fit(X, calls(Y), mask, groups)
    assert head.logistic_
    assert ((head.predict(X) > 0) & (head.predict(X) < 1)).all()
    with pytest.raises(TaskError, match="0 and 1"):
        ElasticNet(ElasticNetConfig(loss="logistic")).fit(X, Y, mask, groups)
    with pytest.raises(TaskError, match="l1_ratios"):
        ElasticNetConfig(l1_ratios=(0.0,))
