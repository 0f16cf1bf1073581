"""Flat field: what the microscope adds to every field of a plate is estimated and divided out.

The estimate of Image2Omics (Mehrizi et al. 2023, arXiv 2306.09391, preprocessing), per plate and channel:

    F = G_σ * P₁₀,ₖ( (1/N) Σₙ Iₙ ),    I' = I / F,

with the mean over all N fields of the plate, the 10th percentile over a window of k = 250 px, and a
Gaussian of σ = 50 px. It sees every field of the plate, test wells too, and no label: it is exempt from the
rule that nothing fitted sees test rows, and the preprocessing key shows it.

A low percentile over a window lies below the window's centre by about 0.4 k |∇F| wherever the illumination
falls, and a mirrored border takes the slope away that it should follow. Both are the paper's; ``rounds`` and
``border`` are ours and remove them:

    F₁ = A(M),    Fᵣ₊₁ = Fᵣ · A(M / Fᵣ),

with M the mean image and A the two filters above: what is left after one division is nearly flat, so the
percentile no longer errs (twicing, Tukey 1977, for a product instead of a sum).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 4095
"""Grey levels that a mean image is cut into for the percentile filter."""

LARGEST_SHARE = 0.125
"""A window larger than this share of a field's shorter edge no longer follows the illumination."""


@dataclass(frozen=True, slots=True)
class FlatField:
    """Settings of ``illumination = "image2omics"``.

    Parameters
    ----------
    window_px
        Edge k of the window of the percentile filter, pixels.
    sigma_px
        Standard deviation of the Gaussian, pixels.
    percentile
        Rank within the window, 0 to 100.
    small
        Fields whose shorter edge is below ``window_px`` / 0.125: ``scale`` multiplies window and sigma by
        0.125 · edge / ``window_px``; ``refuse`` fails and says which window would fit.
    rescale
        ``none`` as in the paper: I / F, of the order of 1. ``mean``: I · mean(F) / F as a share of full
        scale, cut to [0, 1], so that plates and channels keep their brightness.
    border
        What the filters see beyond the edge of the field: ``mirror`` repeats the pixels before it (the paper
        does not say; the default of most filters), ``continue`` goes on with their slope, 2 I(edge) - I.
    rounds
        How often the estimate is made, each time of what the last one left; 1 as in the paper.
    """

    window_px: int = 250
    sigma_px: float = 50.0
    percentile: float = 10.0
    small: Literal["scale", "refuse"] = "scale"
    rescale: Literal["none", "mean"] = "none"
    border: Literal["mirror", "continue"] = "mirror"
    rounds: int = 1


METHODS: dict[str, type[FlatField]] = {"image2omics": FlatField}


def mean_image(fields: Iterable[NDArray[Any]]) -> tuple[NDArray[np.float64], int]:
    """Return the mean over fields, one in memory at a time, and their number.

    Parameters
    ----------
    fields
        (C, H, W) each. Those of another shape than most are left out; of equally many the first shape counts.

    Raises
    ------
    DatasetError
        When there is no field.
    """
    totals: dict[tuple[int, ...], NDArray[np.float64]] = {}
    counts: dict[tuple[int, ...], int] = {}
    for pixels in fields:
        if pixels.shape not in totals:
            totals[pixels.shape], counts[pixels.shape] = np.zeros(pixels.shape), 0
        totals[pixels.shape] += pixels
        counts[pixels.shape] += 1
    if not counts:
        raise DatasetError("a flat field needs at least one field that can be read")
    usual = max(counts, key=lambda shape: counts[shape])
    return totals[usual] / counts[usual], counts[usual]


def flat_field(mean: NDArray[np.float64], config: FlatField) -> NDArray[np.float32]:
    """Return F of each channel.

    Parameters
    ----------
    mean
        (C, H, W) mean image of the plate.
    config
        Settings.

    Returns
    -------
    (C, H, W) float32, positive.

    Raises
    ------
    DatasetError
        When the field is too small and ``small`` is ``refuse``, or F is not positive everywhere.
    """
    window, sigma = windows(mean.shape[1:], config)
    return np.stack([_one(plane, window, sigma, config) for plane in mean])


def windows(shape: tuple[int, ...], config: FlatField) -> tuple[int, float]:
    """Return window and sigma in pixels for fields of this shape (H, W)."""
    limit = LARGEST_SHARE * min(shape)
    if config.window_px <= limit:
        return config.window_px, config.sigma_px
    if config.small == "refuse":
        raise DatasetError(
            f"fields of {shape[0]} x {shape[1]} pixels are too small for window_px = {config.window_px}: set "
            f"window_px to {int(limit)} or less, or small = 'scale'"
        )
    scale = limit / config.window_px
    return max(1, round(config.window_px * scale)), config.sigma_px * scale


def correct(
    pixels: NDArray[Any], flat: NDArray[np.float32], rescale: Literal["none", "mean"], full_scale: float
) -> NDArray[np.float32]:
    """Divide the flat field out of a field.

    Parameters
    ----------
    pixels
        (C, H, W) grey levels.
    flat
        (C, H, W) of :func:`flat_field`.
    rescale
        See :class:`FlatField`.
    full_scale
        Largest grey level of the camera, 2^b - 1; 1 for float images.

    Raises
    ------
    DatasetError
        When the field is of another size than the plate's flat field.
    """
    if pixels.shape != flat.shape:
        raise DatasetError(
            f"the field has {pixels.shape[1]} x {pixels.shape[2]} pixels and its plate's flat field "
            f"{flat.shape[1]} x {flat.shape[2]}; all fields of a plate must have one size"
        )
    divided = pixels / flat
    if rescale == "mean":
        scale = flat.mean(axis=(1, 2), keepdims=True, dtype=np.float64) / full_scale
        divided = np.clip(divided * scale, 0.0, 1.0)
    return np.asarray(divided, np.float32)


def _one(plane: NDArray[np.float64], window: int, sigma: float, config: FlatField) -> NDArray[np.float32]:
    flat = np.ones_like(plane)
    for _ in range(config.rounds):
        flat = flat * _smoothed(plane / flat, window, sigma, config)
        if not flat.min() > 0:
            remedy = "leave the channel out, or set illumination = 'none'"
            if config.border == "continue":
                remedy = "set border = 'mirror', " + remedy
            raise DatasetError(
                "a channel's flat field is not positive everywhere (the channel is black or holds negative "
                f"grey levels); {remedy}"
            )
    return np.asarray(flat, np.float32)


def _smoothed(
    plane: NDArray[np.float64], window: int, sigma: float, config: FlatField
) -> NDArray[np.float64]:
    """Return the percentile over the window, smoothed by the Gaussian: A of the module's text."""
    from scipy import ndimage

    if config.border == "mirror":
        low = percentile_filter(plane, window, config.percentile)
        return np.asarray(ndimage.gaussian_filter(low, sigma))
    # As far as the two filters reach, SciPy's Gaussian being cut at 4 σ.
    near, far = window // 2, int(4 * sigma + 0.5)
    low = percentile_filter(_continued(plane, near), window, config.percentile)
    low = low[near : near + plane.shape[0], near : near + plane.shape[1]]
    smooth = ndimage.gaussian_filter(_continued(low, far), sigma)
    return np.asarray(smooth[far : far + plane.shape[0], far : far + plane.shape[1]])


def _continued(plane: NDArray[np.float64], margin: int) -> NDArray[np.float64]:
    """Return the plane with a margin in which its slope at the edge goes on."""
    return np.pad(plane, margin, mode="reflect", reflect_type="odd")


def percentile_filter(plane: NDArray[np.float64], window: int, percentile: float) -> NDArray[np.float64]:
    """Return the percentile over a square window, edges mirrored.

    The plane is cut into :data:`LEVELS` grey levels, over which a histogram slides with the window: O(window)
    per pixel instead of O(window²). The levels span what the result can be: fewer outliers than the rank
    within one window (hot pixels, debris) cannot be it, and would make the levels coarse.
    """
    from skimage.filters import rank

    below = above = 0
    if window <= min(plane.shape):  # a window then sees a pixel and its mirror images at most four times
        below = max(int(window**2 * percentile / 100) - 2, 0) // 4
        above = max(int(window**2 * (1 - percentile / 100)) - 2, 0) // 4
    ends = (below, plane.size - 1 - above)
    low, high = (float(v) for v in np.partition(plane, ends, axis=None)[list(ends)])
    if low == high:
        return np.full_like(plane, low)
    plane = np.clip(plane, low, high)
    step = (high - low) / LEVELS
    levels = np.round((plane - low) / step).astype(np.uint16)
    # An even window reaches one pixel further up and left, as in scipy.ndimage.
    before, after = window // 2, window - window // 2 - 1
    padded = np.pad(levels, (before, after), mode="symmetric")
    with warnings.catch_warnings():
        # skimage warns that many grey levels are slow; they are what makes the estimate exact.
        warnings.filterwarnings("ignore", "Bad rank filter performance", UserWarning)
        ranked = rank.percentile(padded, np.ones((window, window), np.uint8), p0=percentile / 100)
    inner = ranked[before : before + plane.shape[0], before : before + plane.shape[1]]
    return np.asarray(low + step * inner, np.float64)
