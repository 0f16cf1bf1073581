"""Colocalisation of two channels a and b inside an object.

Correlation is Pearson's; Slope is that of b on a, cov(a, b) / var(a). The others look at pixels above a
threshold, T percent of the object's maximum in each channel; with Σ' over pixels where both channels reach
it, and Σa over those where a does:

Overlap = Σ'ab / √(Σ'a² Σ'b²), K(a, b) = Σ'ab / Σ'a², Manders(a, b) = Σ'a / Σa, and RWC(a, b) = Σ'a w / Σa
with w = (R - abs(rank a - rank b)) / R, ranks among distinct intensities and R the larger number of them
(Singan et al. 2011 [1]_). CellProfiler ranks the pixels of all objects in the field together, cp-measure
those of each object. Where both never reach the threshold together, the four are 0.

References
----------
.. [1] Singan VR, Jones TR, Curran KM, Simpson JC (2011). Dual channel rank-based intensity weighting for
   quantitative co-localization of microscopy images. BMC Bioinformatics 12, 407.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects


@dataclass(frozen=True, slots=True, eq=False)
class Colocalization:
    """Measures of n objects and ordered pairs (a, b) of C channels, each (n, C, C) float64, NaN where a = b.

    Correlation and Overlap are symmetric. A channel that is constant in the object has no correlation and
    no slope on it (NaN); a black channel has no Manders, K, Overlap or RWC (NaN).
    """

    correlation: NDArray[np.float64]
    slope: NDArray[np.float64]
    overlap: NDArray[np.float64]
    k: NDArray[np.float64]
    manders: NDArray[np.float64]
    rwc: NDArray[np.float64]


@kernel
def _measure(
    values: NDArray[np.float64],
    rank: NDArray[np.int32],
    levels: NDArray[np.int64],
    start: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.float64]:
    """Return (6, n, C, C) in the order of the fields of :class:`Colocalization`.

    ``levels`` (C,) are the distinct intensities of each channel; 0 counts those of each object.
    """
    channels, n_objects = values.shape[0], start.size - 1
    out = np.full((6, n_objects, channels, channels), np.nan)
    mean = np.empty(channels)
    square = np.empty(channels)
    cut = np.empty(channels)
    above = np.empty(channels)
    ranks = np.empty(channels, np.int64)
    constant = np.empty(channels, np.bool_)
    for k in range(n_objects):
        first, last = start[k], start[k + 1]
        for c in range(channels):
            total = 0.0
            low = values[c, first]
            high = values[c, first]
            top = 0
            for p in range(first, last):
                v = values[c, p]
                total += v
                low = min(low, v)
                high = max(high, v)
                top = max(top, rank[c, p])
            mean[c] = total / (last - first)
            constant[c] = low == high
            ranks[c] = levels[c] if levels[c] > 0 else top + 1
            cut[c] = threshold * high
            spread = 0.0
            bright = 0.0
            for p in range(first, last):
                v = values[c, p]
                spread += (v - mean[c]) ** 2
                if v >= cut[c]:
                    bright += v
            square[c] = spread
            above[c] = bright
        for a in range(channels):
            for b in range(a + 1, channels):
                product = 0.0
                both = 0
                sum_a = 0.0
                sum_b = 0.0
                sum_aa = 0.0
                sum_bb = 0.0
                sum_ab = 0.0
                off_a = 0.0
                off_b = 0.0
                for p in range(first, last):
                    x, y = values[a, p], values[b, p]
                    product += (x - mean[a]) * (y - mean[b])
                    if x >= cut[a] and y >= cut[b]:
                        distance = float(abs(rank[a, p] - rank[b, p]))
                        both += 1
                        sum_a += x
                        sum_b += y
                        sum_aa += x * x
                        sum_bb += y * y
                        sum_ab += x * y
                        off_a += x * distance
                        off_b += y * distance
                if not constant[a] and not constant[b]:
                    r = product / np.sqrt(square[a] * square[b])
                    out[0, k, a, b] = min(max(r, -1.0), 1.0)
                    out[0, k, b, a] = out[0, k, a, b]
                    out[1, k, a, b] = product / square[a]
                    out[1, k, b, a] = product / square[b]
                elif not constant[a]:
                    out[1, k, a, b] = 0.0
                elif not constant[b]:
                    out[1, k, b, a] = 0.0
                if both == 0:
                    out[2:, k, a, b] = 0.0
                    out[2:, k, b, a] = 0.0
                    continue
                most = float(max(ranks[a], ranks[b]))
                out[2, k, a, b] = sum_ab / np.sqrt(sum_aa * sum_bb)
                out[2, k, b, a] = out[2, k, a, b]
                out[3, k, a, b] = sum_ab / sum_aa
                out[3, k, b, a] = sum_ab / sum_bb
                out[4, k, a, b] = sum_a / above[a]
                out[4, k, b, a] = sum_b / above[b]
                out[5, k, a, b] = (sum_a - off_a / most) / above[a]
                out[5, k, b, a] = (sum_b - off_b / most) / above[b]
    return out


def measure_colocalization(
    objects: Objects,
    values: NDArray[np.float64],
    rank: NDArray[np.int32],
    threshold: float = 15.0,
    levels: NDArray[np.int64] | None = None,
) -> Colocalization:
    """Measure all pairs of channels.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels.
    rank
        (C, P) from :func:`~featurizers.cellprofiler.ranks.sort_by_intensity` (ranks in the object) or
        :func:`~featurizers.cellprofiler.ranks.rank_together` (ranks in the field, as CellProfiler's).
    threshold
        T, in percent of the object's maximum.
    levels
        (C,) number of ranks, with ``rank_together``.
    """
    if not 0 <= threshold < 100:
        msg = f"the colocalization threshold is a percentage from 0 to below 100, not {threshold}"
        raise FeaturizerError(msg)
    if levels is None:
        levels = np.zeros(len(values), np.int64)
    return Colocalization(*_measure(values, rank, levels, objects.start, threshold / 100))
