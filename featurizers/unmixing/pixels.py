"""From a field to the intensities that are unmixed, and their scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.fields import foreground, grey_levels, lattice, where
from featurizers.training.schedules import stream
from featurizers.unmixing.config import NAME, UnmixingConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.base import Field

COUNTS = 65535.0
"""Grey levels of a 16-bit image, whose logarithm is taken whatever the image's own depth."""

SCALED = 1 << 22
"""Pixels that median and spread are taken of; of more, one drawn from each of so many equal parts."""


def sampled(field: Field, config: UnmixingConfig) -> NDArray[np.float32]:
    """Return (P, C) intensities of a field's blocks, not yet scaled.

    Raises
    ------
    FeaturizerError
        When the field has no pixels or is smaller than a block, pixels are not finite, or a pixel below 0
        has no logarithm.
    """
    levels = grey_levels(field, NAME)
    inside = foreground(field, NAME) if config.region == "objects" else None
    if min(levels.shape[1:]) < config.binning:
        msg = (
            f"{where(field)}: an image of {levels.shape[1]} × {levels.shape[2]} pixels holds no block of "
            f"binning={config.binning}; lower it"
        )
        raise FeaturizerError(msg)
    levels = binned(levels, config.binning)
    if inside is not None:
        covered = binned(inside[None].astype(np.float64), config.binning)[0] >= 0.5  # half a block or more
        inside = covered if covered.any() else None
    chosen = lattice(levels, config.pixels) if inside is None else _evenly(levels[:, inside], config.pixels)
    if config.intensity == "linear":
        return chosen.T.astype(np.float32)
    if chosen.min() < 0:
        msg = (
            f"{where(field)}: pixels below 0 have no logarithm; set intensity=linear, or give {NAME} images "
            "that are not standardised"
        )
        raise FeaturizerError(msg)
    return np.log1p(COUNTS * chosen.T).astype(np.float32)


def binned(planes: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    """Return the means of blocks of ``edge`` × ``edge``; rows and columns that fill none are left out."""
    count, height, width = planes.shape
    rows, columns = height // edge, width // edge
    blocks = planes[:, : rows * edge, : columns * edge].reshape(count, rows, edge, columns, edge)
    means: NDArray[np.float64] = blocks.mean(axis=(2, 4))
    return means


def scale(intensities: NDArray[np.float32], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return median and spread (C,) of intensities (n, P, C), in float64 before they are rounded.

    The spread is 1.4826 times the median absolute deviation, the standard deviation where that is 0 (half of
    the pixels are equal), and infinite where all are: such a channel says nothing and becomes 0.
    """
    flat = intensities.reshape(-1, intensities.shape[-1])
    if len(flat) > SCALED:
        # each part gives one pixel wherever in it, as a fixed stride may see a single column of the lattice
        rng = np.random.default_rng(stream(seed, "pixels that scale", 0).initial_seed())
        places = (np.arange(SCALED) + rng.random(SCALED)) * (len(flat) / SCALED)
        flat = flat[np.minimum(places.astype(np.int64), len(flat) - 1)]
    flat = flat.astype(np.float64)
    median = np.median(flat, axis=0)
    spread = 1.4826 * np.median(np.abs(flat - median), axis=0)
    std = flat.std(axis=0)
    spread = np.where(spread > 1e-6 * std, spread, std)
    spread = np.where(spread > 1e-6 * np.abs(median), spread, np.inf)
    return median.astype(np.float32), spread.astype(np.float32)


def _evenly(levels: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Return so many of (C, n)."""
    return levels[:, ((np.arange(pixels) + 0.5) * levels.shape[1] / pixels).astype(np.int64)]
