"""Spearman's correlation of sorted rows, compiled; :func:`tasks.ranking.spearman` has the formula.

Importing this imports Numba, which takes a second: only who has many readouts does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numba  # type: ignore[import-untyped]
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Kernel = Callable[..., NDArray[np.float64]]


def _correlate(
    order: NDArray[Any],
    key: NDArray[Any],
    other: NDArray[Any],
    other_key: NDArray[Any],
    number: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (b,) Spearman correlation of the first ``number`` (b,) places of rows (b, m), sorted twice.

    Parameters
    ----------
    order, key
        Places of the row in ascending order of y, and keys that are equal where y is.
    other, other_key
        The same of p.
    """
    b, m = key.shape
    rho = np.full(b, np.nan)
    rank = np.zeros(m)
    for row in range(b):
        n = number[row]
        if n < 3:
            continue
        loss, i = 0.0, 0
        while i < n:
            j = i + 1
            while j < n and key[row, j] == key[row, i]:
                j += 1
            for q in range(i, j):
                rank[order[row, q]] = 0.5 * (i + 1 + j)
            t = float(j - i)
            loss += t * t * t - t
            i = j
        product, lost, i = 0.0, 0.0, 0
        while i < n:
            j = i + 1
            while j < n and other_key[row, j] == other_key[row, i]:
                j += 1
            met = 0.0
            for q in range(i, j):
                met += rank[other[row, q]]
            product += 0.5 * (i + 1 + j) * met
            t = float(j - i)
            lost += t * t * t - t
            i = j
        size = float(n)
        cube = size * size * size - size
        spread = (cube - loss) / 12.0 * ((cube - lost) / 12.0)
        if spread > 0.0:
            top = product - size * (size + 1.0) ** 2 / 4.0
            rho[row] = min(1.0, max(-1.0, top / np.sqrt(spread)))
    return rho


try:
    correlate = cast("Kernel", numba.njit(cache=True, nogil=True)(_correlate))
except RuntimeError:  # nowhere to keep it (a read-only installation): compile anew in each process
    correlate = cast("Kernel", numba.njit(nogil=True)(_correlate))
