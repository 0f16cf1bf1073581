"""Parallel efficiency of a featurizer over fields: one worker process against several, on the same fields.

    OMP_NUM_THREADS=1 python -m benchmarks.parallel --featurizer cellprofiler --processes 2 --wells 192

The units are those of ``bench run`` (eight wells each: read, segment, measure, average) of a simulated plate,
run by its executor. Workers are started and warmed before the clock starts; what that costs is printed, and
is paid once per run. One worker and several take turns, the shortest of the rounds counts. Printed are

    efficiency seen = T(1) / (n T(n)),

which is right on an idle machine, and the same without the seconds in which the kernel ran other programs
instead of a worker that was ready (``/proc/self/schedstat``; the mean over workers is taken off T). The
second is an estimate for idle cores. Where the two differ the machine was busy: run it again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.embed import Work, embed_wells
from bench.entrants import Spec
from bench.execute import Executor, Unit
from bench.featurize import WELLS_PER_UNIT


@dataclass(frozen=True)
class Cost:
    """Of one unit: its worker, wall and CPU seconds, and seconds in which it waited for a core."""

    worker: int
    wall: float
    cpu: float
    waited: float


def waited() -> float:
    """Return the seconds that this thread was runnable and not running."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def timed(*arguments: Any) -> Cost:
    """Run one unit of ``bench run`` and return what it cost."""
    wall, cpu, delay = time.perf_counter(), time.process_time(), waited()
    for rows in embed_wells(*arguments).values():
        assert rows.wells, rows.failures
    return Cost(os.getpid(), time.perf_counter() - wall, time.process_time() - cpu, waited() - delay)


@dataclass(frozen=True)
class Run:
    """All units once: wall seconds without and with what other programs took, and the sums over units."""

    wall: float
    idle_wall: float
    cpu: float
    busy: float


def run(executor: Executor, units: list[Unit], processes: int) -> Run:
    started = time.perf_counter()
    costs: list[Cost] = []
    for outcome in executor.map(units):
        assert outcome.reason is None, outcome.reason
        costs.append(outcome.value)
    wall = time.perf_counter() - started
    stolen = sum(c.waited for c in costs) / processes
    return Run(wall, wall - stolen, sum(c.cpu for c in costs), sum(c.wall - c.waited for c in costs))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--featurizer", default="cellprofiler")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    from bench.datasets import load
    from bench.demo import make

    many = asked.processes
    with tempfile.TemporaryDirectory() as folder:
        compounds = -(-asked.wells // 3)
        screen = make(Path(folder) / "screen", plates=1, compounds=compounds, doses=3, seed=0, processes=1)
        dataset = load(screen)
        plate = dataset.wells["Metadata_Plate"].iloc[0]
        wells = sorted(dataset.wells["Metadata_Well"])[: asked.wells]
        work = (Work("key", Spec(asked.featurizer)),)
        units = [
            Unit(str(i), timed, (str(dataset.root), work, plate, None, tuple(wells[i : i + WELLS_PER_UNIT])))
            for i in range(0, len(wells), WELLS_PER_UNIT)
        ]
        best: dict[int, Run] = {}
        with Executor(1) as alone, Executor(many) as together:
            started = time.perf_counter()
            warm = list(alone.map(units[:1]))
            first = time.perf_counter() - started
            warm += list(together.map(units[: 4 * many]))
            assert all(w.reason is None for w in warm), warm
            for _ in range(asked.rounds):
                for executor, processes in ((alone, 1), (together, many)):
                    seen = run(executor, units, processes)
                    if processes not in best or seen.idle_wall < best[processes].idle_wall:
                        best[processes] = seen
    one, several = best[1], best[many]
    print(f"{asked.featurizer}: {len(wells)} fields in {len(units)} units, best of {asked.rounds}")
    print(f"{'processes':12s}{'wall s':>9s}{'wall s, idle':>14s}{'CPU s':>9s}{'at work':>9s}")
    for processes, seen in best.items():
        share = seen.busy / (processes * seen.idle_wall)
        print(f"{processes:<12d}{seen.wall:9.2f}{seen.idle_wall:14.2f}{seen.cpu:9.2f}{share:9.1%}")
    print(f"efficiency seen           {one.wall / (many * several.wall):6.1%}")
    print(f"efficiency on idle cores  {one.idle_wall / (many * several.idle_wall):6.1%}")
    print(f"  CPU(1) / CPU({many})         {one.cpu / several.cpu:6.1%}")
    cpu = warm[0].value.cpu
    print(f"from a worker's start to its first unit's end {first:.1f} s, that unit {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
