"""Perceptrons: all folds x grid nets as one batched program, against a loop over the nets.

    OMP_NUM_THREADS=2 python benchmarks/mlp.py --steps 3              # 60 nets: 5 x 3 folds, 4 grid members
    OMP_NUM_THREADS=2 python benchmarks/mlp.py --nets 12 --width 128  # smaller
    python benchmarks/mlp.py --device cuda --steps 200                # on a GPU, with the same code

1,600 x 768 features, four hidden layers of 512, 1,000 readouts, batches of 64. The loop runs the same code
with one net at a time, over the same rows and steps; program and loop alternate, and the shortest time of
each counts.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from tasks.heads.mlp import MlpConfig
from tasks.heads.nets import Nets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--readouts", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    given = parser.parse_args()
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    rng = np.random.default_rng(0)
    x = rng.standard_normal((given.rows, given.features), dtype=np.float32)
    y = rng.standard_normal((given.rows, given.readouts), dtype=np.float32)
    seen = rng.random(y.shape) > 0.1
    rows = [np.flatnonzero(np.arange(given.rows) % 15 != n % 15) for n in range(given.nets)]
    jobs = [(own, 0.1 * (n % 4)) for n, own in enumerate(rows)]
    config = MlpConfig(width=given.width)

    def seconds(nets: Nets) -> float:
        started = clock()
        nets.train(given.steps)
        nets.predict(0, x[:1])  # waits for the device
        return clock() - started

    batched = Nets(x, y, seen, jobs, config, logistic=False, device=given.device)
    batched.train(1)  # the first step pays for what is made once
    program, loop = [], []
    for _ in range(given.repeats):
        program.append(seconds(batched))
        spent = 0.0
        for job in jobs:
            one = Nets(x, y, seen, [job], config, logistic=False, device=given.device)
            one.train(1)
            spent += seconds(one)
        loop.append(spent)
    own, peer = min(program), min(loop)
    times = f"one program {own:.2f} s   loop over {given.nets} nets {peer:.2f} s"
    print(f"{times}   {peer / own:.2f} x   ({given.device})")
    print(json.dumps({"settings": vars(given), "program": program, "loop": loop}))


if __name__ == "__main__":
    main()
