"""Perimeters, Euler number, filled and convex area of objects, from local configurations of pixels."""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

_OUTLINE = 5
_PERIMETER = np.zeros(64)
_PERIMETER[[5, 7, 15, 17, 25, 27]] = 1.0
_PERIMETER[[21, 33]] = sqrt(2)
_PERIMETER[[13, 23]] = (1 + sqrt(2)) / 2
_AXIAL, _DIAGONAL = pi / 4, pi / (4 * sqrt(2))
# Pattern number: 1 for the pixel, 2 above it, 4 left of it, 8 above and left.
_CROFTON = np.array([0, _AXIAL + _DIAGONAL, _DIAGONAL, 2 * _DIAGONAL, 0, _AXIAL + _DIAGONAL, 0, _DIAGONAL])
_CROFTON = np.append(_CROFTON, [_AXIAL, 2 * _AXIAL, _DIAGONAL, _DIAGONAL, _AXIAL, 2 * _AXIAL, 0, 0])
_EULER = np.array([0, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, -1, 0])


@kernel
def _outside_area(own: NDArray[np.uint8], h: int, w: int, stack: NDArray[np.int64]) -> int:
    """Count (and mark with 2) the pixels of an (h, w) box that 8-connect to its corner outside the object."""
    own[0] = 2
    stack[0] = 0
    used = 1
    found = 1
    while used > 0:
        used -= 1
        r, c = stack[used] // w, stack[used] % w
        for y in range(max(r - 1, 0), min(r + 2, h)):
            for x in range(max(c - 1, 0), min(c + 2, w)):
                if own[y * w + x] == 0:
                    own[y * w + x] = 2
                    stack[used] = y * w + x
                    used += 1
                    found += 1
    return found


@kernel
def _hull_side(profile: NDArray[np.int64], levels: int, side: int, chain: NDArray[np.int64]) -> None:
    """Replace ``profile`` (x per level, times ``side``) by its lower convex envelope, rounded inwards.

    ``profile`` is in half pixels; the result counts whole pixels: the smallest x with 2 x at or right of the
    envelope (side 1), or minus the largest x with 2 x at or left of it (side -1).
    """
    nothing = np.iinfo(np.int64).max
    size = 0
    for t in range(levels):
        x = profile[t]
        if x == nothing:
            continue
        x *= side
        profile[t] = x
        while size >= 2:
            a, b = chain[size - 2], chain[size - 1]
            if (profile[b] - profile[a]) * (t - b) >= (x - profile[b]) * (b - a):
                size -= 1
            else:
                break
        chain[size] = t
        size += 1
    for s in range(size - 1):
        a, b = chain[s], chain[s + 1]
        xa, xb = profile[a], profile[b]
        for t in range(a, b):
            profile[t] = -((-(xa * (b - a) + (xb - xa) * (t - a))) // (2 * (b - a)))
    last = chain[size - 1]
    profile[last] = -((-profile[last]) // 2)


@kernel
def _outlines(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    perimeter: NDArray[np.float64],
    crofton: NDArray[np.float64],
    euler: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (n, 5): perimeter, Crofton perimeter, Euler number, filled area, convex area."""
    n = start.size - 1
    out = np.zeros((n, _OUTLINE))
    room = 1
    highest = 1
    for k in range(n):
        room = max(room, (box[k, 2] - box[k, 0] + 2) * (box[k, 3] - box[k, 1] + 2))
        highest = max(highest, box[k, 2] - box[k, 0])
    own = np.zeros(room, np.uint8)
    border = np.zeros(room, np.uint8)
    stack = np.empty(room, np.int64)
    left_side = np.empty(2 * highest + 1, np.int64)
    right_side = np.empty(2 * highest + 1, np.int64)
    chain = np.empty(2 * highest + 1, np.int64)
    pattern = np.zeros(16, np.int64)
    nothing = np.iinfo(np.int64).max
    for k in range(n):
        first, last = start[k], start[k + 1]
        top, left = box[k, 0] - 1, box[k, 1] - 1
        h, w = box[k, 2] + 1 - top, box[k, 3] + 1 - left
        for p in range(first, last):
            own[(rows[p] - top) * w + cols[p] - left] = 1
        for p in range(first, last):
            i = (rows[p] - top) * w + cols[p] - left
            if own[i - 1] + own[i + 1] + own[i - w] + own[i + w] < 4:
                border[i] = 1
        length = 0.0
        for p in range(first, last):
            i = (rows[p] - top) * w + cols[p] - left
            if border[i] == 1:
                beside = border[i - 1] + border[i + 1] + border[i - w] + border[i + w]
                across = border[i - w - 1] + border[i - w + 1] + border[i + w - 1] + border[i + w + 1]
                length += perimeter[1 + 2 * beside + 10 * across]
        pattern[:] = 0
        for r in range(1, h):
            code = 0
            for c in range(1, w):
                code = (code & 3) << 2 | own[r * w + c] | own[(r - 1) * w + c] << 1
                pattern[code] += 1
        for code in range(16):
            out[k, 1] += crofton[code] * pattern[code]
            out[k, 2] += euler[code] * pattern[code]
        out[k, 0] = length
        out[k, 3] = h * w - _outside_area(own, h, w, stack)
        own[: h * w] = 0
        border[: h * w] = 0

        levels = (
            2 * (h - 2) + 1
        )  # half rows from the upper edge of the first pixel row to the last lower edge
        left_side[:levels] = nothing
        right_side[:levels] = nothing
        p = first
        while p < last:
            r = rows[p]
            leftmost = 2 * cols[p]
            while p < last and rows[p] == r:
                p += 1
            rightmost = 2 * cols[p - 1]
            t = 2 * (r - box[k, 0]) + 1
            left_side[t] = leftmost - 1
            right_side[t] = rightmost + 1
            for side in (t - 1, t + 1):
                if left_side[side] == nothing:
                    left_side[side] = leftmost
                    right_side[side] = rightmost
                else:
                    left_side[side] = min(left_side[side], leftmost)
                    right_side[side] = max(right_side[side], rightmost)
        _hull_side(left_side, levels, 1, chain)
        _hull_side(right_side, levels, -1, chain)
        for t in range(1, levels, 2):
            out[k, 4] += -right_side[t] - left_side[t] + 1
    return out


def measure_outlines(objects: Objects) -> NDArray[np.float64]:
    """Return (n, 5): perimeter, Crofton perimeter, Euler number, filled area and convex area of each object.

    The perimeter weighs border pixels by their border neighbours (Benkrid and Crookes); the Crofton perimeter
    (four directions) and the Euler number (8-connected) weigh the 16 patterns of 2 x 2 pixels. Holes are what
    does not 8-connect to the outside. The convex area counts the pixel centres inside or on the hull of the
    midpoints of the pixels' edges.
    """
    pixels = (objects.rows, objects.cols, objects.start, objects.box)
    return _outlines(*pixels, _PERIMETER, _CROFTON, _EULER)
