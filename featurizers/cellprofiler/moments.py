"""Moments of shape up to order 3 in each direction, and what follows from them.

They are summed around the pixel nearest to the centroid and shifted by the remaining fraction, so central
moments lose no digits, wherever in the image the object lies.
"""

from __future__ import annotations

from math import comb, pi
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.vocabulary import LOW_ORDERS as _LOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects


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


def measure_moments(objects: Objects) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Return features by name (n,), and the centroids (n, 2) as row and column.

    Spatial moments count from the corner of the bounding box. NormalizedMoment_0_0, _0_1 and _1_0 are NaN.
    Axis lengths, eccentricity and orientation (degrees) are those of the ellipse of the same second moments.
    """
    sums, centroid, origin = _power_sums(objects.rows, objects.cols, objects.start)
    return _moment_features(sums, origin, objects.box), centroid
