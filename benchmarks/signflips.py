"""Sign-flips per readout (D3): 2,000 flips over 300 perturbations for 26,000 readouts, against the goal of 10
s.

    OMP_NUM_THREADS=2 python benchmarks/signflips.py
    OMP_NUM_THREADS=1 python benchmarks/signflips.py --readouts 2600

Five repeats, five folds; the whole test with its Benjamini-Hochberg step. A loop over readouts, flip by flip,
is extrapolated from ``--peers`` of them, on which both must agree exactly.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from leaderboard.predictable import against_floor, flip_signs
from leaderboard.rules import Rules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perturbations", type=int, default=300)
    parser.add_argument("--readouts", type=int, default=26_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (given.repeats, given.perturbations, given.readouts)
    e0 = rng.random(shape, dtype=np.float32)
    e = e0 * np.float32(0.98) + np.float32(0.02) * rng.random(shape, dtype=np.float32)
    folds = np.stack([rng.permutation(given.perturbations) % 5 for _ in range(given.repeats)])
    rules = Rules()
    wall, cpu = time.perf_counter(), time.process_time()
    test = against_floor(e, e0, folds, np.ones(given.readouts, bool), rules)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    signs = flip_signs(given.perturbations, rules)
    started = time.process_time()
    for t in range(given.peers):
        u = (e0[:, :, t].astype(np.float64) - e[:, :, t]).mean(axis=0)
        beaten = sum((s * u).sum() >= u.sum() - 1e-12 * np.abs(u).sum() for s in signs)
        assert test.p[t] == (1 + beaten) / (1 + len(signs))
    loop = (time.process_time() - started) / given.peers * given.readouts
    print(f"{rules.flips} flips x {given.perturbations} perturbations x {given.readouts} readouts: "
          f"{wall:.1f} s ({cpu:.1f} s of processor time); a loop (extrapolated) {loop:.0f} s")  # fmt: skip
    print(json.dumps({"settings": vars(given), "flips": rules.flips, "wall": wall, "cpu": cpu, "loop": loop}))


if __name__ == "__main__":
    main()
