"""Granularity: how much of an object's intensity goes when ever larger bright grains are removed.

The image is subsampled, its background (an opening with a disk on a yet smaller image) subtracted, and
eroded L times with a 3 x 3 cross. After each erosion n the image is reconstructed by dilation under the
original; with m(n) the object's mean of the n-th reconstruction, resampled to full size, and m(0) its mean in
the image itself, granularity(n) = 100 (m(n - 1) - m(n)) / m(0).

Nothing before the means depends on objects, so a channel's reconstructions serve all compartments. They come
from one max-tree of the channel (:mod:`~featurizers.cellprofiler.maxtree`), two linear sweeps for each n
instead of a sort. Resampling and averaging are one fixed linear map per object, a short list of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.maxtree import max_tree, reconstruct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects


@dataclass(frozen=True, slots=True)
class GranularityConfig:
    """Settings of CellProfiler's MeasureGranularity.

    Parameters
    ----------
    subsample
        Factor (0, 1] by which the image is reduced first; 0.5 in JUMP, 0.25 in CellProfiler's defaults.
    background_subsample
        Further factor (0, 1] for the background; 0.5 in JUMP, 0.25 in CellProfiler's defaults.
    radius
        Radius in (twice subsampled) pixels of the disk that opens the background.
    length
        Number of erosions, the length of the spectrum.
    """

    subsample: float = 0.5
    background_subsample: float = 0.5
    radius: int = 10
    length: int = 16

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if (
            not (0 < self.subsample <= 1 and 0 < self.background_subsample <= 1)
            or self.radius < 1
            or self.length < 1
        ):
            msg = f"granularity needs factors in (0, 1], a radius and a length of at least 1, not {self}"
            raise FeaturizerError(msg)


@kernel
def _bilinear(
    image: NDArray[np.float64], rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sample ``image`` at the grid rows x cols; 0 outside, as scipy.ndimage.map_coordinates(order=1)."""
    height, width = image.shape
    out = np.zeros((rows.size, cols.size))
    for i in range(rows.size):
        if rows[i] > height - 1:
            continue
        r = int(rows[i])
        fr = rows[i] - r
        below = min(r + 1, height - 1)
        for j in range(cols.size):
            if cols[j] > width - 1:
                continue
            c = int(cols[j])
            fc = cols[j] - c
            right = min(c + 1, width - 1)
            upper = image[r, c] * (1.0 - fc) + image[r, right] * fc
            lower = image[below, c] * (1.0 - fc) + image[below, right] * fc
            out[i, j] = upper * (1.0 - fr) + lower * fr
    return out


def _disk_minimum(image: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Erode with a disk, ignoring what lies beyond the border.

    A disk is a stack of row segments, and the minimum over a segment of length L is the smaller of two
    overlapping minima over 2^⌊log2 L⌋ pixels, which doubling gives for the whole image at once.
    """
    height, width = image.shape
    powers = [np.pad(image, radius, constant_values=np.inf)]
    while 2 ** len(powers) <= 2 * radius + 1:
        last, half = powers[-1], 2 ** (len(powers) - 1)
        powers.append(np.minimum(last[:, :-half], last[:, half:]))
    out = image.copy()
    for dy in range(-radius, radius + 1):
        reach = isqrt(radius * radius - dy * dy)
        level = (2 * reach + 1).bit_length() - 1
        rows = powers[level][radius + dy : radius + dy + height]
        left, right = radius - reach, radius + reach + 1 - 2**level
        np.minimum(out, rows[:, left : left + width], out=out)
        np.minimum(out, rows[:, right : right + width], out=out)
    return out


def _without_background(image: NDArray[np.float64], config: GranularityConfig) -> NDArray[np.float64]:
    """Subsample, subtract the opened background, cut at zero."""
    shape = np.array(image.shape)
    if config.subsample < 1:
        shape = (shape * config.subsample).astype(int)
        image = _bilinear(image, *(np.arange(n) / config.subsample for n in shape))
    back = image
    if config.background_subsample < 1:
        # The reduced shape stays a fraction: it sets the number of samples here and the spacing below.
        reduced = shape * config.background_subsample
        back = _bilinear(image, *(np.arange(np.ceil(n)) / config.background_subsample for n in reduced))
    opened = -_disk_minimum(-_disk_minimum(back, config.radius), config.radius)
    if config.background_subsample < 1:
        spacing = (reduced - 1) / (shape - 1)
        opened = _bilinear(opened, *(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)))
    return np.maximum(image - opened, 0.0)


@kernel
def _upsampling_weights(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    row_at: NDArray[np.float64],
    col_at: NDArray[np.float64],
    height: int,
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Express each object's sum over a (height, width) image resampled to full size as Σ weight x pixel.

    Returns the (n + 1,) starts of the objects' lists, the flat indices and the weights.
    """
    n = start.size - 1
    room = 0
    widest = 1
    for k in range(n):
        cells = (int(row_at[box[k, 2] - 1]) - int(row_at[box[k, 0]]) + 2) * (
            int(col_at[box[k, 3] - 1]) - int(col_at[box[k, 1]]) + 2
        )
        room += cells
        widest = max(widest, cells)
    begin = np.zeros(n + 1, np.int64)
    index = np.empty(room, np.int64)
    weight = np.empty(room)
    patch = np.zeros(widest)
    used = 0
    for k in range(n):
        top, left = int(row_at[box[k, 0]]), int(col_at[box[k, 1]])
        h, w = int(row_at[box[k, 2] - 1]) - top + 2, int(col_at[box[k, 3] - 1]) - left + 2
        for p in range(start[k], start[k + 1]):
            y, x = row_at[rows[p]], col_at[cols[p]]
            if y > height - 1 or x > width - 1:
                continue  # rounding put it beyond the last sample, where the resampled image is 0
            r, c = int(y), int(x)
            fr, fc = y - r, x - c
            place = (r - top) * w + c - left
            patch[place] += (1.0 - fr) * (1.0 - fc)
            patch[place + 1] += (1.0 - fr) * fc
            patch[place + w] += fr * (1.0 - fc)
            patch[place + w + 1] += fr * fc
        for i in range(h):
            for j in range(w):
                value = patch[i * w + j]
                patch[i * w + j] = 0.0
                if value != 0.0 and top + i < height and left + j < width:
                    index[used] = (top + i) * width + left + j
                    weight[used] = value
                    used += 1
        begin[k + 1] = used
    return begin, index[:used], weight[:used]


@kernel
def _weighted_sums(
    begin: NDArray[np.int64],
    index: NDArray[np.int64],
    weight: NDArray[np.float64],
    image: NDArray[np.float64],
) -> NDArray[np.float64]:
    out = np.zeros(begin.size - 1)
    for k in range(begin.size - 1):
        for i in range(begin[k], begin[k + 1]):
            out[k] += weight[i] * image[index[i]]
    return out


def _erode(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Erode with a 3 x 3 cross, ignoring what lies beyond the border."""
    out = image.copy()
    np.minimum(out[1:], image[:-1], out=out[1:])
    np.minimum(out[:-1], image[1:], out=out[:-1])
    np.minimum(out[:, 1:], image[:, :-1], out=out[:, 1:])
    np.minimum(out[:, :-1], image[:, 1:], out=out[:, :-1])
    return out


def measure_granularity(
    compartments: Sequence[Objects], pixels: NDArray[np.float64], config: GranularityConfig | None = None
) -> list[NDArray[np.float64]]:
    """Measure the granular spectrum of all compartments of a field.

    Arguments and result are those of :func:`measure_field_granularity`, whose second part is left out.
    """
    if not any(len(objects) for objects in compartments):
        length = (config or GranularityConfig()).length
        return [np.full((len(objects), len(pixels), length), np.nan) for objects in compartments]
    return measure_field_granularity(compartments, pixels, config)[0]


def measure_field_granularity(
    compartments: Sequence[Objects], pixels: NDArray[np.float64], config: GranularityConfig | None = None
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Measure the granular spectrum of all compartments of a field, and of the whole image.

    Parameters
    ----------
    compartments
        Objects of the same field.
    pixels
        (C, H, W).
    config
        Settings; JUMP's by default.

    Returns
    -------
    For each compartment (n, C, length) float64, in percent of the object's mean; for the image (C, length),
    in percent of its mean without background. NaN throughout when subsampling leaves fewer than 2 rows or
    columns.
    """
    config = config or GranularityConfig()
    channels, height, width = pixels.shape
    out = [np.full((len(objects), channels, config.length), np.nan) for objects in compartments]
    low = [int(height * config.subsample), int(width * config.subsample)]
    whole = np.full((channels, config.length), np.nan)
    if min(low) < 2:
        return out, whole
    row_at = np.arange(height) * ((low[0] - 1) / (height - 1))
    col_at = np.arange(width) * ((low[1] - 1) / (width - 1))
    weights = [
        _upsampling_weights(o.rows, o.cols, o.start, o.box, row_at, col_at, low[0], low[1])
        for o in compartments
    ]
    for c, image in enumerate(pixels):
        flat = image.ravel()
        means = []
        for objects in compartments:
            value = flat[objects.rows.astype(np.intp) * width + objects.cols]
            means.append(np.add.reduceat(value, objects.start[:-1]) / objects.area if len(objects) else value)
        initial = [np.maximum(mean, np.finfo(float).eps) for mean in means]
        lifted = _without_background(image, config)
        order = np.argsort(-lifted, axis=None)
        parent = max_tree(order, *lifted.shape)
        level = lifted.ravel()[order[: np.count_nonzero(lifted)]]
        scratch, rebuilt = np.empty(level.size), np.zeros(order.size)
        eroded = lifted
        left = lifted.mean()
        all_of_it = max(left, np.finfo(float).eps)
        for n in range(config.length):
            eroded = _erode(eroded)
            reconstruct(eroded.ravel(), level, order, parent, scratch, rebuilt)
            remains = rebuilt.mean()
            whole[c, n] = (left - remains) * 100 / all_of_it
            left = remains
            for j, objects in enumerate(compartments):
                mean = _weighted_sums(*weights[j], rebuilt) / objects.area
                out[j][:, c, n] = (means[j] - mean) * 100 / initial[j]
                means[j] = mean
    return out, whole
