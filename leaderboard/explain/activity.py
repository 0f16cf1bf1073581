"""How far a perturbation moves the images: replicates found again among negative controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray


def activity(X: NDArray[np.floating], groups: NDArray[np.str_], control: NDArray[np.bool_]) -> pd.Series:
    """Return the mean average precision of each perturbation's wells against the negative controls.

    A well queries the other wells of its perturbation (positives) and the negative controls by cosine
    similarity; its average precision is the mean over positives of (rank among positives) / (rank):
    phenotypic activity as copairs defines it, ties in order of rows.

    Parameters
    ----------
    X
        (N, D) features, standardised to the negative controls of their plate.
    groups
        (N,) perturbation of each well.
    control
        (N,) bool, negative controls.

    Returns
    -------
    Index: perturbation with at least two wells; values in (0, 1]. Empty without two controls.
    """
    X = np.asarray(X, np.float64)
    known = np.isfinite(X).all(axis=1)
    norms = np.linalg.norm(np.where(known[:, None], X, 0.0), axis=1)
    known &= norms > 0
    negatives = np.flatnonzero(known & control)
    found: dict[str, float] = {}
    if len(negatives) < 2:
        return pd.Series(found, dtype=float)
    Z = X / np.where(norms > 0, norms, 1.0)[:, None]
    for name in np.unique(groups[known & ~control]):
        wells = np.flatnonzero(known & ~control & (groups == name))
        if len(wells) < 2:
            continue
        precision = []
        for i, well in enumerate(wells):
            candidates = np.concatenate([np.delete(wells, i), negatives])
            positive = np.arange(len(candidates)) < len(wells) - 1
            hit = positive[np.argsort(-(Z[candidates] @ Z[well]), kind="stable")]
            ranks = np.flatnonzero(hit) + 1
            precision.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
        found[str(name)] = float(np.mean(precision))
    return pd.Series(found, dtype=float)


def standardised(
    X: NDArray[np.floating], plate: NDArray[np.str_], control: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return features standardised to the negative controls of their plate; to all its wells without two.

    Features that do not vary among those wells are 0.
    """
    out = np.zeros(X.shape)
    for name in np.unique(plate):
        inside = plate == name
        own = inside & control & np.isfinite(X).all(axis=1)
        reference = X[own] if own.sum() >= 2 else X[inside & np.isfinite(X).all(axis=1)]
        if not len(reference):
            out[inside] = np.nan
            continue
        mean, spread = reference.mean(axis=0), reference.std(axis=0)
        varies = spread > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        scaled = (X[inside] - mean) / np.where(varies, spread, 1.0)
        out[inside] = np.where(varies, scaled, np.where(np.isfinite(scaled), 0.0, np.nan))
    return out
