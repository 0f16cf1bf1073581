"""The shared base of all measurements: the pixels of every object, found once per compartment.

A label image becomes lists of pixels sorted by label (a counting sort, so row-major within each object),
their bounding boxes and a label image without gaps. Every family then walks these lists instead of the
image, and a channel is gathered once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of one compartment in one field; n objects with P pixels in all.

    Parameters
    ----------
    shape
        (H, W) of the field.
    ids
        (n,) int64, the labels of the mask in ascending order; gaps are allowed.
    labels
        (H, W) int32 label image without gaps: 0 is background, k + 1 is object ``ids[k]``.
    start
        (n + 1,) int64, object k owns the pixels ``start[k]:start[k + 1]`` of ``rows`` and ``cols``.
    rows, cols
        (P,) int32 coordinates, object by object and row-major within each.
    box
        (n, 4) int64 bounding boxes: first row, first column, last row + 1, last column + 1.
    """

    shape: tuple[int, int]
    ids: NDArray[np.int64]
    labels: NDArray[np.int32]
    start: NDArray[np.int64]
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    box: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def area(self) -> NDArray[np.int64]:
        """(n,) number of pixels of each object."""
        return np.diff(self.start)


@kernel
def _relabel(mask: NDArray[np.int32], rank: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    for r in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            out[r, c] = rank[mask[r, c]]


@kernel
def _sort_pixels(
    labels: NDArray[np.int32],
    start: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    box: NDArray[np.int64],
) -> None:
    n = start.size - 1
    fill = start[:n].copy()
    for k in range(n):
        box[k, 0] = labels.shape[0]
        box[k, 1] = labels.shape[1]
    for r in range(labels.shape[0]):
        for c in range(labels.shape[1]):
            k = labels[r, c] - 1
            if k < 0:
                continue
            p = fill[k]
            fill[k] = p + 1
            rows[p] = r
            cols[p] = c
            box[k, 0] = min(box[k, 0], r)
            box[k, 1] = min(box[k, 1], c)
            box[k, 2] = max(box[k, 2], r + 1)
            box[k, 3] = max(box[k, 3], c + 1)


def find_objects(mask: NDArray[np.integer]) -> Objects:
    """Sort the pixels of a label image by label.

    Parameters
    ----------
    mask
        (H, W) integer labels, 0 is background.

    Raises
    ------
    FeaturizerError
        When the mask is not a two-dimensional image of non-negative integers.
    """
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        msg = f"a mask must be a (height, width) image of integers, not {mask.dtype} of shape {mask.shape}"
        raise FeaturizerError(msg)
    if mask.size and mask.min() < 0:
        msg = f"a mask must not hold negative labels, and this one holds {mask.min()}; background is 0"
        raise FeaturizerError(msg)
    highest = int(mask.max(initial=0))
    if highest < max(4 * mask.size, 65536):
        count = np.bincount(mask.ravel(), minlength=1)
        count[0] = 0
        ids = np.flatnonzero(count)
        rank = np.zeros(count.size, np.int32)
        rank[ids] = np.arange(1, len(ids) + 1)
        labels = np.empty(mask.shape, np.int32)
        _relabel(np.ascontiguousarray(mask, np.int32), rank, labels)
        area = count[ids]
    else:  # labels so sparse that a table of them would not fit
        found, inverse, tally = np.unique(mask, return_inverse=True, return_counts=True)
        background = int(found[0] == 0)
        ids, area = found[background:], tally[background:]
        labels = (inverse.reshape(mask.shape) + (1 - background)).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(area)]).astype(np.int64)
    rows, cols = np.empty(start[-1], np.int32), np.empty(start[-1], np.int32)
    box = np.zeros((len(ids), 4), np.int64)
    _sort_pixels(labels, start, rows, cols, box)
    return Objects(mask.shape, ids.astype(np.int64), labels, start, rows, cols, box)


def gather(pixels: NDArray[np.float64], objects: Objects) -> NDArray[np.float64]:
    """Return the (C, P) values of ``pixels`` (C, H, W) at the objects' pixels."""
    flat = objects.rows.astype(np.intp) * objects.shape[1] + objects.cols
    return np.ascontiguousarray(pixels.reshape(len(pixels), -1)[:, flat])
