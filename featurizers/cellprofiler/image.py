"""Intensity of the whole image, as CellProfiler's MeasureImageIntensity.

Quartiles are the elements at ⌊n/4⌋ and ⌊3n/4⌋ of the sorted pixels; the median and the median absolute
deviation are the usual ones; PercentMaximal is the share of pixels at the image's maximum, in percent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure_image(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (C, 10) for pixels (C, H, W), in the order of ``vocabulary.IMAGE``."""
    out = np.empty((len(pixels), 10))
    for c, image in enumerate(pixels):
        flat = image.ravel()
        n = flat.size
        places = sorted({n // 4, (n - 1) // 2, n // 2, 3 * n // 4})
        ordered = np.partition(flat, places)
        median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
        high = flat.max()
        out[c] = (
            flat.sum(),
            flat.mean(),
            median,
            flat.std(),
            np.median(np.abs(flat - median)),
            flat.min(),
            high,
            ordered[n // 4],
            ordered[3 * n // 4],
            100.0 * np.count_nonzero(flat == high) / n,
        )
    return out
