"""Ridge with a penalty per readout: this project's head against the machine's matrix product and named peers.

    python benchmarks/ridge.py                    # the full size: 6,000 readouts
    python benchmarks/ridge.py --readouts 500     # a smaller run
    OMP_NUM_THREADS=1 python benchmarks/ridge.py --clock cpu   # on a machine that others use

1,600 × 768 features, 20 penalties, 4 grouped folds; the same folds and penalties for all. The matrix-product
time is that of the validation predictions alone, 2 · rows · rank · readouts · penalties operations in float32
with NumPy, all folds and penalties one after the other. It and this project's head take turns, the best of
five each. himalaya runs if it is installed; scikit-learn is a loop of Ridge over folds and penalties,
extrapolated from a few of its fits.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from tasks.folds import assign
from tasks.heads.ridge import Ridge, RidgeConfig
from tasks.protocol import LogGrid


def problem(rows: int, features: int, readouts: int, seed: int = 0):
    """Return X, Y and groups of eight rows: a weak signal in a tenth of the directions."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, features)).astype(np.float32)
    B = rng.standard_normal((features, readouts), dtype=np.float32) * (np.arange(features) % 10 == 0)[:, None]
    Y = X @ B * 0.1 + rng.standard_normal((rows, readouts), dtype=np.float32)
    return X, Y, np.array([f"g{i // 8}" for i in range(rows)])


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(call, clock) -> float:
    """Return the time of one call."""
    start = clock()
    call()
    return clock() - start


def products(given):
    """Return a call that makes every validation prediction as a bare float32 product."""
    rng = np.random.default_rng(0)
    rank = min(given.features, given.rows * (given.folds - 1) // given.folds)
    A = rng.standard_normal((given.rows // given.folds, rank), dtype=np.float32)
    B = rng.standard_normal((rank, given.readouts), dtype=np.float32)
    out = np.empty((len(A), given.readouts), np.float32)

    def call() -> None:
        for _ in range(given.folds * given.penalties):
            np.matmul(A, B, out=out)

    return call


def himalaya_time(X, Y, fold, alphas, clock) -> float | None:
    """Time of himalaya's RidgeCV with its torch backend, or None where it is not installed."""
    try:
        from himalaya.backend import set_backend
        from himalaya.ridge import RidgeCV
    except ImportError:
        return None
    from sklearn.model_selection import PredefinedSplit

    set_backend("torch")
    model = RidgeCV(alphas=alphas, cv=PredefinedSplit(fold), solver_params={"n_targets_batch": 1000})
    return seconds(lambda: model.fit(X, Y), clock)


def scikit_learn_time(X, Y, fold, alphas, clock, fits: int = 2) -> float:
    """Time of Ridge fitted and scored per fold and penalty on all readouts, extrapolated."""
    from sklearn.linear_model import Ridge as Reference

    def loop() -> None:
        for alpha in alphas[:fits]:
            model = Reference(alpha=alpha).fit(X[fold != 0], Y[fold != 0])
            ((model.predict(X[fold == 0]) - Y[fold == 0]) ** 2).sum(axis=0)

    return seconds(loop, clock) / fits * len(alphas) * len(np.unique(fold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--readouts", type=int, default=6000)
    parser.add_argument("--penalties", type=int, default=20)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    clock = CLOCKS[given.clock]
    X, Y, groups = problem(given.rows, given.features, given.readouts)
    fold = assign(groups, given.folds, 0)
    grid = LogGrid(1e-3, 1e6, given.penalties)
    alphas = np.geomspace(grid.start, grid.stop, grid.num) * given.features
    head = Ridge(RidgeConfig(grid, given.folds))
    mask = np.ones(Y.shape, bool)
    product = products(given)
    turns = [
        (seconds(product, clock), seconds(lambda: head.fit(X, Y, mask, groups), clock)) for _ in range(5)
    ]
    times = {
        "matrix product": min(first for first, _ in turns),
        "wellbench ridge": min(second for _, second in turns),
        "himalaya, torch": himalaya_time(X, Y, fold, alphas, clock),
        "scikit-learn loop (extrapolated)": scikit_learn_time(X, Y, fold, alphas, clock),
    }
    own = times["wellbench ridge"]
    for name, value in times.items():
        if value is not None:
            print(f"{name:34s} {value:9.2f} s   {value / own:7.2f} × wellbench")
    print(f"wellbench is {own / times['matrix product']:.2f} × the matrix product")
    print("turn by turn: " + ", ".join(f"{second / first:.2f}" for first, second in turns))
    print(json.dumps({"settings": vars(given), "seconds": times}))


if __name__ == "__main__":
    main()
