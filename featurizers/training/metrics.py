"""What a training tells of itself: a Parquet with a row per step, and TensorBoard's files if it is installed.

``metrics.parquet`` holds step, loss and its parts, learning rate, gradient norm, crops per second and seconds
since the process began to train. It is rewritten whole at every checkpoint; a resumed training goes on from
the checkpoint's step. ``tensorboard --logdir`` reads the folder ``tensorboard`` beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILE = "metrics.parquet"


class Metrics:
    """The rows of one training.

    Parameters
    ----------
    folder
        Where the files go; None keeps nothing (processes other than the first).
    step
        Steps already done; rows of later steps, written before a kill, are dropped and come again.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._rows: list[dict[str, float]] = []
        self._path = None if folder is None else folder / FILE
        self._board: Any = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if step and self._path is not None and self._path.exists():
            self._rows = [row for row in pq.read_table(self._path).to_pylist() if row["step"] <= step]
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            make: Any = SummaryWriter  # untyped in torch
            self._board = make(folder / "tensorboard", purge_step=step + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the row of a step, counted from 1."""
        if self._path is None:
            return
        self._rows.append({"step": step, **figures})
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def write(self) -> None:
        """Put the file in place by a rename."""
        if self._path is None or not self._rows:
            return
        part = self._path.with_name(FILE + ".part")
        pq.write_table(pa.Table.from_pylist(self._rows), part)
        part.replace(self._path)
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()
