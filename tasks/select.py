"""Feature selection: pycytominer's operations, fitted on the training rows of a fold.

Each operation says which columns go; operations act in the order given, each on what the ones before it left.
Names, rules and defaults are those of pycytominer 1.7 [1]_, its tests against it are exact. What is left out:
``noise_removal`` (its cutoff has no default), and correlations other than Pearson's.

``drop_na_columns``
    Share of missing rows above ``na_cutoff``.
``variance_threshold``
    Population variance of the known rows not above ``min_variance``.
``frequency_threshold``
    Count of the second most common value over the most common's below ``freq_cut`` (0 for a constant), or
    distinct values over rows below ``unique_cut``.
``correlation_threshold``
    Of a pair with r above ``corr_threshold`` (its sign counts: −0.95 is kept) the one goes whose Σ|r| with
    all columns is larger, every pair by itself; of equal sums the later column goes.
``drop_outliers``
    Largest absolute value above ``outlier_cutoff``.
``blocklist``
    Names that match a pattern.

References
----------
.. [1] Serrano et al., Reproducible image-based profiling with Pycytominer, Nat. Methods 2025.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tasks.protocol import Selection

    Matrix = NDArray[np.float64]


def keep(X: Matrix, selection: Selection, names: Sequence[str] = ()) -> NDArray[np.bool_]:
    """Return (D,) which columns of the training rows X (m, D) stay; NaN is missing.

    Parameters
    ----------
    names
        D names of the columns; only ``blocklist`` asks for them.

    Raises
    ------
    TaskError
        When ``blocklist`` has no names to compare with.
    """
    kept = np.arange(X.shape[1])
    gone: NDArray[np.bool_]
    for operation in selection.operations:
        if kept.size == 0:
            break
        if operation == "blocklist":
            if len(names) != X.shape[1]:
                raise TaskError(
                    "feature selection by blocklist needs the names of the features, and there are none; "
                    "leave the operation out"
                )
            listed = [any(fnmatchcase(name, own) for own in selection.blocklist) for name in names]
            gone = np.array(listed, dtype=np.bool_)[kept]
        else:
            gone = _OPERATIONS[operation](X[:, kept], selection)
        kept = kept[~gone]
    out = np.zeros(X.shape[1], bool)
    out[kept] = True
    return out


def missing(X: Matrix, selection: Selection) -> NDArray[np.bool_]:
    """Columns with too many missing rows."""
    gone: NDArray[np.bool_] = np.isnan(X).sum(axis=0) / len(X) > selection.na_cutoff
    return gone


def low_variance(X: Matrix, selection: Selection) -> NDArray[np.bool_]:
    """Columns that hardly vary."""
    known = ~np.isnan(X)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, X, 0.0).sum(axis=0) / count
    variance = np.where(known, (X - centre) ** 2, 0.0).sum(axis=0) / count
    gone: NDArray[np.bool_] = ~(variance > selection.min_variance)
    return gone


def infrequent(X: Matrix, selection: Selection) -> NDArray[np.bool_]:
    """Columns in which one value is far more common than any other, or distinct values are few."""
    m, D = X.shape
    ordered = np.sort(X, axis=0).T.ravel()  # column after column, missing values last in each
    column = np.repeat(np.arange(D), m)
    starts = np.ones(m * D, bool)
    starts[1:] = (ordered[1:] != ordered[:-1]) | (column[1:] != column[:-1])
    first = np.flatnonzero(starts & ~np.isnan(ordered))
    edges = np.append(np.flatnonzero(starts | np.isnan(ordered)), m * D)
    length = edges[np.searchsorted(edges, first, side="right")] - first
    home = column[first]
    distinct = np.bincount(home, minlength=D)
    order = np.lexsort((-length, home))
    most, second = np.ones(D), np.zeros(D)
    begin = np.searchsorted(home[order], np.arange(D))
    some, several = np.flatnonzero(distinct > 0), np.flatnonzero(distinct > 1)
    most[some] = length[order[begin[some]]]
    second[several] = length[order[begin[several] + 1]]
    gone: NDArray[np.bool_] = (second / most < selection.freq_cut) | (distinct / m < selection.unique_cut)
    return gone


def correlated(X: Matrix, selection: Selection) -> NDArray[np.bool_]:
    """Columns that a less correlated column can stand for."""
    r = correlations(X)
    total = np.where(np.isnan(r), 0.0, np.abs(r)).sum(axis=0)
    rank = np.empty(len(total), np.int64)
    rank[np.argsort(total, kind="stable")] = np.arange(len(total))
    with np.errstate(invalid="ignore"):
        high = r > selection.corr_threshold
    # Column i goes if any partner of a high pair ranks below it; its own rank is not below itself.
    lowest = np.where(high, rank[None, :], len(rank)).min(axis=1, initial=len(rank))
    gone: NDArray[np.bool_] = lowest < rank
    return gone


def correlations(X: Matrix) -> Matrix:
    """Pearson correlations (D, D) over the rows that both columns have; NaN for a column that is constant."""
    known = ~np.isnan(X)
    if known.all():
        Z = X - X.mean(axis=0)
        norm = np.sqrt((Z**2).sum(axis=0))
        flat = norm <= 1e-12 * np.abs(X).max(axis=0, initial=0.0)
        Z /= np.where(flat, np.nan, norm)
        complete: Matrix = (Z.T @ Z).clip(-1.0, 1.0)
        return complete
    m = known.astype(np.float64)
    count = np.maximum(known.sum(axis=0), 1)
    # Centred columns first: sums of squares of what is far from zero would cancel.
    Z = np.where(known, X - np.where(known, X, 0.0).sum(axis=0) / count, 0.0)
    n = m.T @ m
    sums, squares = Z.T @ m, (Z**2).T @ m  # [i, j]: of column i over the rows that column j has
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = Z.T @ Z - sums * sums.T / n
        variance = squares - sums**2 / n
        variance[variance <= 1e-12 * squares] = np.nan
        r: Matrix = (covariance / np.sqrt(variance * variance.T)).clip(-1.0, 1.0)
    return r


def outlying(X: Matrix, selection: Selection) -> NDArray[np.bool_]:
    """Columns with a value far out."""
    largest = np.where(np.isnan(X), 0.0, np.abs(X)).max(axis=0, initial=0.0)
    gone: NDArray[np.bool_] = largest > selection.outlier_cutoff
    return gone


_OPERATIONS: dict[str, Callable[[Matrix, Selection], NDArray[np.bool_]]] = {
    "drop_na_columns": missing,
    "variance_threshold": low_variance,
    "frequency_threshold": infrequent,
    "correlation_threshold": correlated,
    "drop_outliers": outlying,
}
