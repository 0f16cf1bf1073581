"""Idempotent units of work over processes: same results for any number of processes, in any order.

A unit is a function and its plain arguments; it commits what it computes to the store itself and returns
a small summary. Each process computes with one thread, so that the bytes do not depend on
how many processes share the machine. A unit whose process dies (killed for memory, say) is tried once
more, alone; if it dies again, that is its failure and the others go on.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bench.errors import BenchError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: ``function(*arguments)``; both must be picklable by reference."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit: its ``value``, or the ``reason`` why there is none."""

    unit: Unit
    value: Any = None
    reason: str | None = None


class Executor:
    """Run units on ``processes`` processes of this machine.

    Parameters
    ----------
    processes
        Number of worker processes; 0 runs units in this process (for debugging).
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._pool = None

    def map(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        """Yield one outcome per unit, as they finish."""
        if self.processes == 0:
            for unit in units:
                yield _guarded(unit)
            return
        waiting: dict[Future[Outcome], Unit] = {}
        lost: list[Unit] = []
        queue = list(reversed(units))
        while queue or waiting:
            try:
                while queue and len(waiting) < 2 * self.processes:
                    unit = queue[-1]
                    waiting[self._running().submit(_guarded, unit)] = unit
                    queue.pop()
            except BrokenProcessPool:
                self._pool = None
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                unit = waiting.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(unit)
                    self._pool = None
                except Exception as error:  # noqa: BLE001  # a value that cannot travel, say
                    yield Outcome(unit, reason=_reason(error))
        for unit in lost:
            yield self._alone(unit)

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = _pool(self.processes)
        return self._pool

    @staticmethod
    def _alone(unit: Unit) -> Outcome:
        with _pool(1) as pool:
            try:
                return pool.submit(_guarded, unit).result()
            except BrokenProcessPool:
                reason = (
                    "its process was killed twice, the second time running alone; most often there was too "
                    "little memory"
                )
                return Outcome(unit, reason=reason)


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Prepare a worker: one thread, and interrupts are left to the parent.

    BLAS and torch read the variables when they are loaded, which is after this; a calling script that
    loaded them on import is limited through threadpoolctl.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _leave_with_parent() -> None:
    """End this worker when its parent is gone; killed, it could not tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _guarded(unit: Unit) -> Outcome:
    """Run ``unit``; an error becomes its reason, so that one failing unit does not stop the rest."""
    try:
        return Outcome(unit, value=unit.function(*unit.arguments))
    except Exception as error:  # noqa: BLE001  # a plugin may raise anything; it is recorded with its reason
        return Outcome(unit, reason=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, BenchError | ValueError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
