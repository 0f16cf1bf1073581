"""Units over processes: one failing or dying unit leaves the others alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.execute import Executor, Unit


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    raise ValueError(f"no {x}")


def threads() -> int:
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second try"


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_every_unit_has_one_outcome(processes: int) -> None:
    units = [Unit(str(i), double, (i,)) for i in range(7)]
    with Executor(processes) as executor:
        outcomes = {o.unit.name: o.value for o in executor.map(units)}
    assert outcomes == {str(i): 2 * i for i in range(7)}


def test_a_failing_unit_is_recorded_with_its_reason_and_the_others_go_on() -> None:
    units = [Unit("a", fail, (1,)), Unit("b", double, (2,))]
    with Executor(1) as executor:
        outcomes = {o.unit.name: o for o in executor.map(units)}
    assert outcomes["a"].reason == "no 1"
    assert outcomes["b"].value == 4


def test_a_worker_computes_with_one_thread() -> None:
    with Executor(1) as executor:
        (outcome,) = executor.map([Unit("threads", threads, ())])
    assert outcome.value == 1


def test_a_killed_unit_is_tried_once_more_alone(tmp_path: Path) -> None:
    units = [
        Unit("killed", die_once, (str(tmp_path / "marker"),)),
        *[Unit(str(i), double, (i,)) for i in range(4)],
    ]
    with Executor(2) as executor:
        outcomes = {o.unit.name: o for o in executor.map(units)}
    assert outcomes["killed"].value == "second try"
    assert [outcomes[str(i)].value for i in range(4)] == [0, 2, 4, 6]


def test_a_unit_that_is_killed_twice_is_a_failure_and_says_so() -> None:
    with Executor(1) as executor:
        outcomes = {
            o.unit.name: o for o in executor.map([Unit("dies", die, (0,)), Unit("lives", double, (1,))])
        }
    assert "killed twice" in (outcomes["dies"].reason or "")
    assert outcomes["lives"].value == 2


KILLED_PARENT = """
import os, signal, time
from bench.execute import Executor, Unit

if __name__ == "__main__":
    with Executor(2) as executor:
        for outcome in executor.map([Unit(str(i), os.getpid, ()) for i in range(4)]):
            print(outcome.value, flush=True)
        time.sleep(60)
"""


def test_workers_leave_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(KILLED_PARENT, encoding="utf-8")
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **quiet) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(4)}
        assert all(lives(worker) for worker in workers)
        parent.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(lives(worker) for worker in workers):
        time.sleep(0.05)
    assert not any(lives(worker) for worker in workers)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
