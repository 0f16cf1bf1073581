"""Neighbours of objects: how many, how much of the outline they touch, how far and in which directions.

Two objects are neighbours within distance d when a disk of radius d around a pixel of one holds a pixel of
the other. ``adjacent`` is d = 1; ``expand`` first gives every background pixel to its nearest object, then
takes d = 1. PercentTouching is the share of an object's outline with another object inside a disk of radius
d + 1/2. Only outline pixels can be nearest to another object, so one pass over them with the disk's offsets
serves.

Distances are between centroids. With ``expand`` this follows CellProfiler, where all objects are expanded and
centroids are those of the objects as they were; cp-measure 0.3 looks for neighbours among the objects that
were not expanded, and measures distances from expanded centroids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.objects import find_objects
from featurizers.cellprofiler.vocabulary import NEIGHBORS as FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

Method = Literal["adjacent", "within", "expand"]


def _disk(radius: float) -> NDArray[np.int64]:
    """Return the (m, 2) offsets of length up to ``radius``, without the centre."""
    reach = int(radius)
    offsets = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1), np.bool_)) - reach
    squared = (offsets**2).sum(axis=1)
    return np.ascontiguousarray(offsets[(squared > 0) & (squared <= radius * radius)])


@kernel
def _contacts(
    labels: NDArray[np.int32],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    near: NDArray[np.int64],
    touching: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (n, 2) numbers of neighbours and percentages of the outline that is touched."""
    n = start.size - 1
    height, width = labels.shape
    out = np.zeros((n, 2))
    met = np.full(n + 1, -1, np.int64)
    for k in range(n):
        outline = 0
        touched = 0
        for p in range(start[k], start[k + 1]):
            r, c = rows[p], cols[p]
            rim = r == 0 or c == 0 or r == height - 1 or c == width - 1
            if not rim:
                for y in range(r - 1, r + 2):
                    for x in range(c - 1, c + 2):
                        if labels[y, x] != k + 1:
                            rim = True
            if not rim:
                continue
            outline += 1
            for i in range(near.shape[0]):
                y, x = r + near[i, 0], c + near[i, 1]
                if 0 <= y < height and 0 <= x < width:
                    other = labels[y, x]
                    if other != 0 and other != k + 1 and met[other] != k:
                        met[other] = k
                        out[k, 0] += 1
            for i in range(touching.shape[0]):
                y, x = r + touching[i, 0], c + touching[i, 1]
                if 0 <= y < height and 0 <= x < width:
                    other = labels[y, x]
                    if other != 0 and other != k + 1:
                        touched += 1
                        break
        out[k, 1] = touched * 100.0 / outline
    return out


@kernel
def _closest(centre: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (n, 2) the two objects with the nearest centroids, -1 where there is none."""
    n = centre.shape[0]
    out = np.full((n, 2), -1, np.int64)
    for k in range(n):
        first = np.inf
        second = np.inf
        for j in range(n):
            if j == k:
                continue
            dy, dx = centre[j, 0] - centre[k, 0], centre[j, 1] - centre[k, 1]
            d = dy * dy + dx * dx
            if d < first:
                second = first
                out[k, 1] = out[k, 0]
                first = d
                out[k, 0] = j
            elif d < second:
                second = d
                out[k, 1] = j
    return out


def _expand(objects: Objects) -> Objects:
    """Give every background pixel to the nearest object; SciPy's transform decides between equals."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(objects.labels == 0, return_distances=False, return_indices=True)
    return find_objects(objects.labels[tuple(nearest)])


def measure_neighbors(objects: Objects, method: Method = "expand", distance: int = 5) -> NDArray[np.float64]:
    """Measure the neighbours of each object among the objects of its own compartment.

    Parameters
    ----------
    objects
        n objects.
    method
        ``adjacent``, ``within`` (``distance`` pixels) or ``expand``.
    distance
        In pixels; for ``within`` only.

    Returns
    -------
    (n, 5) float64 in the order of ``FEATURES``; distances in pixels, the angle between the directions to the
    two closest objects in degrees. All are 0 for a single object, and the second distance and the angle also
    where there are two; the angle is NaN where centroids coincide.
    """
    if method not in ("adjacent", "within", "expand") or distance < 1:
        msg = (
            "neighbours need method 'adjacent', 'within' or 'expand' and a distance of 1 pixel or more, "
            f"not {method!r} and {distance}"
        )
        raise FeaturizerError(msg)
    out = np.zeros((len(objects), len(FEATURES)))
    if len(objects) < 2:
        return out
    regions = _expand(objects) if method == "expand" else objects
    radius = distance if method == "within" else 1
    disks = _disk(radius), _disk(radius + 0.5)
    out[:, :2] = _contacts(regions.labels, regions.rows, regions.cols, regions.start, *disks)
    coordinates = np.stack([objects.rows, objects.cols], axis=1).astype(np.float64)
    centre = np.add.reduceat(coordinates, objects.start[:-1]) / objects.area[:, None]
    closest = _closest(centre)
    to_first = centre[closest[:, 0]] - centre
    out[:, 2] = np.hypot(*to_first.T)
    if len(objects) > 2:
        to_second = centre[closest[:, 1]] - centre
        out[:, 3] = np.hypot(*to_second.T)
        with np.errstate(invalid="ignore"):
            cosine = (to_first * to_second).sum(axis=1) / (out[:, 2] * out[:, 3])
        out[:, 4] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return out
