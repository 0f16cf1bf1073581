"""Exact Euclidean distance of every object pixel to the outside of its object.

One object is transformed at a time inside its bounding box, so touching objects are each other's outside and
nothing depends on other objects. The transform is the linear-time one of Meijster, Roerdink and Hesselink
(2000) [1]_ on squared integers: first the distance to the outside along each column, then along each row the
lower envelope of the parabolas (x - i)² + g(i)².

References
----------
.. [1] Meijster A, Roerdink JBTM, Hesselink WH (2000). A general algorithm for computing distance transforms
   in linear time. Mathematical Morphology and its Applications to Image and Signal Processing, 331-340.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

Border = Literal["outside", "nothing"]


@kernel
def _envelope(
    g: NDArray[np.int64],
    width: int,
    out: NDArray[np.int64],
    apex: NDArray[np.int64],
    since: NDArray[np.int64],
) -> None:
    """Write min over i of (x - i)² + g(i)² to ``out`` for x < width."""
    q = 0
    apex[0] = 0
    since[0] = 0
    for u in range(1, width):
        while q >= 0:
            t, i = since[q], apex[q]
            if (t - i) * (t - i) + g[i] * g[i] > (t - u) * (t - u) + g[u] * g[u]:
                q -= 1
            else:
                break
        if q < 0:
            q = 0
            apex[0] = u
        else:
            i = apex[q]
            first = 1 + (u * u - i * i + g[u] * g[u] - g[i] * g[i]) // (2 * (u - i))
            if first < width:
                q += 1
                apex[q] = u
                since[q] = first
    for u in range(width - 1, -1, -1):
        i = apex[q]
        out[u] = (u - i) * (u - i) + g[i] * g[i]
        if u == since[q]:
            q -= 1


@kernel
def _squared(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    height: int,
    width: int,
    chosen: NDArray[np.bool_],
    *,
    bounded: bool,
    out: NDArray[np.int64],
) -> None:
    """Fill ``out`` (P,) for the ``chosen`` objects; ``bounded``: the image ends in outside pixels."""
    room = 1
    widest = 1
    for k in range(start.size - 1):
        room = max(room, (box[k, 2] - box[k, 0] + 2) * (box[k, 3] - box[k, 1] + 2))
        widest = max(widest, box[k, 3] - box[k, 1] + 2)
    away = np.empty(room, np.int64)  # the box with a margin of one pixel; distance along the column
    line = np.empty(widest, np.int64)
    apex = np.empty(widest, np.int64)
    since = np.empty(widest, np.int64)
    for k in range(start.size - 1):
        if not chosen[k]:
            continue
        top, left = box[k, 0] - 1, box[k, 1] - 1
        h, w = box[k, 2] + 1 - top, box[k, 3] + 1 - left
        far = h + w  # farther than any pixel of the box
        away[: h * w] = 0
        for p in range(start[k], start[k + 1]):
            away[(rows[p] - top) * w + cols[p] - left] = far
        if not bounded:  # beyond the image there is no pixel, hence nothing to be near to
            if top < 0:
                away[:w] = far
            if top + h > height:
                away[(h - 1) * w : h * w] = far
            for r in range(h):
                if left < 0:
                    away[r * w] = far
                if left + w > width:
                    away[r * w + w - 1] = far
        for r in range(1, h):
            for c in range(w):
                away[r * w + c] = min(away[r * w + c], away[(r - 1) * w + c] + 1)
        for r in range(h - 2, -1, -1):
            for c in range(w):
                away[r * w + c] = min(away[r * w + c], away[(r + 1) * w + c] + 1)
        p = start[k]
        while p < start[k + 1]:
            r = rows[p]
            _envelope(away[(r - top) * w : (r - top + 1) * w], w, line, apex, since)
            while p < start[k + 1] and rows[p] == r:
                out[p] = line[cols[p] - left]
                p += 1


def squared_distances(objects: Objects) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each pixel's squared distance to the nearest pixel outside its object, under two border rules.

    Returns
    -------
    bounded : (P,) int64
        Pixels beyond the image border count as outside (CellProfiler's size and shape).
    open_ended : (P,) int64
        Only pixels of the image count (CellProfiler's radial distribution); an object that fills the whole
        image is as far from the outside as its box is high plus wide, everywhere.
    """
    height, width = objects.shape
    out = np.empty(objects.rows.size, np.int64)
    pixels = (objects.rows, objects.cols, objects.start, objects.box, height, width)
    _squared(*pixels, np.ones(len(objects), np.bool_), bounded=True, out=out)
    box = objects.box
    at_border = (box[:, 0] == 0) | (box[:, 1] == 0) | (box[:, 2] == height) | (box[:, 3] == width)
    if not at_border.any():
        return out, out
    open_ended = out.copy()
    _squared(*pixels, at_border, bounded=False, out=open_ended)
    return out, open_ended
