"""Radial distribution: where between its centre and its edge an object's intensity lies.

The centre is the pixel farthest from the edge (the first such in reading order). With d the length of the
shortest path from the centre inside the object (steps of 1 and √2) and e the distance to the edge, a pixel
belongs to ring ⌊B d / (d + e + 0.001)⌋ of B, and to one of eight wedges around the centre. Rings and wedges
depend on the mask only, so they are found once per compartment; a channel then is one histogram:

FracAtD = Σ ring / Σ object, MeanFrac = FracAtD / share of the object's pixels, RadialCV = standard deviation
over mean of the wedges' mean intensities in a ring. Pixels that no path reaches are left out. FracAtD and
MeanFrac of an object without intensity are 0/0 (NaN); RadialCV of a ring without pixels or without intensity
is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.vocabulary import RADIAL as FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

_WEDGES = 8
_UNREACHED = -1


@kernel
def _relax(place: int, stride: int, path: NDArray[np.float64], step: int) -> float:
    """Return the shortest path to ``place`` over itself and the four neighbours already swept."""
    diagonal = np.sqrt(2.0)
    above = min(path[place - step * (stride + 1)], path[place - step * (stride - 1)]) + diagonal
    best = min(min(path[place], path[place - step * stride] + 1.0), above)
    return float(min(best, path[place - step] + 1.0))  # last, as it waits for the pixel just done


@kernel
def _rings(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    squared: NDArray[np.int64],
    bins: int,
) -> NDArray[np.int16]:
    """Return ring x 8 + wedge per pixel, or -1 where the centre cannot be reached."""
    room = 1
    largest = 1
    for k in range(start.size - 1):
        room = max(room, (box[k, 2] - box[k, 0] + 2) * (box[k, 3] - box[k, 1] + 2))
        largest = max(largest, start[k + 1] - start[k])
    path = np.full(room, np.inf)
    place = np.empty(largest, np.int64)
    code = np.empty(rows.size, np.int16)
    for k in range(start.size - 1):
        first, n = start[k], start[k + 1] - start[k]
        top, left = box[k, 0] - 1, box[k, 1] - 1
        stride = box[k, 3] + 1 - left
        centre = first
        for p in range(n):
            place[p] = (rows[first + p] - top) * stride + cols[first + p] - left
            if squared[first + p] > squared[centre]:
                centre = first + p
        path[place[centre - first]] = 0.0
        changed = True
        while changed:
            for p in range(n - 1, -1, -1):
                path[place[p]] = _relax(place[p], stride, path, -1)
            changed = False  # once a downward sweep after an upward one changes nothing, nothing will
            for p in range(n):
                shorter = _relax(place[p], stride, path, 1)
                if shorter < path[place[p]]:
                    path[place[p]] = shorter
                    changed = True
        for p in range(n):
            d = path[place[p]]
            path[place[p]] = np.inf
            if d == np.inf:
                code[first + p] = _UNREACHED
                continue
            ring = min(int(d / (d + np.sqrt(float(squared[first + p])) + 0.001) * bins), bins)
            down = rows[first + p] - rows[centre]
            right = cols[first + p] - cols[centre]
            wedge = (1 if down > 0 else 0) + (2 if right > 0 else 0) + (4 if abs(down) > abs(right) else 0)
            code[first + p] = ring * _WEDGES + wedge
    return code


@kernel
def _histogram(
    code: NDArray[np.int16], start: NDArray[np.int64], weight: NDArray[np.float64], bins: int
) -> NDArray[np.float64]:
    """Return Σ weight per object, ring (one more than ``bins``) and wedge."""
    out = np.zeros((start.size - 1, (bins + 1) * _WEDGES))
    for k in range(start.size - 1):
        for p in range(start[k], start[k + 1]):
            if code[p] >= 0:
                out[k, code[p]] += weight[p]
    return out


def measure_radial_distribution(
    objects: Objects, values: NDArray[np.float64], squared: NDArray[np.int64], bins: int = 4
) -> NDArray[np.float64]:
    """Measure fractions and anisotropy of intensity in concentric rings.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels.
    squared
        (P,) squared distance to the outside, under the ``open_ended`` rule of
        :func:`~featurizers.cellprofiler.distance.squared_distances`.
    bins
        Number of rings.

    Returns
    -------
    (n, C, 3, bins) float64 in the order of ``FEATURES``, rings from the centre outwards.
    """
    if not 1 <= bins <= 100:
        msg = f"radial distribution needs 1 to 100 rings, not {bins}"
        raise FeaturizerError(msg)
    out = np.empty((len(objects), len(values), len(FEATURES), bins))
    code = _rings(objects.rows, objects.cols, objects.start, objects.box, squared, bins)
    shape = (len(objects), bins + 1, _WEDGES)
    pixels = _histogram(code, objects.start, np.ones(code.size), bins).reshape(shape)
    in_ring = pixels.sum(axis=2)
    share = in_ring / in_ring.sum(axis=1, keepdims=True)
    wedges = np.maximum((pixels > 0).sum(axis=2), 1)
    for c, channel in enumerate(values):
        intensity = _histogram(code, objects.start, channel, bins).reshape(shape)
        ring = intensity.sum(axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            fraction = ring / ring.sum(axis=1, keepdims=True)
            means = np.where(pixels > 0, intensity / pixels, 0.0)
            mean = means.sum(axis=2) / wedges
            deviation = np.where(pixels > 0, means - mean[:, :, None], 0.0)
            spread = np.sqrt((deviation**2).sum(axis=2) / wedges)
            variation = np.where(mean == 0, spread, spread / mean)
        out[:, c, 0] = fraction[:, :bins]
        out[:, c, 1] = (fraction / (share + np.finfo(float).eps))[:, :bins]
        out[:, c, 2] = variation[:, :bins]
    return out
