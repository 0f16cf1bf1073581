"""The batch of the next step, read while this one computes.

What a step sees is a function of its number, so a batch is the same whenever it is read, and reading it early
changes no byte of a training. One step ahead is enough: a second batch would wait in memory only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Any, ...]
Read = Callable[[int], Batch]


class Ahead:
    """Reads one batch ahead, in a thread of its own that lives no longer than that.

    Parameters
    ----------
    steps
        Of the training; nothing is read beyond.
    device
        Where the training computes. For a GPU the tensors of a batch are put into pinned memory, from which
        ``to(device, non_blocking=True)`` copies while other work goes on.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._coming: tuple[int, Future[Batch]] | None = None

    def __call__(self, read: Read, step: int) -> Batch:
        """Return ``read(step)``, and begin with the next step's.

        Parameters
        ----------
        read
            Returns a step's batch, tensors and others, on the CPU. It runs beside the step before, so it may
            not look at the network, nor talk to other processes. What it raises is raised by the call that
            asks for that step.
        """
        coming, self._coming = self._coming, None
        if coming is None or coming[0] != step:  # the first one, or after a resume
            coming = step, self._begun(read, step)
        batch = coming[1].result()
        if step + 1 < self._steps:
            self._coming = step + 1, self._begun(read, step + 1)
        return batch

    def _begun(self, read: Read, step: int) -> Future[Batch]:
        found: Future[Batch] = Future()
        threading.Thread(target=_fill, args=(found, read, step, self._device), name="batch ahead").start()
        return found


def _fill(found: Future[Batch], read: Read, step: int, device: torch.device) -> None:
    """Run in the thread: read, and hand over the batch or what was raised."""
    try:
        gpu = device.type == "cuda"
        # a thread begins on the first GPU, and to pin there would take memory of another process's
        with torch.cuda.device(device) if gpu else nullcontext():
            batch = read(step)
            found.set_result(tuple(v.pin_memory() if gpu and isinstance(v, Tensor) else v for v in batch))
    except BaseException as error:  # noqa: BLE001  whatever it is, the step's own thread raises it
        found.set_exception(error)
