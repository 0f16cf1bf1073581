"""Costes' automatic threshold: Manders' coefficients above the line where correlation sets in.

An orthogonal regression b = s a + t over the pixels lit in either channel ties the two thresholds together.
Bisection over 1 ... scale (CellProfiler's "Faster" search: the next candidate lies at 5/6 of the window, at
1/2 once the window is 6 wide) finds the lowest threshold T whose background, the pixels with a < T or
b < s T + t, still correlates positively; then C(a, b) = Σ a over a > T, b > s T + t, divided by Σ a over
a >= T, and likewise for b.

A candidate costs CellProfiler a correlation over all pixels, some sixty times. But only the sign of each
correlation matters, which is that of the covariance, and each pixel belongs to the foreground for one
interval of candidates. With pixels sorted into bins by the ends of their intervals and running sums along
that order, a candidate costs a look at one bin (Costes et al. 2004 [1]_).

CellProfiler searches once in the whole image, background included, and uses that threshold in every object;
cp-measure searches in each object. Both are here: :func:`image_thresholds` and :func:`object_thresholds`.

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
_BINS = 16384


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
def _last_reached(value: float, slope: float, offset: float, scale: int) -> int:
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
def _index(
    key: NDArray[np.int64],
    n: int,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    begin: NDArray[np.int64],
    order: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> tuple[int, int, int]:
    """Sort n pixels into bins of equal width by ``key``; return the lowest key, log2 of the width, the bins.

    Bin t holds ``order[begin[t]:begin[t + 1]]``; ``sums`` (3, n + 1) are running sums of x, y and x y in that
    order.
    """
    low = key[0]
    high = key[0]
    for i in range(n):
        low = min(low, key[i])
        high = max(high, key[i])
    shift = 0
    limit = min(_BINS, 2 * n)
    while (high - low) >> shift >= limit:
        shift += 1
    bins = ((high - low) >> shift) + 1
    begin[: bins + 2] = 0
    for i in range(n):
        begin[((key[i] - low) >> shift) + 2] += 1
    for t in range(2, bins + 2):
        begin[t] += begin[t - 1]
    for i in range(n):
        t = ((key[i] - low) >> shift) + 1
        order[begin[t]] = i
        begin[t] += 1
    sum_x = 0.0
    sum_y = 0.0
    sum_xy = 0.0
    sums[:, 0] = 0.0
    for j in range(n):
        i = order[j]
        sum_x += x[i]
        sum_y += y[i]
        sum_xy += x[i] * y[i]
        sums[0, j + 1] = sum_x
        sums[1, j + 1] = sum_y
        sums[2, j + 1] = sum_xy
    return low, shift, bins


@kernel
def _below(
    limit: int,
    low: int,
    shift: int,
    bins: int,
    key: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    begin: NDArray[np.int64],
    order: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> tuple[int, float, float, float]:
    """Return number, Σx, Σy and Σxy of the pixels with key < limit."""
    if limit <= low:
        return 0, 0.0, 0.0, 0.0
    t = min((limit - low) >> shift, bins)
    j = begin[t]
    n, sum_x, sum_y, sum_xy = j, sums[0, j], sums[1, j], sums[2, j]
    if shift > 0:  # the limit lies inside the bin
        for j in range(begin[t], begin[min(t + 1, bins)]):
            i = order[j]
            if key[i] < limit:
                n += 1
                sum_x += x[i]
                sum_y += y[i]
                sum_xy += x[i] * y[i]
    return n, sum_x, sum_y, sum_xy


@kernel
def _varies(
    candidate: int,
    n: int,
    span: NDArray[np.int64],
    order: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> bool:
    """Tell whether both channels take two values among the background's pixels."""
    one = -1
    x_varies = False
    y_varies = False
    for j in range(n):
        i = order[j]
        if span[0, i] <= candidate <= span[1, i]:
            continue
        if one < 0:
            one = i
        x_varies = x_varies or x[i] != x[one]
        y_varies = y_varies or y[i] != y[one]
        if x_varies and y_varies:
            return True
    return False


@kernel
def _threshold(
    n: int,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    span: NDArray[np.int64],
    scale: int,
    begin: NDArray[np.int64],
    order: NDArray[np.int64],
    sums: NDArray[np.float64],
    whole: bool,  # noqa: FBT001 - Numba compiles no keyword-only arguments
) -> int:
    """Return the lowest candidate with a positively correlated background, or -1 without a usable one.

    A background that is constant in one channel has no correlation: CellProfiler (``whole``) ends the search
    there, cp-measure goes on above.

    x, y (n,) are the channels in grey levels, less about their means. On the grid they are integers, so that
    a covariance of exactly 0 shows as 0 and not as the sign of a rounding residue. Pixel i is foreground for
    candidates ``span[0, i]`` to ``span[1, i]``. ``begin``, ``order`` and ``sums`` are scratch space, one
    layer for each end of the spans.
    """
    all_x = 0.0
    all_y = 0.0
    all_xy = 0.0
    highest = -1
    ends = 1
    for i in range(n):
        all_x += x[i]
        all_y += y[i]
        all_xy += x[i] * y[i]
        if span[0, i] > span[1, i]:  # never foreground
            span[0, i] = -1
            span[1, i] = -1
        if span[0, i] >= 0:
            ends = 2
        highest = max(highest, span[1, i])
    low_0 = 0
    shift_0 = 0
    bins_0 = 0
    low_1, shift_1, bins_1 = _index(span[1], n, x, y, begin[1], order[1], sums[1])
    if ends == 2:
        low_0, shift_0, bins_0 = _index(span[0], n, x, y, begin[0], order[0], sums[0])
    left, right = 1, scale
    candidate = (right - left) * 5 // 6 + left
    previous = 0
    found = -1
    for _ in range(_STEPS):
        if candidate == previous:
            break
        if candidate > highest:
            count, sum_x, sum_y, sum_xy = n, all_x, all_y, all_xy
        else:
            count, sum_x, sum_y, sum_xy = _below(
                candidate, low_1, shift_1, bins_1, span[1], x, y, begin[1], order[1], sums[1]
            )
            if ends == 2:  # and the pixels whose spans begin beyond the candidate
                some, to_x, to_y, to_xy = _below(
                    candidate + 1, low_0, shift_0, bins_0, span[0], x, y, begin[0], order[0], sums[0]
                )
                count += n - some
                sum_x += all_x - to_x
                sum_y += all_y - to_y
                sum_xy += all_xy - to_xy
        if count < 3:
            left = candidate - 1
        elif not _varies(candidate, n, span, order[1], x, y):
            if whole:
                break
            left = candidate - 1
        elif count * sum_xy - sum_x * sum_y < 0.0:
            left = candidate - 1
        else:
            right = candidate + 1
            found = candidate
        previous = candidate
        width = right - left
        candidate = (width * 5 // 6 if width > 6 else width // 2) + left
    if whole:
        return found
    if found < 0 or candidate != previous:
        return -1
    count = 0  # the threshold is one below, and must have a background too
    for i in range(n):
        if found - 1 < span[0, i] or found - 1 > span[1, i]:
            count += 1
    if count < 3 or not _varies(found - 1, n, span, order[1], x, y):
        return -1
    return found


@kernel
def _cuts(
    values: NDArray[np.float64],
    start: NDArray[np.int64],
    pairs: NDArray[np.int64],
    scale: int,
    whole: bool,  # noqa: FBT001 - as above
) -> NDArray[np.float64]:
    """Return the thresholds of a and b (n, pairs, 2), NaN where there are none."""
    channels, n_objects = values.shape[0], start.size - 1
    out = np.full((n_objects, pairs.shape[0], 2), np.nan)
    largest = 1
    for k in range(n_objects):
        largest = max(largest, start[k + 1] - start[k])
    own = np.empty((channels, largest), np.int64)  # the last candidate that each pixel of a channel reaches
    centred = np.empty((channels, largest))
    span = np.empty((2, largest), np.int64)
    begin = np.empty((2, _BINS + 2), np.int64)
    order = np.empty((2, largest), np.int64)
    sums = np.empty((2, 3, largest + 1))
    for k in range(n_objects):
        first, last = start[k], start[k + 1]
        n = last - first
        for c in range(channels):
            mean = 0.0
            for p in range(first, last):
                mean += values[c, p]
            mean /= n
            base = np.rint(mean * scale)
            for p in range(first, last):
                level = np.rint(values[c, p] * scale)
                on_grid = level / scale == values[c, p]
                centred[c, p - first] = (level if on_grid else values[c, p] * scale) - base
                own[c, p - first] = _last_reached(values[c, p], 1.0, 0.0, scale)
        for j in range(pairs.shape[0]):
            a, b = values[pairs[j, 0]], values[pairs[j, 1]]
            slope, offset, exists = _regression(a, b, first, last)
            if not exists:
                continue
            for i in range(n):
                reached = _last_reached(b[first + i], slope, offset, scale)
                if slope > 0.0:
                    span[0, i] = -1
                    span[1, i] = min(own[pairs[j, 0], i], reached)
                else:
                    span[0, i] = reached
                    span[1, i] = own[pairs[j, 0], i]
            found = _threshold(
                n, centred[pairs[j, 0]], centred[pairs[j, 1]], span, scale, begin, order, sums, whole
            )
            if found < 0 and not whole:
                continue
            out[k, j, 0] = (max(found, 1) - 1) / scale
            out[k, j, 1] = slope * out[k, j, 0] + offset
    return out


@kernel
def _shares(
    values: NDArray[np.float64],
    start: NDArray[np.int64],
    pairs: NDArray[np.int64],
    cuts: NDArray[np.float64],
    shared: bool,  # noqa: FBT001 - as above
) -> NDArray[np.float64]:
    """Return (n, pairs, 2), NaN where undefined; ``cuts`` has a row per object, or one that all share.

    If they share it, CellProfiler's rule: 0 for all objects when none has a pixel above both thresholds.
    """
    lit = np.zeros(pairs.shape[0], np.int64)
    out = np.full((start.size - 1, pairs.shape[0], 2), np.nan)
    for k in range(start.size - 1):
        first, last = start[k], start[k + 1]
        row = 0 if shared else k
        for j in range(pairs.shape[0]):
            a, b = values[pairs[j, 0]], values[pairs[j, 1]]
            cut_a, cut_b = cuts[row, j, 0], cuts[row, j, 1]
            if np.isnan(cut_a) or np.isnan(cut_b):
                continue
            total_a = 0.0
            total_b = 0.0
            both_a = 0.0
            both_b = 0.0
            for p in range(first, last):
                x, y = a[p], b[p]
                if x >= cut_a:
                    total_a += x
                if y >= cut_b:
                    total_b += y
                if x > cut_a and y > cut_b:
                    lit[j] += 1
                    both_a += x
                    both_b += y
            if total_a > 0.0:
                out[k, j, 0] = both_a / total_a
            if total_b > 0.0:
                out[k, j, 1] = both_b / total_b
    for j in range(pairs.shape[0]):
        if shared and lit[j] == 0:
            out[:, j] = 0.0
    return out


def object_thresholds(
    objects: Objects, values: NDArray[np.float64], pairs: Sequence[tuple[int, int]], scale: int = 65535
) -> NDArray[np.float64]:
    """Return the thresholds of each object's own pixels, as cp-measure finds them.

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
    (n, pairs, 2) float64: thresholds of a and of b; NaN where no regression or no threshold exists.

    Raises
    ------
    FeaturizerError
        When a pixel lies outside [0, 1] or ``scale`` outside 2 ... 2³² - 1.
    """
    _check(values, scale)
    return _cuts(values, objects.start, _array(pairs), scale, False)  # noqa: FBT003


def image_thresholds(
    pixels: NDArray[np.float64], pairs: Sequence[tuple[int, int]], scale: int = 65535
) -> NDArray[np.float64]:
    """Return the thresholds of whole images (C, H, W), background included, as CellProfiler finds them.

    Arguments, errors and the result (pairs, 2) are those of :func:`object_thresholds`, but a search that
    finds nothing ends at the threshold 0; NaN where no regression exists.
    """
    _check(pixels, scale)
    flat = np.ascontiguousarray(pixels.reshape(len(pixels), -1))
    bounds = np.array([0, flat.shape[1]])
    cuts: NDArray[np.float64] = _cuts(flat, bounds, _array(pairs), scale, True)[0]  # noqa: FBT003
    return cuts


def measure_costes(
    objects: Objects,
    values: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    thresholds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Measure Costes' coefficients.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels in [0, 1].
    pairs
        Ordered pairs of channels (a, b).
    thresholds
        (n, pairs, 2) from :func:`object_thresholds` or (pairs, 2) from :func:`image_thresholds`.

    Returns
    -------
    (n, pairs, 2) float64: C(a, b) and C(b, a). NaN without thresholds, or without signal above them.
    """
    shared = thresholds.ndim == 2
    cuts = thresholds[None] if shared else thresholds
    return _shares(values, objects.start, _array(pairs), cuts, shared)


def _array(pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def _check(values: NDArray[np.float64], scale: int) -> None:
    if values.size and (values.min() < 0 or values.max() > 1):
        msg = (
            f"Costes' thresholds need pixels in [0, 1], and these go from {values.min():g} to "
            f"{values.max():g}; clip the images or divide them by their largest grey level"
        )
        raise FeaturizerError(msg)
    if not 2 <= scale < 2**32:
        msg = f"Costes' thresholds need a scale from 2 to 2^32 - 1 grey levels, not {scale}"
        raise FeaturizerError(msg)
