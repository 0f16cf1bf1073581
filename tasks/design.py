"""The matrix that a head sees in an outer fold: standardised, selected, projected on its training units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import normalise
from tasks.select import keep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.protocol import Selection

    Matrix = NDArray[np.float64]


def design(
    blocks: Sequence[Matrix],
    train: NDArray[np.int64],
    normalisation: str,
    projection: str,
    selection: Selection,
    names: Sequence[Sequence[str]] = (),
) -> tuple[Matrix, dict[str, Any]]:
    """Return the design matrix of all units (n, D') and what was settled for it.

    Parameters
    ----------
    blocks
        (n, D_b) features of the units, after the plate normalisation; NaN is missing.
    train
        Rows that everything here is fitted on; each has every block.
    normalisation
        Under ``none`` features are not standardised. Selection sees the features as the normalisation leaves
        them: standardised under ``fold``, scaled to the plates' controls under a plate normalisation.
    projection
        ``none``, ``components-N`` or ``variance-SHARE``.
    names
        Names of the features, per block; empty where they are not known.

    Returns
    -------
    Z
        A unit without features stays NaN. Where selection leaves nothing, one column of zeros: a head then
        predicts the training mean.
    settled
        ``features_kept`` where features are selected, ``components`` where they are projected.
    """
    parts, kept = [], 0
    for own, known in zip(blocks, names or [()] * len(blocks), strict=True):
        Z = _filled(own, train) if normalisation == "none" else normalise.standardise(own, train)
        if selection.operations:
            seen = np.where(np.isnan(own), np.nan, Z) if normalisation == "fold" else own
            stays = keep(seen[train], selection, known)
            kept += int(stays.sum())
            Z = Z[:, stays] if stays.any() else _nothing(own)
        parts.append(Z)
    Z = normalise.balanced(parts, train)
    settled: dict[str, Any] = {"features_kept": kept} if selection.operations else {}
    if projection != "none":
        Z = project(Z, train, projection)
        settled["components"] = Z.shape[1]
    return Z, settled


def project(Z: Matrix, train: NDArray[np.int64], projection: str) -> Matrix:
    """Return the principal components of the training rows of Z (n, D) that ``projection`` asks for.

    With C the covariance of the training rows and C = V diag(λ) Vᵀ, λ falling, the scores are (z − mean) V_k:
    k = N for ``components-N``, as far as there are so many, and the smallest k with Σ_k λ ≥ s Σ λ for
    ``variance-s``. The largest loading of a component is positive.
    """
    from scipy.linalg import eigh

    centre = Z[train].mean(axis=0)
    own = Z[train] - centre
    tall = len(own) >= own.shape[1]
    values, vectors = eigh(own.T @ own if tall else own @ own.T, driver="evd", check_finite=False)
    values, vectors = values[::-1].clip(min=0.0), vectors[:, ::-1]
    rank = int((values > 1e-12 * max(float(values[0]), 1e-300)).sum()) if values[0] > 0.0 else 0
    if rank == 0:
        return _nothing(Z)
    what, _, amount = projection.partition("-")
    if what == "components":
        k = min(int(amount), rank)
    else:
        share = np.cumsum(values[:rank]) / values[:rank].sum()
        k = min(int(np.searchsorted(share, float(amount) - 1e-12)) + 1, rank)
    V = vectors[:, :k] if tall else own.T @ (vectors[:, :k] / np.sqrt(values[:k]))
    V = V * np.where(V[np.abs(V).argmax(axis=0), np.arange(k)] < 0.0, -1.0, 1.0)
    scores: Matrix = (Z - centre) @ V
    return scores


def _filled(X: Matrix, train: NDArray[np.int64]) -> Matrix:
    """X with a missing feature of a present row at the training mean."""
    known = ~np.isnan(X[train])
    mean = np.where(known, X[train], 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    absent = np.isnan(X).all(axis=1)
    Z: Matrix = np.where(np.isnan(X), mean, X)
    Z[absent] = np.nan
    return Z


def _nothing(X: Matrix) -> Matrix:
    """One column of zeros, NaN where a row of X has no feature."""
    return np.where(np.isnan(X).all(axis=1), np.nan, 0.0)[:, None]
