"""Intensity of the whole image, as CellProfiler's MeasureImageIntensity.

Median, quartiles (linear between neighbours, unlike those of objects) and median absolute deviation are the
usual ones; PercentMaximal is the share of pixels at the image's maximum, in percent.
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
        lower, median, upper = np.percentile(flat, [25, 50, 75])
        high = flat.max()
        out[c] = (
            flat.sum(),
            flat.mean(),
            median,
            flat.std(),
            np.median(np.abs(flat - median)),
            flat.min(),
            high,
            lower,
            upper,
            100.0 * np.count_nonzero(flat == high) / flat.size,
        )
    return out
