"""Convex hulls of objects in integers, and the circle and the calipers around them.

A hull needs only the first and last pixel of every column, so it costs time linear in the box's width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects


@kernel
def _turn(a: NDArray[np.int64], b: NDArray[np.int64], row: int, col: int) -> int:
    """Return twice the signed area of the triangle a, b, (row, col)."""
    return int((b[1] - a[1]) * (row - a[0]) - (b[0] - a[0]) * (col - a[1]))


@kernel
def _hulls(
    rows: NDArray[np.int32], cols: NDArray[np.int32], start: NDArray[np.int64], box: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the vertices (V, 2) of all hulls and the (n + 1,) starts.

    A hull starts at the uppermost pixel of its leftmost column and runs along the top to the right.
    """
    n = start.size - 1
    room = 0
    widest = 1
    for k in range(n):
        width = box[k, 3] - box[k, 1]
        room += 2 * width
        widest = max(widest, width)
    vertex = np.empty((room + 1, 2), np.int64)
    begin = np.zeros(n + 1, np.int64)
    upper = np.empty(widest, np.int64)
    lower = np.empty(widest, np.int64)
    for k in range(n):
        left, width = box[k, 1], box[k, 3] - box[k, 1]
        upper[:width] = box[k, 2]
        lower[:width] = -1
        for p in range(start[k], start[k + 1]):
            c = cols[p] - left
            upper[c] = min(upper[c], rows[p])
            lower[c] = max(lower[c], rows[p])
        base = begin[k]
        size = 0
        for c in range(width):
            if lower[c] < 0:
                continue  # an object in several pieces may leave columns empty
            while (
                size >= 2 and _turn(vertex[base + size - 2], vertex[base + size - 1], upper[c], left + c) <= 0
            ):
                size -= 1
            vertex[base + size, 0] = upper[c]
            vertex[base + size, 1] = left + c
            size += 1
        floor = size  # the bottom chain must not eat into the top one
        for c in range(width - 1, -1, -1):
            if lower[c] < 0 or (c == width - 1 and lower[c] == upper[c]):
                continue
            while (
                size > floor
                and _turn(vertex[base + size - 2], vertex[base + size - 1], lower[c], left + c) <= 0
            ):
                size -= 1
            if c == 0 and lower[c] == upper[c]:
                break
            vertex[base + size, 0] = lower[c]
            vertex[base + size, 1] = left + c
            size += 1
        begin[k + 1] = base + size
    return vertex[: begin[n]], begin


def convex_hulls(objects: Objects) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the hulls of the pixel centres, without collinear points.

    Returns
    -------
    vertex : (V, 2) int64
        Rows and columns, clockwise on the screen from the uppermost pixel of the leftmost column.
    begin : (n + 1,) int64
        Object k owns ``vertex[begin[k]:begin[k + 1]]``.
    """
    return _hulls(objects.rows, objects.cols, objects.start, objects.box)


@kernel
def _corner(ay: float, ax: float, by: float, bx: float) -> float:
    """Return the angle between two vectors."""
    return float(np.arccos((ay * by + ax * bx) / np.sqrt((ay * ay + ax * ax) * (by * by + bx * bx))))


@kernel
def _circles(vertex: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.float64]:
    n = begin.size - 1
    out = np.zeros((n, 3))
    point = vertex.astype(np.float64)
    for k in range(n):
        first, last = begin[k], begin[k + 1]
        if last - first == 1:
            out[k, 0] = point[first, 0]
            out[k, 1] = point[first, 1]
            continue
        a, b = first, first + 1
        while True:
            ay, ax, by, bx = point[a, 0], point[a, 1], point[b, 0], point[b, 1]
            sharpest = np.inf
            apex = -1
            at_a = 0.0
            at_b = 0.0
            for v in range(first, last):
                if v in (a, b):
                    continue
                vy, vx = point[v, 0], point[v, 1]
                angle_b = _corner(ay - by, ax - bx, vy - by, vx - bx)
                angle_a = _corner(by - ay, bx - ax, vy - ay, vx - ax)
                angle = np.pi - angle_b - angle_a
                if angle < sharpest:
                    sharpest, apex, at_a, at_b = angle, v, angle_a, angle_b
            if apex < 0 or sharpest >= np.pi / 2:
                out[k, 0] = (ay + by) / 2
                out[k, 1] = (ax + bx) / 2
                out[k, 2] = np.sqrt((ay - by) * (ay - by) + (ax - bx) * (ax - bx)) / 2
                break
            vy, vx = point[apex, 0], point[apex, 1]
            if at_a <= np.pi / 2 and at_b <= np.pi / 2:
                area = 2 * (ax * (by - vy) + bx * (vy - ay) + vx * (ay - by))
                aa, bb, vv = ay * ay + ax * ax, by * by + bx * bx, vy * vy + vx * vx
                cx = (aa * (by - vy) + bb * (vy - ay) + vv * (ay - by)) / area
                cy = (aa * (vx - bx) + bb * (ax - vx) + vv * (bx - ax)) / area
                out[k, 0] = cy
                out[k, 1] = cx
                out[k, 2] = np.sqrt((ay - cy) * (ay - cy) + (ax - cx) * (ax - cx))
                break
            if at_a > np.pi / 2:
                a = apex
            else:
                b = apex
    return out


def enclosing_circles(vertex: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the smallest circle around each hull: (n, 3) row and column of the centre, radius.

    Chrystal's algorithm (1885): start from one side of the hull; the vertex that sees it under the smallest
    angle either proves the side to be the diameter, or forms with it the acute triangle of the circle, or
    replaces the end at which the angle is obtuse. The order of steps is CellProfiler's, because the last bit
    of the radius decides whether a pixel on the circle belongs to the Zernike disk.
    """
    return _circles(vertex, begin)


@kernel
def _feret(vertex: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.float64]:
    n = begin.size - 1
    out = np.zeros((n, 2))
    for k in range(n):
        first, last = begin[k], begin[k + 1]
        longest = 0
        narrowest = np.inf
        for v in range(first, last):
            for u in range(v + 1, last):
                dy, dx = vertex[u, 0] - vertex[v, 0], vertex[u, 1] - vertex[v, 1]
                longest = max(longest, dy * dy + dx * dx)
        if last - first > 2:
            for v in range(first, last):
                w = v + 1 if v + 1 < last else first
                dy, dx = vertex[w, 0] - vertex[v, 0], vertex[w, 1] - vertex[v, 1]
                widest = 0
                for u in range(first, last):
                    widest = max(widest, abs(_turn(vertex[v], vertex[w], vertex[u, 0], vertex[u, 1])))
                narrowest = min(narrowest, widest / np.sqrt(float(dy * dy + dx * dx)))
            out[k, 0] = narrowest
        out[k, 1] = np.sqrt(float(longest))
    return out


def feret_diameters(vertex: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n, 2) smallest and largest distance of parallel lines that hold the pixel centres between them.

    A point, and an object whose centres lie on one line, has a smallest diameter of 0.
    """
    return _feret(vertex, begin)
