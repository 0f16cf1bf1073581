"""Pixels of every object in order of intensity, the basis of quantiles and of ranks.

Sorting floats object by object is dear; sorting small integers is not. Intensities become integers in the
same order (the grey levels themselves where the pixels lie on an 8-, 12- or 16-bit grid, else their rank in
the channel), and those are sorted by counting digits of at most 11 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

_DIGIT = 11


@kernel
def _sort(
    code: NDArray[np.int64], start: NDArray[np.int64], order: NDArray[np.int32], rank: NDArray[np.int32]
) -> None:
    """Fill ``order`` (indices of pixels, ascending) and ``rank`` (equal intensities share one) per object."""
    largest = 1
    for k in range(start.size - 1):
        largest = max(largest, start[k + 1] - start[k])
    spare = np.empty(largest, np.int32)
    tally = np.zeros(1 << _DIGIT, np.int64)
    for k in range(start.size - 1):
        first, last = start[k], start[k + 1]
        low = code[first]
        high = code[first]
        for p in range(first, last):
            low = min(low, code[p])
            high = max(high, code[p])
        bits = 0
        while (high - low) >> bits:
            bits += 1
        passes = max((bits + _DIGIT - 1) // _DIGIT, 1)
        digit = (bits + passes - 1) // passes
        for p in range(first, last):
            order[p] = p
        for turn in range(passes):
            shift = turn * digit
            mask = (1 << digit) - 1
            tally[: mask + 1] = 0
            for p in range(first, last):
                tally[((code[p] - low) >> shift) & mask] += 1
            below = 0
            for t in range(mask + 1):
                here = tally[t]
                tally[t] = below
                below += here
            for p in range(first, last):
                spare[p - first] = order[p]
            for p in range(last - first):
                t = ((code[spare[p]] - low) >> shift) & mask
                order[first + tally[t]] = spare[p]
                tally[t] += 1
        current = 0
        for p in range(first, last):
            if p > first and code[order[p]] != code[order[p - 1]]:
                current += 1
            rank[order[p]] = current


def _codes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return integers in the order of ``values``, equal where those are equal."""
    for grid in (65535.0, 255.0, 4095.0):
        levels = np.rint(values * grid)
        if np.array_equal(levels / grid, values):
            return levels.astype(np.int64)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def rank_together(values: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Rank the pixels of all objects together, as CellProfiler does for its rank-weighted colocalisation.

    Parameters
    ----------
    values
        (C, P) pixels.

    Returns
    -------
    rank : (C, P) int32
        Rank of each pixel's intensity among the distinct ones of its channel, from 0.
    levels : (C,) int64
        How many distinct ones there are.
    """
    rank, levels = np.zeros(values.shape, np.int32), np.zeros(len(values), np.int64)
    for c, channel in enumerate(values):
        if not channel.size:
            continue
        codes = _codes(channel)
        codes -= codes.min()
        seen = np.zeros(codes.max() + 1, np.int32)
        seen[codes] = 1
        order = np.cumsum(seen, dtype=np.int32)
        rank[c] = order[codes] - 1
        levels[c] = order[-1]
    return rank, levels


def sort_by_intensity(
    objects: Objects, values: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sort each object's pixels in each channel.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels.

    Returns
    -------
    order : (C, P) int32
        Indices of pixels; those of object k, in ascending order of intensity, at ``start[k]:start[k + 1]``.
    rank : (C, P) int32
        Rank of each pixel's intensity among the distinct ones of its object, from 0.
    """
    order, rank = np.empty(values.shape, np.int32), np.empty(values.shape, np.int32)
    for c, channel in enumerate(values):
        _sort(_codes(channel), objects.start, order[c], rank[c])
    return order, rank
