"""Scores of many readouts at once, over the pairs that are observed and predicted.

y, p are (m, T), measured and predicted; a pair counts where ``mask`` (m, T) is True. Undefined is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]
    Mask = NDArray[np.bool_]


def skill(e: Matrix, e0: Matrix) -> NDArray[np.float64]:
    """Return (T,) 1 − Σ e / Σ e⁰ over all leading axes; NaN where the floor makes no error or nothing is
    observed.

    ``e`` and ``e0`` are squared errors of an entrant and of the floor with equal places of NaN. Never
    clipped: an entrant worse than the floor is negative.
    """
    flat, flat0 = e.reshape(-1, e.shape[-1]), e0.reshape(-1, e0.shape[-1])
    total, total0 = np.nansum(flat, axis=0, dtype=np.float64), np.nansum(flat0, axis=0, dtype=np.float64)
    ratio = np.divide(total, total0, out=np.full(total.shape, np.nan), where=total0 > 0)
    value: NDArray[np.float64] = 1.0 - ratio
    return value


def mse(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) mean of (p − y)²."""
    return _mean(np.where(mask, (np.asarray(p, np.float64) - y) ** 2, 0.0), mask)


def pearson_r2(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) squared Pearson correlation; NaN below three pairs or where y or p is constant.

    Blind to the prediction's offset, scale and sign, and 1/(m − 1) on average for independent y and p: read
    it beside :func:`skill`, not for it.
    """
    r: NDArray[np.float64] = _correlation(y, p, mask) ** 2
    return r


def smape(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) symmetric mean absolute percentage error, 100 · mean |p − y| / (|y| + |p|), in [0, 100].

    0/0 := 0. It depends on the scale's zero, so it is defined on non-negative scales only.

    Raises
    ------
    TaskError
        When an observed y is negative.
    """
    if (np.where(mask, y, 0.0) < 0).any():
        raise TaskError("SMAPE is defined on non-negative scales; undo the transform first or drop it")
    return _mean(smape_terms(y, p, mask), mask)


def smape_terms(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (m, T) terms 100 |p − y| / (|y| + |p|) of :func:`smape`, 0 where mask is False."""
    y64, p64 = np.where(mask, y, 0.0).astype(np.float64), np.where(mask, p, 0.0).astype(np.float64)
    total = np.abs(y64) + np.abs(p64)
    terms: NDArray[np.float64] = 100.0 * np.divide(
        np.abs(p64 - y64), total, out=np.zeros_like(total), where=total > 0
    )
    return terms


def _mean(terms: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    count = mask.sum(axis=0)
    mean: NDArray[np.float64] = np.divide(
        terms.sum(axis=0), count, out=np.full(terms.shape[1], np.nan), where=count > 0
    )
    return mean


def _correlation(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Pearson correlation per column over the masked-in pairs."""
    y0, p0 = np.where(mask, y, 0.0).astype(np.float64), np.where(mask, p, 0.0).astype(np.float64)
    constant = _constant(y0, mask) | _constant(p0, mask)
    yc = np.where(mask, y0 - _mean(y0, mask), 0.0)
    pc = np.where(mask, p0 - _mean(p0, mask), 0.0)
    yy, pp = np.einsum("mt,mt->t", yc, yc), np.einsum("mt,mt->t", pc, pc)
    defined = (mask.sum(axis=0) >= 3) & ~constant & (yy > 0) & (pp > 0)
    top = np.einsum("mt,mt->t", yc, pc)
    scale = np.sqrt(yy) * np.sqrt(pp)
    r: NDArray[np.float64] = np.divide(top, scale, out=np.full(len(yy), np.nan), where=defined)
    return r.clip(-1.0, 1.0)


def _constant(values: NDArray[np.float64], mask: Mask) -> NDArray[np.bool_]:
    """Whether a column's masked-in values are all the same."""
    low = np.where(mask, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(mask, values, -np.inf).max(axis=0, initial=-np.inf)
    equal: NDArray[np.bool_] = low >= high
    return equal
