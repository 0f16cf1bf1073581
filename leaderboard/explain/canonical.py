r"""Canonical correlations between two feature sets, regularised and cross-validated.

Hotelling 1936 (Biometrika 28, 321-377) with regularised covariances (Vinod 1976, J. Econometrics 4, 147-166):
with S_xx, S_yy shrunk towards a multiple of the identity by the amount of Ledoit & Wolf 2004 (J. Multivar.
Anal. 88, 365-411), nothing being left to tune,

    S_xx^{-1/2} S_xy S_yy^{-1/2} = U diag(d) V',     a_k = S_xx^{-1/2} u_k,     b_k = S_yy^{-1/2} v_k,

fitted on the training perturbations of a fold; reported is the Pearson correlation of X a_k and Y b_k over
the wells of the perturbations left out, so that what is fitted to noise shows as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard.explain.coral import COMPONENTS
from leaderboard.schema import BoardError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
PAIRS = 10


def canonical_correlations(
    X: NDArray[np.floating],
    Y: NDArray[np.floating],
    groups: NDArray[np.str_],
    *,
    pairs: int = PAIRS,
    folds: int = FOLDS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per pair of canonical variates: ``pair``, ``correlation`` and its ``low``, ``high``.

    Parameters
    ----------
    X, Y
        (N, D) and (N, E) features of the same wells; rows that are not finite in both are left out.
    groups
        (N,) perturbation of each well; its wells stand in one fold.
    pairs
        Variates reported.
    folds, seed
        Folds over perturbations, and the seed of their draw.

    Returns
    -------
    Mean of the held-out correlation over folds, and the least and the greatest of the folds.

    Raises
    ------
    BoardError
        When there are fewer than two perturbations per fold.
    """
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    known = np.isfinite(X).all(axis=1) & np.isfinite(Y).all(axis=1)
    X, Y, groups = X[known], Y[known], np.asarray(groups)[known]
    names, code = np.unique(groups, return_inverse=True)
    if len(names) < 2 * folds:
        raise BoardError(
            f"canonical correlations need {2 * folds} perturbations with both features; there are "
            f"{len(names)}"
        )
    fold = np.random.default_rng(seed).permutation(len(names))[code] % folds
    found = []
    for k in range(folds):
        train, test = fold != k, fold == k
        a, ta = _reduced(X[train], X[test])
        b, tb = _reduced(Y[train], Y[test])
        own = np.full(pairs, np.nan)
        if a.shape[1] and b.shape[1]:
            wa, wb = _whitening(a), _whitening(b)
            U, _, Vt = np.linalg.svd(wa @ (a.T @ b / len(a)) @ wb, full_matrices=False)
            left, right = ta @ wa @ U[:, :pairs], tb @ wb @ Vt[:pairs].T
            for i in range(left.shape[1]):
                own[i] = _pearson(left[:, i], right[:, i])
        found.append(own)
    values = np.array(found)
    defined = np.flatnonzero(np.isfinite(values).any(axis=0))
    return pd.DataFrame(
        {
            "pair": defined + 1,
            "correlation": np.nanmean(values[:, defined], axis=0),
            "low": np.nanmin(values[:, defined], axis=0),
            "high": np.nanmax(values[:, defined], axis=0),
        }
    )


def _reduced(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Standardise by the training rows and project on their leading principal components."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    kept = spread > 1e-12 * np.maximum(np.abs(mean), 1.0)
    a = (train[:, kept] - mean[kept]) / spread[kept]
    t = (test[:, kept] - mean[kept]) / spread[kept]
    if not kept.any():
        return a, t
    _, s, Vt = np.linalg.svd(a, full_matrices=False)
    k = min(COMPONENTS, int((s > 1e-9 * s[0]).sum()))
    return a @ Vt[:k].T, t @ Vt[:k].T


def _whitening(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """S^{-1/2} of the shrunk covariance of centred rows."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(a, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    floor = 1e-9 * values[-1]
    root: NDArray[np.float64] = (vectors / np.sqrt(values.clip(min=floor))) @ vectors.T
    return root


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
