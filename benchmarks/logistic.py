"""Logistic regression of many masked readouts: this project's head against a loop over scikit-learn.

    OMP_NUM_THREADS=1 python benchmarks/logistic.py                   # 6,000 readouts, 5 outer folds
    OMP_NUM_THREADS=1 python benchmarks/logistic.py --readouts 500 --outer 1

1,600 × 768 features, 5 penalties, 3 grouped inner folds in each outer fold, and the final fit. The loop is
extrapolated from ``--peers`` readouts, whose optimum for every penalty also bounds the objectives of ours.
Features are float32 for both; the loop has scikit-learn's default solver and tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from tasks.folds import assign
from tasks.heads.logistic import Logistic, LogisticConfig
from tasks.heads.logit import diagonalise, solve
from tasks.protocol import LogGrid


def problem(rows: int, features: int, readouts: int, seed: int = 0):
    """Return X, calls, mask and groups of eight rows: 20 latent directions, a third of the readouts null."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((rows, 20))
    X = latent @ rng.standard_normal((20, features)) * 0.5 + rng.standard_normal((rows, features))
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    B = rng.standard_normal((20, readouts)) * (np.arange(readouts) % 3 > 0) * 0.4
    chance = 1.0 / (1.0 + np.exp(-(latent @ B + rng.standard_normal(readouts) - 1.0)))
    Y = (rng.random((rows, readouts)) < chance).astype(np.float32)
    return X, Y, rng.random((rows, readouts)) > 0.2, np.array([f"g{i // 8}" for i in range(rows)])


def objective(X, y, b, c, alpha):
    z = X @ b + c
    return (np.logaddexp(0, z) - y * z).sum() + alpha / 2 * (b @ b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--readouts", type=int, default=6000)
    parser.add_argument("--outer", type=int, default=5)
    parser.add_argument("--peers", type=int, default=50)
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, Y, mask, groups = problem(given.rows, given.features, given.readouts)
    outer = assign(groups, 5, 1)
    config = LogisticConfig(LogGrid(1e-2, 1e2, 5), inner_folds=3)
    own, alphas = 0.0, None
    for k in range(given.outer):
        train = outer != k
        start = time.process_time()
        head = Logistic(config).fit(X[train], Y[train], mask[train], groups[train])
        own += time.process_time() - start
        print(f"outer fold {k + 1} of {given.outer}: {own:.1f} s so far", file=sys.stderr, flush=True)
        alphas = head.penalties_[:-1]
    assert alphas is not None

    # One inner fold of the last outer fold: the loop's time per fit and ours against the optimum.
    train = np.flatnonzero(train)[assign(groups[train], 3, 0) != 0]
    centred = X[train] - X[train].mean(axis=0)
    design = diagonalise(centred.astype(np.float64))
    peers = np.arange(0, given.readouts, max(1, given.readouts // given.peers))[: given.peers]
    spent, worst, fit = 0.0, 0.0, None
    for alpha in alphas[::-1]:
        fit = solve(design, Y[train][:, peers], mask[train][:, peers], np.full(len(peers), alpha), fit)
        coef = design.axes @ fit.b
        for i, t in enumerate(peers):
            rows = mask[train, t]
            x, y = centred[rows], Y[train, t][rows]
            start = time.process_time()
            LogisticRegression(C=1 / alpha).fit(x, y)
            spent += time.process_time() - start
            best = LogisticRegression(C=1 / alpha, tol=1e-9, max_iter=5000).fit(x.astype(np.float64), y)
            least = objective(x, y, best.coef_[0], best.intercept_[0], alpha)
            worst = max(worst, objective(x, y, coef[:, i], fit.c[i], alpha) / least - 1)
    fits = given.readouts * len(alphas) * 3 * given.outer
    loop = spent / (len(peers) * len(alphas)) * fits
    print(f"wellbench logistic               {own:9.1f} s   for {fits} inner fits and the final ones")
    print(f"scikit-learn loop (extrapolated) {loop:9.1f} s   inner fits only   {loop / own:.0f} ×")
    print(f"largest distance of an objective from its optimum: {worst:.1e} of it")
    print(json.dumps({"settings": vars(given), "seconds": {"own": own, "loop": loop}, "worst": worst}))


if __name__ == "__main__":
    main()
