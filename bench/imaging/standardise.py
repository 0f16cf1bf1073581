"""Standardised pixels: x' = (x - μ) / σ per channel, over a field or over the plate's negative controls.

``field``
    μ and σ over the pixels of the field (self-standardisation; Kraus et al. 2024, without the learned part).
``negcon``
    μ and σ over all pixels of all fields in the plate's negative-control wells, as the published comparison
    of deep features with CellProfiler standardises the pixels of its networks. A fit on negative controls
    alone, so it is exempt from the rule that nothing fitted sees test rows.

A channel without any variation has no σ; it becomes 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ByField:
    """``standardise = "field"``; it has no settings."""


@dataclass(frozen=True, slots=True)
class ByControls:
    """``standardise = "negcon"``; it has no settings."""


METHODS: dict[str, type[ByField | ByControls]] = {"field": ByField, "negcon": ByControls}


def moments(fields: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Return mean and standard deviation per channel over all pixels of all fields, one in memory at a time.

    Counts, means and sums of squares of fields are joined pairwise (Chan, Golub & LeVeque 1983), so bright
    images lose no digits.

    Parameters
    ----------
    fields
        (C, H, W) each; sizes may differ.

    Returns
    -------
    (2, C) float64: means, then standard deviations with divisor n.

    Raises
    ------
    DatasetError
        When there is no field.
    """
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    for pixels in fields:
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        own = flat.mean(axis=1)
        spread = ((flat - own[:, None]) ** 2).sum(axis=1)
        if count == 0:
            mean, squares = np.zeros(len(flat)), np.zeros(len(flat))
        total = count + flat.shape[1]
        gap = own - mean
        mean = mean + gap * flat.shape[1] / total
        squares = squares + spread + gap**2 * count * flat.shape[1] / total
        count = total
    if count == 0:
        raise DatasetError("standardisation needs at least one field that can be read")
    return np.stack([mean, np.sqrt(squares / count)])


def standardise(pixels: NDArray[Any], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (x - μ) / σ.

    Parameters
    ----------
    pixels
        (C, H, W).
    by
        (2, C) of :func:`moments`.

    Returns
    -------
    (C, H, W) float32.
    """
    mean, std = by[0][:, None, None], by[1][:, None, None]
    scaled = (pixels - mean) / np.where(std > 0, std, 1.0)
    return np.where(std > 0, scaled, 0.0).astype(np.float32)
