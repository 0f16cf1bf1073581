"""What several featurizers ask of a field: its name in a sentence, its grey levels, its foreground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray


def where(field: Field) -> str:
    """Return the field's name for an error message, e.g. ``"plate P1 well A01 site 2"``."""
    parts = [
        f"{word} {field.metadata[key]}"
        for word, key in (
            ("plate", "Metadata_Plate"),
            ("well", "Metadata_Well"),
            ("site", "Metadata_Site"),
        )
        if key in field.metadata
    ]
    return " ".join(parts) or "a field without Metadata_Plate, Metadata_Well and Metadata_Site"


def grey_levels(field: Field, name: str) -> NDArray[np.float64]:
    """Return the pixels as float64 in [0, 1]: g / (2^b − 1) for integer images of b significant bits.

    Float images are taken as they are. ``name`` is the featurizer that asks, for the message.

    Returns
    -------
    (C, H, W) float64.

    Raises
    ------
    FeaturizerError
        When the field has no pixels, another number of planes than channels, no pixel at all, or a NaN
        or infinite one.
    """
    if field.pixels is None:
        msg = f"{where(field)}: featurizer {name!r} needs pixels and was given none"
        raise FeaturizerError(msg)
    if field.pixels.ndim != 3 or len(field.pixels) != len(field.channels) or not field.pixels.size:
        msg = (
            f"{where(field)}: pixels of shape {field.pixels.shape} do not hold one plane (height, width) for "
            f"each of the {len(field.channels)} channels; check the images of this site"
        )
        raise FeaturizerError(msg)
    levels = field.pixels.astype(np.float64)
    if np.issubdtype(field.pixels.dtype, np.integer):
        levels /= 2.0**field.bit_depth - 1.0
        return levels
    finite = np.isfinite(levels).all(axis=(1, 2))
    if not finite.all():
        channel = field.channels[int(np.argmin(finite))].name
        msg = (
            f"{where(field)}: channel {channel} holds NaN or infinite pixels; repair or leave out this image"
        )
        raise FeaturizerError(msg)
    return levels


def lattice(planes: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Return (C, P) of planes (C, H, W): so many pixels on a square lattice, all of them for 0.

    The middles of equal cells, some twice where the plane has fewer rows or columns than the lattice.
    ``pixels`` is a square number, see :func:`featurizers.training.settings.check_lattice`.
    """
    if pixels:
        edge = math.isqrt(pixels)
        rows, columns = (((np.arange(edge) + 0.5) * n / edge).astype(np.int64) for n in planes.shape[1:])
        planes = planes[:, rows[:, None], columns[None, :]]
    return planes.reshape(len(planes), -1)


def foreground(field: Field, name: str) -> NDArray[np.bool_]:
    """Return the pixels that belong to any object of any mask: (H, W) bool.

    Raises
    ------
    FeaturizerError
        When the field carries no mask at all (a mask without an object is fine).
    """
    if not field.masks:
        msg = (
            f"{where(field)}: featurizer {name!r} needs object masks and was given none; "
            "choose a segmentation for this dataset"
        )
        raise FeaturizerError(msg)
    masks = list(field.masks.values())
    union = masks[0] > 0
    for mask in masks[1:]:
        union = union | (mask > 0)
    return union
