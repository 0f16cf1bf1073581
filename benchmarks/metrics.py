"""Rank statistics of many masked readouts: this project's kernels against loops over scikit-learn and SciPy.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py                    # 1,600 rows, 6,000 readouts
    OMP_NUM_THREADS=1 python benchmarks/metrics.py --readouts 600     # a smaller run

The loops are extrapolated from ``--peers`` readouts, on which both must agree to 1e-12. Times are of the
processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks import ranking


def timed(call):
    """Return what ``call`` returns and its shortest processor time of three."""
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return result, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--readouts", type=int, default=6000)
    parser.add_argument("--peers", type=int, default=50)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (given.rows, given.readouts)
    call = (rng.random(shape) < 0.2).astype(np.float32)
    p = 0.5 * call + rng.standard_normal(shape, dtype=np.float32)
    level = p + rng.standard_normal(shape, dtype=np.float32)
    mask = rng.random(shape) > 0.1

    def loop(score, y):
        return [score(y[mask[:, t], t], p[mask[:, t], t]) for t in range(given.peers)]

    ranked, own = timed(lambda: ranking.rank(call, p, mask))
    rho, own_rho = timed(lambda: ranking.spearman(level, p, mask))
    peers = {
        "ROC AUC": (ranked.auc, *timed(lambda: loop(roc_auc_score, call))),
        "average precision": (ranked.ap, *timed(lambda: loop(average_precision_score, call))),
        "Spearman": (rho, *timed(lambda: loop(lambda y, q: stats.spearmanr(y, q).statistic, level))),
    }
    scale = given.readouts / given.peers
    seconds = {name: spent * scale for name, (_, _, spent) in peers.items()}
    for mine, theirs, _ in peers.values():
        np.testing.assert_allclose(mine[: given.peers], theirs, rtol=0, atol=1e-12)
    both = seconds["ROC AUC"] + seconds["average precision"]
    print(f"ROC AUC and AP  {own:7.2f} s   loop {both:7.2f} s   {both / own:6.1f} ×")
    print(f"Spearman        {own_rho:7.2f} s   loop {seconds['Spearman']:7.2f} s   "
          f"{seconds['Spearman'] / own_rho:6.1f} ×")  # fmt: skip
    whole = sum(seconds.values())
    print(f"all three       {own + own_rho:7.2f} s   loop {whole:7.2f} s   {whole / (own + own_rho):6.1f} ×")
    print(json.dumps({"settings": vars(given), "own": [own, own_rho], "loops": seconds}))


if __name__ == "__main__":
    main()
