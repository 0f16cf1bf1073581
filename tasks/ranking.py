"""Rank statistics of many readouts at once: one sort per readout, everything else over whole blocks.

y, p are (m, T), measured and predicted; a pair counts where ``mask`` (m, T) is True. Undefined is NaN.

With the pairs of a readout in descending order of p, ties taken together as one step g, P positives and N
negatives in all, and TP_g, FP_g those at or above step g (TP_0 = FP_0 = 0),

    ROC AUC = Σ_g (FP_g − FP_{g−1}) (TP_g + TP_{g−1}) / (2 P N)
    AP      = Σ_g (TP_g − TP_{g−1}) / P · TP_g / (TP_g + FP_g)

The first is the chance that a positive stands above a negative, ties half (Mann & Whitney 1947); the second
is average precision without interpolation, as scikit-learn has it. Its floor is the prevalence P / (P + N).
Spearman's correlation is Pearson's of the ranks, ties at their average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]
    Mask = NDArray[np.bool_]

BLOCK = 128
"""Readouts per block: a block's sorted keys stay in the processor's cache."""

COMPILED = 500_000
"""Values (float32) from which a compiled kernel is worth what Numba's import takes."""

COMPILED_ROWS = 1_000_000
"""Rows up to which that kernel's products of twice the ranks add up in 64 bits: 4 Σ i² < 2⁶³."""

NOT_FINITE = "a counted value is NaN or infinite; mask it"


@dataclass(frozen=True, eq=False)
class Ranked:
    """Scores of T readouts.

    Parameters
    ----------
    auc, ap
        (T,) ROC AUC and average precision; NaN where a class is empty.
    positives, negatives
        (T,) int64 pairs of each class.
    """

    auc: NDArray[np.float64]
    ap: NDArray[np.float64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @property
    def prevalence(self) -> NDArray[np.float64]:
        """(T,) share of positives among the pairs; NaN without any pair."""
        total = self.positives + self.negatives
        share: NDArray[np.float64] = np.divide(
            self.positives, total, out=np.full(len(total), np.nan), where=total > 0
        )
        return share


def rank(y: Matrix, p: Matrix, mask: Mask) -> Ranked:
    """Score predictions p of binary y (1 is positive, 0 negative), both (m, T), by the module's formulas.

    Raises
    ------
    TaskError
        When a counted y is neither 0 nor 1 or a counted p is NaN.
    """
    T = y.shape[1]
    if (((y != 0.0) & (y != 1.0)) & mask).any():
        raise TaskError("ROC AUC and AP take readouts of 0 and 1; turn calls into classes first")
    auc, ap = np.full(T, np.nan), np.full(T, np.nan)
    positives, negatives = np.zeros(T, np.int64), np.zeros(T, np.int64)
    for own in _blocks(y):
        counted = _rows(mask, own)  # (b, m)
        hit = (_rows(y, own) == 1.0) & counted
        positives[own] = P = hit.sum(axis=1)
        negatives[own] = N = counted.sum(axis=1) - P
        order, key = ascending(_rows(p, own), counted)
        auc[own], ap[own] = _areas(np.take_along_axis(hit, order, axis=1), key, P, N)
    return Ranked(auc, ap, positives, negatives)


def roc_auc(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) ROC AUC; see :func:`rank`."""
    return rank(y, p, mask).auc


def average_precision(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) average precision; see :func:`rank`."""
    return rank(y, p, mask).ap


def spearman(y: Matrix, p: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (T,) Spearman correlation; NaN below three pairs or where y or p is constant.

    With ranks a of y and b of p, ties at their average, and n pairs: (Σ a b − n (n + 1)² / 4) over the root
    of the product of both Σ (rank − mean)² = (n³ − n − Σ_j (t_j³ − t_j)) / 12, for ties of t_1, t_2, …
    """
    rho = np.full(y.shape[1], np.nan)
    if y.dtype == p.dtype == np.float32 and y.size >= COMPILED and len(y) <= COMPILED_ROWS:
        from tasks.ranked import correlate

        for own in _blocks(y):
            found = correlate(y[:, own], p[:, own], np.ascontiguousarray(mask[:, own]))
            if found is None:
                raise TaskError(NOT_FINITE)
            rho[own] = found
        return rho
    for own in _blocks(y):
        counted = _rows(mask, own)
        number = counted.sum(axis=1)
        rho[own] = _correlate(*_sorted(_rows(y, own), counted), *_sorted(_rows(p, own), counted), number)
    return rho


def _correlate(
    order: NDArray[Any],
    key: NDArray[Any],
    other: NDArray[Any],
    other_key: NDArray[Any],
    number: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (b,) Spearman correlation of the first ``number`` (b,) places of rows (b, m), sorted twice."""
    average, spread = _averages(key, number)
    first = np.zeros(key.shape)
    np.put_along_axis(first, order.astype(np.int64), average, axis=1)
    average, spread_other = _averages(other_key, number)
    counted = np.arange(key.shape[1]) < number[:, None]
    met = np.take_along_axis(first, other.astype(np.int64), axis=1)
    product = np.einsum("bm,bm->b", met, np.where(counted, average, 0.0))
    n = number.astype(np.float64)
    top = product - n * (n + 1.0) ** 2 / 4.0
    defined = (number >= 3) & (spread > 0) & (spread_other > 0)
    scale = np.sqrt(spread * spread_other, where=defined, out=np.ones_like(top))
    rho: NDArray[np.float64] = np.divide(top, scale, out=np.full(len(top), np.nan), where=defined)
    return rho.clip(-1.0, 1.0)


def ranks(values: Matrix, mask: Mask) -> NDArray[np.float64]:
    """Return (m, T) ranks from 1 of each column's counted entries, ties at their average; 0 elsewhere."""
    out = np.zeros(values.shape)
    for own in _blocks(values):
        counted = _rows(mask, own)
        order, key = ascending(_rows(values, own), counted)
        average, _ = _averages(key, counted.sum(axis=1))
        placed = np.empty(counted.shape)
        np.put_along_axis(placed, order, average, axis=1)
        out[:, own] = np.where(counted, placed, 0.0).T
    return out


def ascending(values: Matrix, counted: Mask) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Sort each row of values (b, m), what is not counted last.

    Returns
    -------
    order
        (b, m) int64 places in the row; the order among ties is not defined.
    key
        (b, m) sorted keys: equal exactly where counted values are equal, and for all that is not counted.

    Raises
    ------
    TaskError
        When a counted value is NaN or infinite.
    """
    order, key = _sorted(values, counted)
    return order.astype(np.int64), key


def _sorted(values: Matrix, counted: Mask) -> tuple[NDArray[Any], NDArray[Any]]:
    """Do what :func:`ascending` does, with places of any whole type."""
    if not np.isfinite(values).all() and not np.isfinite(values[counted]).all():
        raise TaskError(NOT_FINITE)
    if values.dtype != np.float32:
        filled = np.where(counted, values, np.inf)
        order = np.argsort(filled, axis=1)
        return order, np.take_along_axis(filled, order, axis=1)
    # Float bits as an unsigned number in the same order (adding 0 makes one zero of the two), the place in
    # the low half: sorting whole keys is twice as fast as an argsort.
    bits = (values + np.float32(0.0)).view(np.uint32)
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x80000000)
    bits |= np.subtract(counted, 1, dtype=np.int32).view(np.uint32)  # all ones where not counted
    keys = np.empty(values.shape, np.uint64)
    halves = keys.view(np.uint32)
    halves[:, 1 - _LOW :: 2] = bits
    halves[:, _LOW::2] = np.arange(values.shape[1], dtype=np.uint32)
    keys.sort(axis=1)
    return halves[:, _LOW::2], halves[:, 1 - _LOW :: 2]


_LOW = 0 if np.little_endian else 1
"""Which half of a 64-bit number its low bits are."""


def _areas(
    hit: NDArray[np.bool_], key: NDArray[Any], P: NDArray[np.int64], N: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ROC AUC and AP of rows (b, m) in ascending order; ``hit`` marks positives, ``key`` is equal in ties.

    Read from below: before a step stand ``place`` pairs with ``tp`` positives, so P − tp positives are at or
    above it. Only steps with positives add anything; what is not counted is a last step without.
    """
    b, m = key.shape
    first, steps = _ties(key)
    size = np.diff(first, append=b * m)
    total = np.cumsum(hit, dtype=np.int32)  # over the whole block, row after row
    tp_next = total[first + size - 1]
    gained = np.diff(tp_next, prepend=np.int32(0))
    own = np.flatnonzero(gained)
    row = np.repeat(np.arange(b), steps)[own]
    gain = gained[own].astype(np.int64)
    place = first[own] - row * m
    earlier = np.cumsum(P) - P  # positives of the rows before
    tp = tp_next[own] - gain - earlier[row]
    # Twice the pairs won: a positive beats the negatives below its step and half of those in it.
    won = np.bincount(row, gain * (2 * (place - tp) + size[own] - gain), minlength=b)
    precision = (P[row] - tp) / ((P + N)[row] - place)
    nothing = np.full(b, np.nan)
    both = (P > 0) & (N > 0)
    auc = np.divide(won, 2.0 * P * N, out=nothing.copy(), where=both)
    ap = np.divide(np.bincount(row, gain * precision, minlength=b), P, out=nothing, where=both)
    return auc, ap


def _averages(
    key: NDArray[Any], number: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average rank at each place of sorted rows (b, m), and the ranks' summed squared deviations (b,).

    Beyond the first ``number`` (b,) places of a row ranks are without a meaning.
    """
    b, m = key.shape
    first, _ = _ties(key)
    size = np.diff(first, append=b * m)
    # Ties are few as a rule: only they are touched.
    several = np.flatnonzero(size > 1)
    row, place = np.divmod(first[several], m)
    within = place < number[row]
    row, place, size = row[within], place[within], size[several[within]]
    average = np.tile(np.arange(1.0, m + 1.0), (b, 1))
    earlier = np.cumsum(size) - size
    tied = np.repeat(row * m + place - earlier, size) + np.arange(size.sum())
    average.reshape(-1)[tied] = np.repeat(place + (size + 1) / 2.0, size)
    loss = np.bincount(row, size.astype(np.float64) ** 3 - size, minlength=b)
    spread: NDArray[np.float64] = (number.astype(np.float64) ** 3 - number - loss) / 12.0
    return average, spread


def _ties(key: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat places (steps,) where runs of equal keys begin, at least one per row; steps per row (b,)."""
    starts = np.ones(key.shape, bool)
    np.not_equal(key[:, 1:], key[:, :-1], out=starts[:, 1:])
    return np.flatnonzero(starts), starts.sum(axis=1)


def _rows(values: NDArray[Any], own: slice) -> NDArray[Any]:
    """Return the readouts ``own`` of (m, T) as contiguous rows (b, m)."""
    # Two copies: reading a wide matrix by its columns misses the cache at every step.
    return np.ascontiguousarray(np.ascontiguousarray(values[:, own]).T)


def _blocks(values: Matrix) -> Iterator[slice]:
    """Slices over the readouts of (m, T); none where there is no row."""
    for start in range(0, values.shape[1] if len(values) else 0, BLOCK):
        yield slice(start, start + BLOCK)
