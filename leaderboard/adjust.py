"""Multiplicity: Benjamini-Hochberg over readouts, Holm over pairs; NaN stays NaN and does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from leaderboard.summands import FloatArray


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """Return q-values, q_(k) = min_{j >= k} p_(j) m / j (Benjamini & Hochberg 1995).

    Parameters
    ----------
    p
        (m,) p-values; NaN marks an undefined test.
    """
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    q = np.full(values.shape, np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    scaled = values[order] * known.size / np.arange(1, known.size + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def holm(p: ArrayLike) -> FloatArray:
    """Return Holm's adjusted p-values, max_{j <= k} min(1, (m - j + 1) p_(j)) (Holm 1979).

    Parameters
    ----------
    p
        (m,) p-values; NaN marks an undefined test.
    """
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    adjusted = np.full(values.shape, np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    scaled = np.minimum(values[order] * np.arange(known.size, 0, -1), 1.0)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted
