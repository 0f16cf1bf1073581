"""Zernike moments of shape and of intensity up to degree 9, on the smallest circle around an object.

With x and y the distances from the circle's centre in units of its radius along columns and rows,
r² = x² + y² and z = y + ix, the moment of order (n, m) is

V(n, m) = Σ w Σ_k (-1)^k (n - k)! / (k! ((n + m)/2 - k)! ((n - m)/2 - k)!) r^(n - m - 2k) z^m

over the pixels with r² <= 1. Shape: w = 1 and abs(V) / (π radius²). Intensity: w is the pixel, magnitude
abs(V) / number of pixels, and phase atan2(Re V, Im V), the order of arguments that CellProfiler uses.

All 30 moments are one complex 55 x 30 matrix times the real moments Σ w x^p y^q with p + q <= 9, and those
are summed along rows first, so a pixel costs ten multiply-adds per channel. The basis is the same for all
channels.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, factorial
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.vocabulary import DEGREE, ORDERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects

_POWERS = DEGREE + 1
_TERMS = _POWERS * (_POWERS + 1) // 2


@lru_cache(maxsize=1)
def _from_monomials() -> NDArray[np.complex128]:
    """Return (55, 30): the coefficient of x^p y^q, ordered by q and then p, in each moment."""
    place = {(p, q): t for t, (q, p) in enumerate((q, p) for q in range(_POWERS) for p in range(_POWERS - q))}
    out = np.zeros((_TERMS, len(ORDERS)), np.complex128)
    for column, (n, m) in enumerate(ORDERS):
        for k in range((n - m) // 2 + 1):
            radial = (-1) ** k * factorial(n - k)
            radial //= factorial(k) * factorial((n + m) // 2 - k) * factorial((n - m) // 2 - k)
            half = (n - m) // 2 - k
            for a in range(half + 1):  # (x² + y²)^half
                for b in range(m + 1):  # (y + ix)^m
                    term = radial * comb(half, a) * comb(m, b) * 1j**b
                    out[place[2 * a + b, 2 * (half - a) + m - b], column] += term
    out.flags.writeable = False
    return out


@kernel
def _monomials(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    start: NDArray[np.int64],
    box: NDArray[np.int64],
    circle: NDArray[np.float64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (n, 1 + C, 55) sums of w x^p y^q over the disk for w = 1 and each channel; NaN for radius 0."""
    n, channels = start.size - 1, values.shape[0]
    out = np.zeros((n, 1 + channels, _TERMS))
    largest = 1
    widest = 1
    for k in range(n):
        largest = max(largest, start[k + 1] - start[k])
        widest = max(widest, box[k, 3] - box[k, 1])
    power = np.empty((widest, _POWERS))
    inside = np.empty(largest)
    along = np.empty(_POWERS)
    for k in range(n):
        cy, cx, radius = circle[k, 0], circle[k, 1], circle[k, 2]
        if radius == 0.0:
            out[k] = np.nan
            continue
        first, last, left = start[k], start[k + 1], box[k, 1]
        for c in range(box[k, 3] - left):
            x = (left + c - cx) / radius
            power[c, 0] = 1.0
            for e in range(1, _POWERS):
                power[c, e] = power[c, e - 1] * x
        for p in range(first, last):
            x = power[cols[p] - left, 1]
            y = (rows[p] - cy) / radius
            inside[p - first] = 0.0 if x * x + y * y > 1.0 else 1.0
        for channel in range(1 + channels):
            p = first
            while p < last:
                r = rows[p]
                along[:] = 0.0
                if channel == 0:
                    while p < last and rows[p] == r:
                        w = inside[p - first]
                        c = cols[p] - left
                        for e in range(_POWERS):
                            along[e] += w * power[c, e]
                        p += 1
                else:
                    while p < last and rows[p] == r:
                        w = inside[p - first] * values[channel - 1, p]
                        c = cols[p] - left
                        for e in range(_POWERS):
                            along[e] += w * power[c, e]
                        p += 1
                y = (r - cy) / radius
                height = 1.0
                t = 0
                for q in range(_POWERS):
                    for e in range(_POWERS - q):
                        out[k, channel, t] += height * along[e]
                        t += 1
                    height *= y
    return out


def measure_zernike(
    objects: Objects, values: NDArray[np.float64], circle: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure Zernike moments of shape and of intensity.

    Parameters
    ----------
    objects
        n objects with P pixels.
    values
        (C, P) pixels; C may be 0.
    circle
        (n, 3) from :func:`~featurizers.cellprofiler.hull.enclosing_circles`.

    Returns
    -------
    shape : (n, 30) float64
        Magnitudes in the order of ``ORDERS``, from 0 to 1; NaN for a single pixel, whose circle is a point.
    intensity : (n, C, 2, 30) float64
        Magnitudes and phases (radians). The phase of a moment that vanishes is rounding noise.
    """
    sums = _monomials(objects.rows, objects.cols, objects.start, objects.box, circle, values)
    moments = sums @ _from_monomials()
    area = np.pi * circle[:, 2] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = np.abs(moments[:, 0]) / area[:, None]
    weighted = moments[:, 1:]
    magnitude = np.abs(weighted) / objects.area[:, None, None]
    return shape, np.stack([magnitude, np.arctan2(weighted.real, weighted.imag)], axis=2)
