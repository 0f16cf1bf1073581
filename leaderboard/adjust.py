"""Multiplicity: Benjamini-Hochberg and hierarchical over readouts, Holm over pairs; NaN does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

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


def simes(p: ArrayLike) -> FloatArray:
    """Return Simes' p-value of each family, min_k p_(k) m / k over its m known tests (Simes 1986).

    Parameters
    ----------
    p
        (m, families) p-values, a family per column; NaN marks an undefined test.

    Returns
    -------
    ndarray
        (families,); NaN where a family has no known test.
    """
    values = np.asarray(p, dtype=np.float64)
    known = np.isfinite(values).sum(axis=0)
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=0)
    with np.errstate(invalid="ignore"):  # infinity times no test
        scaled = ordered * known / np.arange(1, len(values) + 1)[:, None]
    least = np.where(np.isfinite(scaled), scaled, np.inf).min(axis=0, initial=np.inf)
    return np.where(known > 0, np.minimum(least, 1.0), np.nan)


def hierarchical(p: ArrayLike, q: float) -> NDArray[np.bool_]:
    r"""Reject within families that are selected first (Peterson et al. 2016; Benjamini & Bogomolov 2014).

    A family (column) is selected when the Benjamini-Hochberg q-value of its Simes p-value is at most q.
    Within a selected family, Benjamini-Hochberg runs at level q S / m, S of m families selected. At q this
    controls the false discovery rate of the selected families, and the average over selected families of the
    share of false rejections; running every row by itself controls neither.

    Parameters
    ----------
    p
        (tests per family, families) p-values; NaN marks an undefined test.
    q
        Level of both.

    Returns
    -------
    ndarray
        Bool, like ``p``.

    References
    ----------
    Peterson, Bogomolov, Benjamini & Sabatti, Genet. Epidemiol. 40 (2016) 45-56; Benjamini & Bogomolov,
    J. R. Stat. Soc. B 76 (2014) 297-318.
    """
    values = np.asarray(p, dtype=np.float64)
    outer = benjamini_hochberg(simes(values))
    with np.errstate(invalid="ignore"):
        selected = outer <= q
    rejected = np.zeros(values.shape, dtype=bool)
    if not selected.any():
        return rejected
    within = q * selected.sum() / np.isfinite(outer).sum()
    own = values[:, selected]
    known = np.isfinite(own).sum(axis=0)
    ordered = np.sort(np.where(np.isfinite(own), own, np.inf), axis=0)
    rank = np.arange(1, len(own) + 1)[:, None]
    passed = ordered <= within * rank / np.maximum(known, 1)
    # The largest p that passes its line; every p up to it is rejected.
    limit = np.where(passed, ordered, -np.inf).max(axis=0)
    rejected[:, selected] = own <= limit
    return rejected
