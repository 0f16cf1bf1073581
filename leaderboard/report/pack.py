"""Boards as small columns: what the page's search and figures read, quantised and compressed once.

Numbers per run and readout are int16 in steps of 1e-4 (NaN is -32768); the few that do not fit, beyond
±3.2767, stand exactly in a list of their own. Runs follow one another, each with ``skill``, ``q``,
``q_controls`` and a byte of flags (1 predictable, 2 beyond controls); the noise ceiling of the readouts comes
last. All of it is zlib-compressed and in base64.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from leaderboard.board import Board

STEP = 1e-4
NOTHING = -32768
LARGEST = 32767
SIGNIFICANT = 5
"""Digits kept of a number that a figure draws."""


def quantise(values: NDArray[np.float64]) -> tuple[NDArray[np.int16], dict[int, float]]:
    """Return int16 codes of (T,) values in steps of :data:`STEP`, and the values that do not fit by place."""
    steps = np.round(values / STEP)
    known = np.isfinite(values)
    fits = known & (np.abs(steps) <= LARGEST)
    codes = np.full(len(values), NOTHING, np.int16)
    codes[fits] = steps[fits].astype(np.int16)
    return codes, {int(i): float(f"{values[i]:.6g}") for i in np.flatnonzero(known & ~fits)}


def readouts(board: Board, names: Mapping[str, str], order: Sequence[str]) -> dict[str, Any]:
    """Return the per-readout tests of a board as one block over the readouts in ``order``.

    Runs that lack a readout have NaN there.
    """
    chunks: list[bytes] = []
    beyond: dict[str, dict[int, float]] = {}
    runs = []
    tests = {str(run): own for run, own in board.readouts.groupby("run", sort=False)}
    for number, entry in enumerate(board.entries):
        own = tests[entry.run].set_index("readout").reindex(list(order))
        for column in ("skill", "q", "q_controls"):
            codes, outside = quantise(own[column].to_numpy(np.float64))
            chunks.append(codes.astype("<i2").tobytes())
            if outside:
                beyond[f"{number}/{column}"] = outside
        flags = _true(own["predictable"]) + 2 * _true(own["beyond_controls"])
        chunks.append(flags.astype(np.uint8).tobytes())
        runs.append({"run": entry.run, "label": names[entry.run], "role": entry.role, "head": entry.head})
    ceiling, _ = quantise(_ceiling(board, order))
    chunks.append(ceiling.astype("<i2").tobytes())
    block = base64.b64encode(zlib.compress(b"".join(chunks), 6)).decode()
    return {"runs": runs, "block": block, "outside": beyond}


def _ceiling(board: Board, order: Sequence[str]) -> NDArray[np.float64]:
    """(T,) noise ceiling of the readouts, from the first run that has one; NaN where none has."""
    known = board.readouts[["readout", "noise_ceiling"]].dropna().drop_duplicates("readout")
    found: NDArray[np.float64] = (
        known.set_index("readout")["noise_ceiling"].reindex(list(order)).to_numpy(np.float64)
    )
    return found


def columnar(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows of a figure's data as columns, numbers to :data:`SIGNIFICANT` digits; NaN is null.

    Text that repeats is stored once.
    """
    fields = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, Any] = {}
    for name in fields:
        values = [_short(row.get(name)) for row in rows]
        levels = list(dict.fromkeys(values)) if all(isinstance(v, str) for v in values) else []
        if levels and 2 * len(levels) < len(values):
            place = {level: i for i, level in enumerate(levels)}
            columns[name] = {"levels": levels, "codes": [place[v] for v in values]}
        else:
            columns[name] = values
    return {"length": len(rows), "columns": columns}


def _short(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None
    return value


def _true(column: pd.Series) -> NDArray[np.int64]:
    flags: NDArray[np.int64] = (column == True).to_numpy().astype(np.int64)  # noqa: E712  # NaN, of a readout the run lacks, is not
    return flags
