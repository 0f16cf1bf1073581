"""Intensity: sums, quantiles, the edge and the centre of mass, per object and channel.

Quantiles follow CellProfiler: the q-quantile of n sorted values lies at position n q, linearly interpolated
and clamped to the last value (``"cellprofiler"``), or at (n - 1) q, NumPy's rule (``"linear"``). The median
absolute deviation takes the same rule and is found by walking outwards from the median in the sorted values.
An edge pixel has a horizontal or vertical neighbour in the image that is not of its object. Standard
deviations are of the population. Positions are 0-based image coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.vocabulary import INTENSITY as FEATURES
from featurizers.cellprofiler.vocabulary import LOCATION as LOCATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

Quantiles = Literal["cellprofiler", "linear"]


@kernel
def _edges(labels: NDArray[np.int32], rows: NDArray[np.int32], cols: NDArray[np.int32]) -> NDArray[np.bool_]:
    height, width = labels.shape
    edge = np.zeros(rows.size, np.bool_)
    for p in range(rows.size):
        r, c = rows[p], cols[p]
        own = labels[r, c]
        edge[p] = (
            (r > 0 and labels[r - 1, c] != own)
            or (r < height - 1 and labels[r + 1, c] != own)
            or (c > 0 and labels[r, c - 1] != own)
            or (c < width - 1 and labels[r, c + 1] != own)
        )
    return edge


@kernel
def _position(n: int, q: float, shorter: int) -> tuple[int, int, float]:
    """Return the two neighbours of a quantile and the share of the upper one."""
    place = (n - shorter) * q
    low = min(int(place), n - 1)
    return low, min(low + 1, n - 1), place - low


@kernel
def _quantile(
    value: NDArray[np.float64], order: NDArray[np.int32], first: int, n: int, q: float, shorter: int
) -> float:
    low, high, share = _position(n, q, shorter)
    return float(value[order[first + low]] * (1.0 - share) + value[order[first + high]] * share)


@kernel
def _deviation(
    value: NDArray[np.float64], order: NDArray[np.int32], first: int, n: int, centre: float, shorter: int
) -> float:
    """Return the 0.5-quantile of abs(value - centre) by merging the two sides of the sorted values."""
    low, high, share = _position(n, 0.5, shorter)
    right = first
    step = n
    while step > 0:  # the first value that is not below the centre
        half = step // 2
        if value[order[right + half]] < centre:
            right += half + 1
            step -= half + 1
        else:
            step = half
    left = right - 1
    at_low = 0.0
    nearest = 0.0
    for i in range(high + 1):
        below = centre - value[order[left]] if left >= first else np.inf
        above = value[order[right]] - centre if right < first + n else np.inf
        if below < above:
            nearest = below
            left -= 1
        else:
            nearest = above
            right += 1
        if i == low:
            at_low = nearest
    return at_low * (1.0 - share) + nearest * share


@kernel
def _measure(
    value: NDArray[np.float64],
    order: NDArray[np.int32],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    edge: NDArray[np.bool_],
    shorter: int,
) -> NDArray[np.float64]:
    out = np.zeros((start.size - 1, 19))
    for k in range(start.size - 1):
        first, last = start[k], start[k + 1]
        n = last - first
        total = 0.0
        rim = 0.0
        on_rim = 0
        row_sum = 0.0
        col_sum = 0.0
        row_mass = 0.0
        col_mass = 0.0
        brightest = first
        rim_low = np.inf
        rim_high = -np.inf
        for p in range(first, last):
            v = value[p]
            total += v
            row_sum += rows[p]
            col_sum += cols[p]
            row_mass += v * rows[p]
            col_mass += v * cols[p]
            if v > value[brightest]:
                brightest = p
            if edge[p]:
                rim += v
                on_rim += 1
                rim_low = min(rim_low, v)
                rim_high = max(rim_high, v)
        flat = value[order[first]] == value[order[last - 1]]
        mean = value[first] if flat else total / n  # equal values deviate by 0, not by a rounding
        rim_mean = rim_low if rim_low == rim_high else rim / on_rim
        spread = 0.0
        rim_spread = 0.0
        for p in range(first, last):
            spread += (value[p] - mean) ** 2
            if edge[p]:
                rim_spread += (value[p] - rim_mean) ** 2
        x = col_mass / total if total != 0.0 else np.nan
        y = row_mass / total if total != 0.0 else np.nan
        median = _quantile(value, order, first, n, 0.5, shorter)
        out[k, 0] = total
        out[k, 1] = mean
        out[k, 2] = np.sqrt(spread / n)
        out[k, 3] = value[order[first]]
        out[k, 4] = value[order[last - 1]]
        if on_rim > 0:  # an object that fills the image has no edge: zeros, as CellProfiler has it
            out[k, 5] = rim
            out[k, 6] = rim_mean
            out[k, 7] = np.sqrt(rim_spread / on_rim)
            out[k, 8] = rim_low
            out[k, 9] = rim_high
        out[k, 10] = np.sqrt((x - col_sum / n) ** 2 + (y - row_sum / n) ** 2)
        out[k, 11] = _quantile(value, order, first, n, 0.25, shorter)
        out[k, 12] = median
        out[k, 13] = _deviation(value, order, first, n, median, shorter)
        out[k, 14] = _quantile(value, order, first, n, 0.75, shorter)
        out[k, 15] = x
        out[k, 16] = y
        out[k, 17] = cols[brightest]
        out[k, 18] = rows[brightest]
    return out


def measure_intensity(
    objects: Objects,
    values: NDArray[np.float64],
    order: NDArray[np.int32],
    quantiles: Quantiles = "cellprofiler",
) -> NDArray[np.float64]:
    """Measure intensities.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels.
    order
        (C, P) from :func:`~featurizers.cellprofiler.ranks.sort_by_intensity`.
    quantiles
        Rule for quartiles, median and MAD.

    Returns
    -------
    (n, C, 19) float64 in the order of ``FEATURES`` and ``LOCATIONS``. Without intensity (a sum of 0) the
    centre of mass and the mass displacement are NaN. Of equal maxima the first in reading order is located.
    """
    edge = _edges(objects.labels, objects.rows, objects.cols)
    shorter = 1 if quantiles == "linear" else 0
    out = np.empty((len(objects), len(values), len(FEATURES) + len(LOCATIONS)))
    for c, channel in enumerate(values):
        out[:, c] = _measure(channel, order[c], objects.rows, objects.cols, objects.start, edge, shorter)
    return out
