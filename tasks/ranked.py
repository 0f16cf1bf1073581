"""Spearman's correlation of many float32 readouts, compiled; :func:`tasks.ranking.spearman` has the formula.

Importing this imports Numba, which takes a second: only who has many readouts does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from tasks.jit import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINE = 16
"""float32 readouts in a line of the processor's cache: so many are turned into rows at once."""

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_LAST = np.uint32(0xFFFFFFFF)
"""The high half of a pair that is not counted: above that of any number."""


def correlate(
    y: NDArray[np.float32], p: NDArray[np.float32], counted: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Return (b,) Spearman correlation of the counted pairs of y and p, all (m, b).

    Keys of 64 bits are sorted twice: the value of y above its row, then that of p above twice the rank of y.
    What is left is a sum along the second order.

    Returns
    -------
    NDArray or None
        NaN below three pairs or where y or p is constant; None when a counted value is NaN or infinite.
    """
    rows = np.broadcast_to(np.arange(len(y), dtype=np.uint32), y.shape[::-1])
    keys = np.empty(rows.shape, np.uint64)
    if not _pack(np.ascontiguousarray(y), counted, rows, keys):
        return None
    keys.sort(axis=1)
    twice = np.zeros(keys.shape, np.uint32)
    ties = _place(keys, twice)
    if not _pack(np.ascontiguousarray(p), counted, twice, keys):
        return None
    keys.sort(axis=1)
    return cast("NDArray[np.float64]", _meet(keys, ties))


@compiled
def _number(own: NDArray[np.uint64]) -> int:
    """How many of a row's sorted keys are counted."""
    n = len(own)
    while n and own[n - 1] >> _HALF == _LAST:
        n -= 1
    return n


@compiled
def _pack(
    values: NDArray[np.float32],
    counted: NDArray[np.bool_],
    low: NDArray[np.uint32],
    keys: NDArray[np.uint64],
) -> bool:
    """Fill keys (b, m) from values (m, b) above low (b, m); return whether all counted values are finite.

    The bits of a float as an unsigned number in the same order, both zeros alike.
    """
    m, b = values.shape
    bits = values.view(np.uint32)
    finite = True
    for first in range(0, b, _LINE):
        for i in range(m):
            for row in range(first, min(first + _LINE, b)):
                x = bits[i, row]
                if not counted[i, row]:
                    x = _LAST
                else:
                    finite &= x & np.uint32(0x7F800000) != np.uint32(0x7F800000)
                    if x == np.uint32(0x80000000):
                        x = np.uint32(0)
                    x ^= _LAST if x >> np.uint32(31) else np.uint32(0x80000000)
                keys[row, i] = (np.uint64(x) << _HALF) | np.uint64(low[row, i])
    return finite


@compiled
def _place(keys: NDArray[np.uint64], twice: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Write twice the average rank of each counted place of sorted keys to its row; return (b,) Σ t³ − t."""
    b = len(keys)
    ties = np.zeros(b)
    for row in range(b):
        own, to = keys[row], twice[row]
        n = _number(own)
        equal = 0
        for i in range(n):
            to[own[i] & _LOW] = 2 * i + 2
            equal += i > 0 and own[i] >> _HALF == own[i - 1] >> _HALF
        i = 0 if equal else n  # as a rule there are none
        while i < n:
            j = i + 1
            while j < n and own[j] >> _HALF == own[i] >> _HALF:
                j += 1
            for q in range(i, j):
                to[own[q] & _LOW] = i + 1 + j
            t = float(j - i)
            ties[row] += t * t * t - t
            i = j
    return ties


@compiled
def _meet(keys: NDArray[np.uint64], ties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (b,) correlations from keys sorted by p, above twice the rank of y; ``ties`` (b,) are y's."""
    b = len(keys)
    rho = np.full(b, np.nan)
    for row in range(b):
        own = keys[row]
        n = _number(own)
        total, lost, i = np.int64(0), 0.0, 0
        while i < n:
            j = i + 1
            met = np.int64(own[i] & _LOW)
            while j < n and own[j] >> _HALF == own[i] >> _HALF:
                met += np.int64(own[j] & _LOW)
                j += 1
            total += met * (i + 1 + j)
            t = float(j - i)
            lost += t * t * t - t
            i = j
        size = float(n)
        cube = size * size * size - size
        spread = (cube - ties[row]) / 12.0 * ((cube - lost) / 12.0)
        if n >= 3 and spread > 0.0:
            top = (float(total) - size * (size + 1.0) ** 2) / 4.0
            rho[row] = min(1.0, max(-1.0, top / np.sqrt(spread)))
    return rho
