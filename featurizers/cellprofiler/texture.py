"""Texture: 13 Haralick features of grey-level co-occurrence, per object, channel, scale and direction.

For a shift of ``scale`` pixels in one of four directions, n(i, j) counts the pixel pairs of an object with
grey levels i and j, both orders, so the matrix is symmetric with sum T = 2N for N pairs. Pairs with a pixel
at level 0 are left out, as CellProfiler leaves them out. The features follow Haralick et al. (1973) [1]_ in
the form that CellProfiler and mahotas give them.

Nearly all features are functions of four one-dimensional integer histograms: of i + j, of abs(i - j), of i,
and of the entries of the matrix themselves. The matrix is therefore never scanned as a dense 256 x 256 array:
pairs are counted on the ranks of the levels that occur, and either the few ranks or the list of pairs is
walked once. With integer sums S = Σ(i + j), S2 = Σ(i + j)² and D2 = Σ(i - j)² over the N pairs, the variance
is (N(S2 + D2) - S²) / 4N² and the covariance (N(S2 - D2) - S²) / 4N², without cancellation; entropies are
log2 N - Σ n log2 n / N from a table; and for a symmetric matrix HXY1 = HXY2 = 2 HX.

References
----------
.. [1] Haralick RM, Shanmugam K, Dinstein I (1973). Textural features for image classification. IEEE
   Transactions on Systems, Man, and Cybernetics 3(6), 610-621.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""(rows, columns) of one step: 0, 135, 90 and 45 degrees, numbered 00 to 03 in feature names."""

LEVELS = 256
_EXACT_PAIRS = 4_000_000
"""N² times the largest (i + j)² + (i - j)² stays below 2⁶³ up to this many pairs."""


@lru_cache(maxsize=1)
def n_log2_n() -> NDArray[np.float64]:
    """Return n log2 n for n = 0 ... 65535, with 0 at n = 0."""
    n = np.arange(65536, dtype=np.float64)
    table: NDArray[np.float64] = n * np.log2(np.maximum(n, 1.0))
    table.flags.writeable = False
    return table


@kernel
def n_log2(n: int, table: NDArray[np.float64]) -> float:
    """Return n log2 n."""
    return float(table[n] if n < table.size else n * np.log2(n))


@kernel
def reduce_pairs(
    out: NDArray[np.float64],
    pairs: int,
    squares: int,
    entry_weight: float,
    sums: NDArray[np.int64],
    differences: NDArray[np.int64],
    marginal: NDArray[np.int64],
    ranks: int,
    low: int,
    high: int,
    table: NDArray[np.float64],
) -> None:
    """Turn the histograms of one direction into ``out`` (13,) and clear them.

    ``squares`` = Σ n(i, j)², ``entry_weight`` = Σ n log2 n over the symmetric matrix; levels lie in
    [low, high]; ``marginal`` is indexed by rank 1 ... ``ranks``.
    """
    total = 2.0 * pairs
    s1 = 0
    s2 = 0
    d2 = 0
    idm = 0.0
    sum_weight = 0.0
    bins = 0
    for s in range(2 * low, 2 * high + 1):
        n = sums[s]
        if n != 0:
            s1 += n * s
            s2 += n * s * s
            sum_weight += n_log2(n, table)
            bins += 1
            sums[s] = 0
    difference_weight = 0.0
    mean = 1.0 / (high + 1)  # of the shares of all differences 0 ... high that the crop could have
    spread = 0.0
    filled = 0
    for d in range(high - low + 1):
        n = differences[d]
        if n != 0:
            d2 += n * d * d
            idm += n / (1.0 + d * d)
            difference_weight += n_log2(n, table)
            share = n / pairs - mean
            spread += share * share
            filled += 1
            differences[d] = 0
    spread += (high + 1 - filled) * mean * mean
    marginal_weight = 0.0
    occurring = 0
    for k in range(1, ranks + 1):
        n = marginal[k]
        if n != 0:
            marginal_weight += n_log2(n, table)
            occurring += 1
            marginal[k] = 0

    if pairs <= _EXACT_PAIRS:
        variance = (pairs * (s2 + d2) - s1 * s1) / (total * total)
        covariance = (pairs * (s2 - d2) - s1 * s1) / (total * total)
        sum_variance = (pairs * s2 - s1 * s1) / (float(pairs) * pairs)
    else:
        half = s1 / total
        variance = (s2 + d2) / (2.0 * total) - half * half
        covariance = (s2 - d2) / (2.0 * total) - half * half
        sum_variance = s2 / float(pairs) - 4.0 * half * half
    log_pairs = np.log2(float(pairs))
    entropy = log_pairs + 1.0 - entry_weight / total
    marginal_entropy = log_pairs + 1.0 - marginal_weight / total
    sum_entropy = log_pairs - sum_weight / pairs
    difference_entropy = log_pairs - difference_weight / pairs
    if occurring == 1:  # what is certain has entropy 0, whatever the logarithms round to
        entropy = 0.0
        marginal_entropy = 0.0
    if bins == 1:
        sum_entropy = 0.0
    if filled == 1:
        difference_entropy = 0.0
    out[0] = squares / (total * total)
    out[1] = d2 / float(pairs)
    out[2] = covariance / variance if variance > 0.0 else 1.0
    out[3] = variance
    out[4] = idm / pairs
    out[5] = s1 / float(pairs)
    out[6] = sum_variance
    out[7] = sum_entropy
    out[8] = entropy
    out[9] = spread / (high + 1)
    out[10] = difference_entropy
    out[11] = (entropy - 2.0 * marginal_entropy) / marginal_entropy if marginal_entropy > 0.0 else 0.0
    out[12] = np.sqrt(max(1.0 - np.exp(-2.0 * (2.0 * marginal_entropy - entropy)), 0.0))


@kernel
def _haralick(
    grey: NDArray[np.uint8],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    scales: NDArray[np.int64],
    steps: NDArray[np.int64],
    table: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (n, scales, 4, 13) features of one channel's grey levels (P,), NaN where undefined."""
    n_objects = start.size - 1
    reach = scales.max()
    out = np.empty((n_objects, scales.size, steps.shape[0], 13))
    largest = 1
    room = 1
    for k in range(n_objects):
        largest = max(largest, start[k + 1] - start[k])
        room = max(room, (box[k, 2] - box[k, 0] + reach + 1) * (box[k, 3] - box[k, 1] + reach))
    crop = np.zeros(room, np.uint8)  # ranks of the levels, 0 outside; reach columns and rows of margin
    position = np.empty(largest, np.int64)
    rank = np.empty(largest, np.uint8)
    visited = np.empty(largest, np.int32)
    count = np.zeros(LEVELS * LEVELS, np.int32)
    sums = np.zeros(2 * LEVELS, np.int64)
    differences = np.zeros(LEVELS, np.int64)
    marginal = np.zeros(LEVELS, np.int64)
    present = np.zeros(LEVELS, np.bool_)
    rank_of = np.zeros(LEVELS, np.uint8)
    level_of = np.zeros(LEVELS, np.int64)

    for k in range(n_objects):
        first, last = start[k], start[k + 1]
        top, left = box[k, 0], box[k, 1]
        stride = box[k, 3] - left + reach  # the margin on the right also catches steps to the left
        present[:] = False
        for p in range(first, last):
            present[grey[p]] = True
        ranks = 0
        for g in range(1, LEVELS):
            if present[g]:
                ranks += 1
                rank_of[g] = ranks
                level_of[ranks] = g
        lit = 0
        for p in range(first, last):
            if grey[p] != 0:
                position[lit] = (rows[p] - top) * stride + cols[p] - left
                rank[lit] = rank_of[grey[p]]
                crop[position[lit]] = rank[lit]
                lit += 1
        low, high = level_of[1], level_of[max(ranks, 1)]
        bits = 0
        while ranks >> bits:
            bits += 1
        mask = (1 << bits) - 1
        for s in range(scales.size):
            for d in range(steps.shape[0]):
                offset = scales[s] * (steps[d, 0] * stride + steps[d, 1])
                squares = 0
                weight = 0.0
                pairs = 0
                if ranks * ranks <= 2 * lit:  # few levels: count by (rank, rank) and walk the triangle
                    width = ranks + 1
                    for p in range(lit):
                        b = crop[position[p] + offset]
                        if b != 0:
                            count[rank[p] * width + b] += 1
                            pairs += 1
                    for i in range(1, width):
                        for j in range(i, width):
                            if i == j:
                                c = int(count[i * width + i])
                                entry = 2 * c
                                copies = 1
                            else:
                                c = int(count[i * width + j]) + int(count[j * width + i])
                                count[j * width + i] = 0
                                entry = c
                                copies = 2
                            if c != 0:
                                count[i * width + j] = 0
                                squares += copies * entry * entry
                                weight += copies * n_log2(entry, table)
                                sums[level_of[i] + level_of[j]] += c
                                differences[level_of[j] - level_of[i]] += c
                                marginal[i] += c
                                marginal[j] += c
                else:  # many levels: count by (lower, higher) and walk the pairs that occurred
                    for p in range(lit):
                        b = crop[position[p] + offset]
                        if b != 0:
                            a = rank[p]
                            index = (min(a, b) << bits) | max(a, b)
                            count[index] += 1
                            visited[pairs] = index
                            pairs += 1
                    for v in range(pairs):
                        index = visited[v]
                        c = int(count[index])
                        if c == 0:
                            continue
                        count[index] = 0
                        i, j = index >> bits, index & mask
                        entry = 2 * c if i == j else c
                        copies = 1 if i == j else 2
                        squares += copies * entry * entry
                        weight += copies * n_log2(entry, table)
                        sums[level_of[i] + level_of[j]] += c
                        differences[level_of[j] - level_of[i]] += c
                        marginal[i] += c
                        marginal[j] += c
                if pairs == 0:
                    out[k, s, d, 0] = np.nan
                else:
                    reduce_pairs(
                        out[k, s, d],
                        pairs,
                        squares,
                        weight,
                        sums,
                        differences,
                        marginal,
                        ranks,
                        low,
                        high,
                        table,
                    )
            for d in range(steps.shape[0]):
                if np.isnan(out[k, s, d, 0]):  # one empty direction leaves the whole scale undefined
                    out[k, s] = np.nan
        for p in range(lit):
            crop[position[p]] = 0
    return out


def grey_levels(values: NDArray[np.float64], levels: int) -> NDArray[np.uint8]:
    """Quantise pixels in [-1, 1] to ``levels`` grey levels as CellProfiler does.

    First to 8 bits, round-half-even(255 x) with negative values at 0; then, for fewer than 256 levels, by
    truncating (levels - 1) / 255 times the result. Data of fewer bits than their scale therefore keep few
    levels: 12-bit images divided by 65535 leave at most 17.
    """
    eight_bit = np.clip(np.rint(values * 255.0), 0.0, 255.0).astype(np.uint8)
    if levels == LEVELS:
        return eight_bit
    table = (np.arange(LEVELS) / 255.0 * (levels - 1)).astype(np.uint8)
    return table[eight_bit]


def measure_texture(
    objects: Objects, values: NDArray[np.float64], scales: Sequence[int] = (3, 5, 10), levels: int = 256
) -> NDArray[np.float64]:
    """Measure Haralick's features.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels in [-1, 1].
    scales
        Distances in pixels.
    levels
        Number of grey levels, 2 to 256.

    Returns
    -------
    (n, C, scales, 4, 13) float64 in the order of ``DIRECTIONS`` and
    ``vocabulary.HARALICK``. A scale at which any
    direction has no pair of lit pixels is NaN throughout.

    Raises
    ------
    FeaturizerError
        When a scale is below 1 or ``levels`` outside 2 ... 256.
    """
    if not scales or min(scales) < 1 or not 2 <= levels <= LEVELS:
        msg = f"texture needs scales of 1 pixel or more and 2 to 256 grey levels, not {scales} and {levels}"
        raise FeaturizerError(msg)
    channels = [
        _haralick(
            grey_levels(channel, levels),
            objects.rows,
            objects.cols,
            objects.start,
            objects.box,
            np.asarray(scales, np.int64),
            np.asarray(DIRECTIONS, np.int64),
            n_log2_n(),
        )
        for channel in values
    ]
    return np.stack(channels, axis=1) if channels else np.zeros((len(objects), 0, len(scales), 4, 13))
