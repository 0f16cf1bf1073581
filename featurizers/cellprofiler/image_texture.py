"""Texture of the whole image: the features of :mod:`~featurizers.cellprofiler.texture` over all its pixels.

Unlike in objects, grey level 0 is a level like any other. There is one matrix per channel, scale and
direction, counted densely for the levels 0 ... 255 and reduced by the same sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.texture import DIRECTIONS, LEVELS, grey_levels, n_log2, n_log2_n, reduce_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@kernel
def _count(grey: NDArray[np.uint8], down: int, right: int) -> NDArray[np.int64]:
    """Return n(i, j), how often level j lies at (down, right) from level i; (256, 256)."""
    count = np.zeros((LEVELS, LEVELS), np.int64)
    height, width = grey.shape
    for r in range(height - down):
        for c in range(max(0, -right), width - max(0, right)):
            count[grey[r, c], grey[r + down, c + right]] += 1
    return count


@kernel
def _features(count: NDArray[np.int64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (13,) features of the symmetric matrix n(i, j) + n(j, i), NaN without a pair."""
    out = np.full(13, np.nan)
    sums = np.zeros(2 * LEVELS, np.int64)
    differences = np.zeros(LEVELS, np.int64)
    marginal = np.zeros(LEVELS + 1, np.int64)
    pairs = 0
    squares = 0
    entry_weight = 0.0
    low = LEVELS
    high = 0
    for i in range(LEVELS):
        for j in range(i, LEVELS):
            c = count[i, j] if i == j else count[i, j] + count[j, i]
            if c == 0:
                continue
            entry = 2 * c if i == j else c
            copies = 1 if i == j else 2
            pairs += c
            squares += copies * entry * entry
            entry_weight += copies * n_log2(entry, table)
            sums[i + j] += c
            differences[j - i] += c
            marginal[i + 1] += c
            marginal[j + 1] += c
            low = min(low, i)
            high = max(high, j)
    if pairs > 0:
        reduce_pairs(out, pairs, squares, entry_weight, sums, differences, marginal, LEVELS, low, high, table)
    return out


def measure_image_texture(
    pixels: NDArray[np.float64], scales: Sequence[int] = (3, 5, 10), levels: int = LEVELS
) -> NDArray[np.float64]:
    """Measure Haralick's features of whole images.

    Parameters
    ----------
    pixels
        (C, H, W) in [-1, 1].
    scales
        Distances in pixels.
    levels
        Number of grey levels, 2 to 256.

    Returns
    -------
    (C, scales, 4, 13) float64 in the order of ``DIRECTIONS`` and ``vocabulary.HARALICK``; NaN for a direction
    in which the image has no pair of pixels at that distance.

    Raises
    ------
    FeaturizerError
        When a scale is below 1 or ``levels`` outside 2 ... 256.
    """
    if not scales or min(scales) < 1 or not 2 <= levels <= LEVELS:
        msg = f"texture needs scales of 1 pixel or more and 2 to 256 grey levels, not {scales} and {levels}"
        raise FeaturizerError(msg)
    out = np.empty((len(pixels), len(scales), len(DIRECTIONS), 13))
    for c, image in enumerate(pixels):
        grey = grey_levels(image, levels)
        for s, scale in enumerate(scales):
            for d, (down, right) in enumerate(DIRECTIONS):
                out[c, s, d] = _features(_count(grey, scale * down, scale * right), n_log2_n())
    return out
