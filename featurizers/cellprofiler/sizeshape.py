"""Size and shape of objects.

The outline measures count local configurations: the perimeter weighs border pixels by their border neighbours
(Benkrid and Crookes), the Crofton perimeter and the Euler number (8-connected) weigh the 16 patterns of 2 x 2
pixels. The convex area counts the pixel centres inside or on the hull of the pixels' edge midpoints, in
integers. Radii are distances to the outside, with the image border outside. Moments are summed around the
pixel nearest to the centroid and shifted by the remaining fraction, so central moments lose no digits.

Axis lengths, eccentricity and orientation are those of the ellipse with the object's second moments;
FormFactor = 4π area / perimeter², Compactness = perimeter² / 4π area, Solidity = area / convex area.
"""

from __future__ import annotations

from math import comb, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.hull import feret_diameters
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.vocabulary import ADVANCED_SHAPE as ADVANCED
from featurizers.cellprofiler.vocabulary import EXTRA_SHAPE as EXTRA
from featurizers.cellprofiler.vocabulary import LOW_ORDERS as _LOW
from featurizers.cellprofiler.vocabulary import STANDARD_SHAPE as STANDARD

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


@kernel
def _radii(squared: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n, 3) maximum, mean and median of √squared."""
    n = start.size - 1
    out = np.empty((n, 3))
    tally = np.zeros(squared.max() + 1 if squared.size else 1, np.int64)
    for k in range(n):
        largest = 0
        for p in range(start[k], start[k + 1]):
            tally[squared[p]] += 1
            largest = max(largest, squared[p])
        size = start[k + 1] - start[k]
        total = 0.0
        median = 0.0
        below = 0
        for d in range(largest + 1):
            count = tally[d]
            if count == 0:
                continue
            tally[d] = 0
            root = np.sqrt(float(d))
            total += count * root
            for middle in ((size - 1) // 2, size // 2):
                if below <= middle < below + count:
                    median += root / 2
            below += count
        out[k, 0] = np.sqrt(float(largest))
        out[k, 1] = total / size
        out[k, 2] = median
    return out


@kernel
def _power_sums(
    rows: NDArray[np.int32], cols: NDArray[np.int32], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return Σ (row - r)^p (col - c)^q for p, q < 4 (n, 4, 4), the centroids, their nearest pixels (r, c)."""
    n = start.size - 1
    out = np.zeros((n, 4, 4))
    centroid = np.empty((n, 2))
    origin = np.empty((n, 2), np.int64)
    for k in range(n):
        first, last = start[k], start[k + 1]
        row_sum = 0
        col_sum = 0
        for p in range(first, last):
            row_sum += rows[p]
            col_sum += cols[p]
        centroid[k, 0] = row_sum / (last - first)
        centroid[k, 1] = col_sum / (last - first)
        r0, c0 = int(np.rint(centroid[k, 0])), int(np.rint(centroid[k, 1]))
        origin[k, 0] = r0
        origin[k, 1] = c0
        p = first
        while p < last:
            r = rows[p]
            s0 = 0
            s1 = 0
            s2 = 0
            s3 = 0
            while p < last and rows[p] == r:
                x = cols[p] - c0
                s0 += 1
                s1 += x
                s2 += x * x
                s3 += x * x * x
                p += 1
            y = 1.0
            for power in range(4):
                out[k, power, 0] += y * s0
                out[k, power, 1] += y * s1
                out[k, power, 2] += y * s2
                out[k, power, 3] += y * s3
                y *= r - r0
    return out, centroid, origin


def _shift(sums: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ (row + a)^p (col + b)^q from the sums without the shift (a, b), (n, 2)."""
    powers = by[:, :, None] ** np.arange(4)
    binomial = np.array([[comb(p, i) for i in range(4)] for p in range(4)])
    exponent = np.maximum(np.subtract.outer(np.arange(4), np.arange(4)), 0)
    along_rows = binomial * powers[:, 0][:, exponent]
    along_cols = binomial * powers[:, 1][:, exponent]
    return along_rows @ sums @ along_cols.transpose(0, 2, 1)


def _hu(nu: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return Hu's seven invariants of the normalised moments (n, 4, 4)."""
    a, b = nu[:, 3, 0] + nu[:, 1, 2], nu[:, 2, 1] + nu[:, 0, 3]
    c, d = nu[:, 3, 0] - 3 * nu[:, 1, 2], 3 * nu[:, 2, 1] - nu[:, 0, 3]
    e, f = nu[:, 2, 0] - nu[:, 0, 2], nu[:, 1, 1]
    u, v = a * (a**2 - 3 * b**2), b * (3 * a**2 - b**2)
    return [
        nu[:, 2, 0] + nu[:, 0, 2],
        e**2 + 4 * f**2,
        c**2 + d**2,
        a**2 + b**2,
        c * u + d * v,
        e * (a**2 - b**2) + 4 * f * a * b,
        d * u - c * v,
    ]


def _moment_features(
    sums: NDArray[np.float64],
    origin: NDArray[np.int64],
    box: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:
    """Return moments, inertia tensor and the ellipse of the same second moments."""
    raw = _shift(sums, (origin - box[:, :2]).astype(np.float64))
    fraction = np.stack([sums[:, 1, 0], sums[:, 0, 1]], axis=1) / sums[:, 0, :1]
    central = _shift(sums, -fraction)
    central[:, 0, 1] = central[:, 1, 0] = 0.0
    mass = central[:, 0, 0]
    orders = np.add.outer(np.arange(4), np.arange(4))
    normalized = np.where(orders >= 2, central / mass[:, None, None] ** (orders / 2 + 1), np.nan)
    t00, off, t11 = central[:, 0, 2] / mass, -central[:, 1, 1] / mass, central[:, 2, 0] / mass
    half, spread = (t00 + t11) / 2, np.sqrt(((t00 - t11) / 2) ** 2 + off**2)
    major, minor = np.maximum(half + spread, 0), np.maximum(half - spread, 0)
    round_ = np.where(off < 0, pi / 4, -pi / 4)
    angle = np.where(t00 == t11, round_, np.arctan2(-2 * off, t11 - t00) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        eccentricity = np.where(major == 0, 0.0, np.sqrt(1 - minor / major))
    out = {f"SpatialMoment_{p}_{q}": raw[:, p, q] for p, q in _LOW}
    out |= {f"CentralMoment_{p}_{q}": central[:, p, q] for p, q in _LOW}
    out |= {f"NormalizedMoment_{p}_{q}": normalized[:, p, q] for p in range(4) for q in range(4)}
    out |= {f"HuMoment_{i}": value for i, value in enumerate(_hu(normalized))}
    out |= {"InertiaTensor_0_0": t00, "InertiaTensor_0_1": off, "InertiaTensor_1_0": off}
    out |= {"InertiaTensor_1_1": t11}
    out |= {"InertiaTensorEigenvalues_0": major, "InertiaTensorEigenvalues_1": minor}
    out |= {"MajorAxisLength": 4 * np.sqrt(major), "MinorAxisLength": 4 * np.sqrt(minor)}
    return out | {"Eccentricity": eccentricity, "Orientation": np.degrees(angle)}


def measure_shape(
    objects: Objects,
    squared: NDArray[np.int64],
    hull: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, NDArray[np.float64]]:
    """Measure size and shape.

    Parameters
    ----------
    objects
        n objects with P pixels.
    squared
        (P,) squared distance to the outside, under the ``bounded`` rule of
        :func:`~featurizers.cellprofiler.distance.squared_distances`.
    hull
        From :func:`~featurizers.cellprofiler.hull.convex_hulls`.

    Returns
    -------
    (n,) float64 by name: ``STANDARD``, ``ADVANCED`` and ``EXTRA``. Lengths in pixels, areas in pixels,
    orientation in degrees from -90 to 90. A single pixel has perimeter 0 and so an infinite FormFactor.
    """
    pixels = (objects.rows, objects.cols, objects.start)
    outline = _outlines(*pixels, objects.box, _PERIMETER, _CROFTON, _EULER)
    perimeter, crofton, euler, filled, convex = outline.T
    radii = _radii(squared, objects.start)
    feret = feret_diameters(*hull)
    sums, centroid, origin = _power_sums(*pixels)
    area = objects.area.astype(np.float64)
    box = objects.box.astype(np.float64)
    box_area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    with np.errstate(divide="ignore"):
        form_factor = 4 * pi * area / perimeter**2
    found = _moment_features(sums, origin, objects.box) | {
        "Area": area,
        "BoundingBoxArea": box_area,
        "BoundingBoxMaximum_X": box[:, 3],
        "BoundingBoxMaximum_Y": box[:, 2],
        "BoundingBoxMinimum_X": box[:, 1],
        "BoundingBoxMinimum_Y": box[:, 0],
        "Center_X": centroid[:, 1],
        "Center_Y": centroid[:, 0],
        "Compactness": perimeter**2 / (4 * pi * area),
        "ConvexArea": convex,
        "EquivalentDiameter": np.sqrt(4 * area / pi),
        "EulerNumber": euler,
        "Extent": area / box_area,
        "FilledArea": filled,
        "FormFactor": form_factor,
        "MaxFeretDiameter": feret[:, 1],
        "MaximumRadius": radii[:, 0],
        "MeanRadius": radii[:, 1],
        "MedianRadius": radii[:, 2],
        "MinFeretDiameter": feret[:, 0],
        "Perimeter": perimeter,
        "PerimeterCrofton": crofton,
        "Solidity": area / convex,
    }
    return {name: found[name] for name in (*STANDARD, *ADVANCED, *EXTRA)}
