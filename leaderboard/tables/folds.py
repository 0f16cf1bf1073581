"""Scores of readouts in single outer folds: what "over splits" means in the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leaderboard.schema import Entry


def fold_scores(entry: Entry, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (S, C): the score of C readouts in each of the S tested outer folds, by repeat and fold.

    Of a run with squared errors, 1 - sum e / sum e0 over the perturbations of the fold that have both; NaN
    where the floor makes no error. Of one with scores per fold, those.

    Parameters
    ----------
    entry
        The run.
    columns
        Positions of the readouts.
    """
    if entry.fold_values is not None:
        values = entry.fold_values[:, :, columns]
        return values.reshape(-1, len(columns)).astype(np.float64)
    found = []
    for repeat, folds in enumerate(entry.folds):
        for fold in np.unique(folds[folds >= 0]):
            inside = np.flatnonzero(folds == fold)
            e = entry.e[repeat][np.ix_(inside, columns)].astype(np.float64)
            e0 = entry.e0[repeat][np.ix_(inside, columns)].astype(np.float64)
            both = np.isfinite(e) & np.isfinite(e0)
            total, own = np.where(both, e0, 0.0).sum(axis=0), np.where(both, e, 0.0).sum(axis=0)
            found.append(1.0 - np.divide(own, total, out=np.full(len(columns), np.nan), where=total > 0))
    return np.array(found).reshape(-1, len(columns))


def spread(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5 % and 97.5 % quantiles over folds of (S, C); NaN where fewer than two are defined."""
    low, high = np.full((2, values.shape[1]), np.nan)
    for column in np.flatnonzero(np.isfinite(values).sum(axis=0) > 1):
        known = values[np.isfinite(values[:, column]), column]
        low[column], high[column] = np.quantile(known, [0.025, 0.975])
    return low, high
