"""Peak memory of a fit with many readouts: bounded by blocks of readouts and not by their number.

    OMP_NUM_THREADS=2 python benchmarks/memory.py                              # 10,000 rows x 30,000
    readouts, ridge OMP_NUM_THREADS=2 python benchmarks/memory.py --rows 4000 --readouts 8000  # a smaller one

Features are rows x 768, the readouts float32 and complete. Printed are the memory that holds the problem
itself (features, readouts, mask, coefficients, predictions of a tenth of the rows), the process's peak, and
the difference: what the fit needs on top. Exits 1 when the peak exceeds ``--limit`` (8 GB).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np

from tasks.heads.ridge import Ridge, RidgeConfig
from tasks.protocol import LogGrid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--readouts", type=int, default=30_000)
    parser.add_argument("--limit", type=float, default=8.0, help="GB")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((given.rows, given.features), dtype=np.float32)
    Y = np.empty((given.rows, given.readouts), np.float32)
    for start in range(0, given.readouts, 1000):
        own = Y[:, start : start + 1000]
        own[:] = rng.standard_normal(own.shape, dtype=np.float32)
        own += X[:, :1]
    mask = np.ones(Y.shape, bool)
    groups = np.array([f"g{i // 8}" for i in range(given.rows)])
    held = X.nbytes + Y.nbytes + mask.nbytes
    started = time.perf_counter()
    head = Ridge(RidgeConfig(LogGrid(), inner_folds=4)).fit(X, Y, mask, groups)
    predicted = head.predict(X[: given.rows // 10])
    seconds = time.perf_counter() - started
    held += head.coef_.nbytes + predicted.nbytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"the problem itself {held / 1e9:6.2f} GB   peak {peak / 1e9:6.2f} GB   on top "
          f"{(peak - held) / 1e9:6.2f} GB   {seconds:.0f} s")  # fmt: skip
    print(json.dumps({"settings": vars(given), "held": held, "peak": peak, "seconds": seconds}))
    sys.exit(peak > given.limit * 1e9)


if __name__ == "__main__":
    main()
