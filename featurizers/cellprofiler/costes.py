"""Costes' automatic threshold: Manders' coefficients above the line where correlation sets in.

An orthogonal regression b = s a + t over the pixels lit in either channel ties the two thresholds together.
Bisection over 1 ... scale (CellProfiler's "Faster" search: the next candidate lies at 5/6 of the window, at
1/2 once the window is 6 wide) finds the lowest threshold T whose background, the pixels with a < T or
b < s T + t, still correlates positively; then C(a, b) = Σ a over a > T, b > s T + t, divided by Σ a over
a >= T, and likewise for b.

A candidate costs CellProfiler a correlation over all pixels, some sixty times. But each pixel belongs to the
foreground for one interval of candidates, and whole windows of candidates agree on most pixels: those are
settled once, in running sums, and only the others are looked at again. And of each correlation only the sign
matters, which is that of the covariance (Costes et al. 2004 [1]_).

References
----------
.. [1] Costes SV, Daelemans D, Cho EH, Dobbin Z, Pavlakis G, Lockett S (2004). Automatic and quantitative
   measurement of protein-protein colocalization in live cells. Biophysical Journal 86(6), 3993-4003.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

_STEPS = 256
_N, _A, _B, _AB, _LOW_A, _HIGH_A, _LOW_B, _HIGH_B = range(8)


@kernel
def _clear(sums: NDArray[np.float64]) -> None:
    sums[:] = 0.0
    sums[_LOW_A] = np.inf
    sums[_LOW_B] = np.inf
    sums[_HIGH_A] = -np.inf
    sums[_HIGH_B] = -np.inf


@kernel
def _add(sums: NDArray[np.float64], a: float, b: float) -> None:
    sums[_N] += 1.0
    sums[_A] += a
    sums[_B] += b
    sums[_AB] += a * b
    sums[_LOW_A] = min(sums[_LOW_A], a)
    sums[_HIGH_A] = max(sums[_HIGH_A], a)
    sums[_LOW_B] = min(sums[_LOW_B], b)
    sums[_HIGH_B] = max(sums[_HIGH_B], b)


@kernel
def _join(sums: NDArray[np.float64], more: NDArray[np.float64]) -> None:
    for i in (_N, _A, _B, _AB):
        sums[i] += more[i]
    for i in (_LOW_A, _LOW_B):
        sums[i] = min(sums[i], more[i])
    for i in (_HIGH_A, _HIGH_B):
        sums[i] = max(sums[i], more[i])


@kernel
def _defined(sums: NDArray[np.float64]) -> bool:
    """Tell whether a correlation exists: three pixels, and neither channel constant."""
    return bool(sums[_N] >= 3 and sums[_LOW_A] < sums[_HIGH_A] and sums[_LOW_B] < sums[_HIGH_B])


@kernel
def _regression(
    a: NDArray[np.float64], b: NDArray[np.float64], first: int, last: int
) -> tuple[float, float, bool]:
    """Return slope and offset of the orthogonal regression of b on a, and whether it exists."""
    n = 0
    sum_a = 0.0
    sum_b = 0.0
    low_a = np.inf
    low_b = np.inf
    high_a = -np.inf
    high_b = -np.inf
    for p in range(first, last):
        if a[p] > 0.0 or b[p] > 0.0:
            n += 1
            sum_a += a[p]
            sum_b += b[p]
            low_a = min(low_a, a[p])
            low_b = min(low_b, b[p])
            high_a = max(high_a, a[p])
            high_b = max(high_b, b[p])
    if n < 3 or low_a == high_a or low_b == high_b:
        return 0.0, 0.0, False
    mean_a, mean_b = sum_a / n, sum_b / n
    square_a = 0.0
    square_b = 0.0
    product = 0.0
    for p in range(first, last):
        if a[p] > 0.0 or b[p] > 0.0:
            square_a += (a[p] - mean_a) * (a[p] - mean_a)
            square_b += (b[p] - mean_b) * (b[p] - mean_b)
            product += (a[p] - mean_a) * (b[p] - mean_b)
    if abs(product) <= 8 * np.finfo(np.float64).eps * max(square_a, square_b):
        return 0.0, 0.0, False
    difference = square_b - square_a
    slope = (difference + np.sqrt(difference * difference + 4 * product * product)) / (2 * product)
    offset = mean_b - slope * mean_a
    return slope, offset, bool(np.isfinite(slope) and np.isfinite(offset))


@kernel
def _last_reached(value: float, slope: float, offset: float, scale: float) -> int:
    """Return the candidate at which ``value >= slope * candidate / scale + offset`` changes.

    The last one that is reached for a positive slope, the first one for a negative slope; within
    [-1, scale + 1]. Near a whole number the inequality itself decides, as rounding could tip the quotient.
    """
    place = min(max((value - offset) / slope * scale, -1.0), scale + 1.0)
    step = 1 if slope > 0.0 else -1
    candidate = np.floor(place) if slope > 0.0 else np.ceil(place)
    if abs(place - np.rint(place)) < 1e-6:
        candidate = np.rint(place) - step
        for _ in range(2):
            if value >= slope * ((candidate + step) / scale) + offset:
                candidate += step
    return int(candidate)


@kernel
def _threshold(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    first: int,
    last: int,
    slope: float,
    offset: float,
    scale: float,
    centred: NDArray[np.float64],
    span: NDArray[np.int64],
) -> int:
    """Return the lowest candidate with a positively correlated background, or -1 without any.

    ``centred`` (2, room) and ``span`` (2, room) are scratch space: the unsettled pixels and the first and
    last candidate for which each is foreground.
    """
    n = last - first
    mean_a = 0.0
    mean_b = 0.0
    for p in range(first, last):
        mean_a += a[p] / n
        mean_b += b[p] / n
    settled = np.empty(8)
    background = np.empty(8)
    everything = np.empty(8)
    _clear(settled)
    _clear(everything)
    highest = -1
    for p in range(first, last):
        i = p - first
        centred[0, i] = a[p] - mean_a
        centred[1, i] = b[p] - mean_b
        span[0, i] = -1
        span[1, i] = _last_reached(a[p], 1.0, 0.0, scale)
        if slope > 0.0:
            span[1, i] = min(span[1, i], _last_reached(b[p], slope, offset, scale))
        else:
            span[0, i] = _last_reached(b[p], slope, offset, scale)
        if span[0, i] <= span[1, i]:
            highest = max(highest, span[1, i])
        _add(everything, centred[0, i], centred[1, i])
    left, right = 1, int(scale)
    candidate = (right - left) * 5 // 6 + left
    previous = 0
    found = -1
    for _ in range(_STEPS):
        if candidate == previous:
            return found
        if candidate > highest:  # above every pixel: all is background
            background[:] = everything
        else:
            _clear(background)
            kept = 0
            for i in range(n):
                low, high = span[0, i], span[1, i]
                if high < left or low > right or low > high:
                    _add(settled, centred[0, i], centred[1, i])
                elif low > left or high < right:
                    if candidate > high or candidate < low:
                        _add(background, centred[0, i], centred[1, i])
                    centred[0, kept] = centred[0, i]
                    centred[1, kept] = centred[1, i]
                    span[0, kept] = low
                    span[1, kept] = high
                    kept += 1
            n = kept
            _join(background, settled)
        covariance = background[_AB] - background[_A] * background[_B] / max(background[_N], 1.0)
        if not _defined(background) or covariance < 0.0:
            left = candidate - 1
        else:
            right = candidate + 1
            found = candidate
        previous = candidate
        width = right - left
        candidate = (width * 5 // 6 if width > 6 else width // 2) + left
    return -1


@kernel
def _costes(
    values: NDArray[np.float64], start: NDArray[np.int64], pairs: NDArray[np.int64], scale: float
) -> NDArray[np.float64]:
    """Return (n, pairs, 2), NaN where undefined."""
    out = np.full((start.size - 1, pairs.shape[0], 2), np.nan)
    largest = 1
    for k in range(start.size - 1):
        largest = max(largest, start[k + 1] - start[k])
    centred = np.empty((2, largest))
    span = np.empty((2, largest), np.int64)
    background = np.empty(8)
    for j in range(pairs.shape[0]):
        a, b = values[pairs[j, 0]], values[pairs[j, 1]]
        for k in range(start.size - 1):
            first, last = start[k], start[k + 1]
            slope, offset, exists = _regression(a, b, first, last)
            if not exists:
                continue
            found = _threshold(a, b, first, last, slope, offset, scale, centred, span)
            if found < 0:
                continue
            cut_a = (found - 1) / scale
            cut_b = slope * cut_a + offset
            _clear(background)
            total_a = 0.0
            total_b = 0.0
            both_a = 0.0
            both_b = 0.0
            for p in range(first, last):
                x, y = a[p], b[p]
                if x < cut_a or y < cut_b:
                    _add(background, x, y)
                if x >= cut_a:
                    total_a += x
                if y >= cut_b:
                    total_b += y
                if x > cut_a and y > cut_b:
                    both_a += x
                    both_b += y
            if _defined(background) and total_a > 0.0 and total_b > 0.0:
                out[k, j, 0] = both_a / total_a
                out[k, j, 1] = both_b / total_b
    return out


def measure_costes(
    objects: Objects, values: NDArray[np.float64], pairs: Sequence[tuple[int, int]], scale: int = 65535
) -> NDArray[np.float64]:
    """Measure Costes' coefficients.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels in [0, 1].
    pairs
        Ordered pairs of channels (a, b); the search steps along a, so (b, a) can differ.
    scale
        Number of grey levels above 0, which is the number of candidate thresholds: 65535 for 16 bits.

    Returns
    -------
    (n, pairs, 2) float64: C(a, b) and C(b, a). NaN where no regression, no threshold or no signal exists.

    Raises
    ------
    FeaturizerError
        When a pixel lies outside [0, 1] or ``scale`` outside 2 ... 2³² - 1.
    """
    if values.size and (values.min() < 0 or values.max() > 1):
        msg = (
            f"Costes' thresholds need pixels in [0, 1], and these go from {values.min():g} to "
            f"{values.max():g}; clip the images or divide them by their largest grey level"
        )
        raise FeaturizerError(msg)
    if not 2 <= scale < 2**32:
        msg = f"Costes' thresholds need a scale from 2 to 2^32 - 1 grey levels, not {scale}"
        raise FeaturizerError(msg)
    return _costes(values, objects.start, np.asarray(pairs, np.int64).reshape(-1, 2), float(scale))
