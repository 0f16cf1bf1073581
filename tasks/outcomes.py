"""What the scores of every task share: results that fit the fold table, pairs that count, and means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.base import FoldResult

    Matrix = NDArray[np.floating[Any]]


def column_means(values: Matrix) -> NDArray[np.float64]:
    """Return column means over what is not NaN, in float64; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.nansum(values, axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean


def counted(y: Matrix, prediction: Matrix, floor: Matrix) -> NDArray[np.bool_]:
    """Whether a pair counts: measured, predicted, and with a floor."""
    known: NDArray[np.bool_] = ~(np.isnan(y) | np.isnan(prediction) | np.isnan(floor))
    return known


def agree(folds: pd.DataFrame, results: list[FoldResult]) -> None:
    """Raise :class:`TaskError` where a fold stands twice, or its rows are not those of the fold table."""
    seen = set()
    units = {key: np.sort(own["unit"].to_numpy()) for key, own in folds.groupby(["repeat", "fold"])}
    for result in results:
        key = (result.id.repeat, result.id.fold)
        if key in seen:
            raise TaskError(f"repeat {key[0]}, fold {key[1]} stands twice among the results")
        seen.add(key)
        if key not in units or not np.array_equal(units[key], np.sort(result.rows)):
            raise TaskError(
                f"the rows of repeat {key[0]}, fold {key[1]} are not those of the fold table: they are of "
                "another protocol or layer"
            )


def tested_in(folds: pd.DataFrame, results: list[FoldResult], tested: NDArray[np.str_]) -> NDArray[np.int16]:
    """Return (R, P) the outer fold of each perturbation, -1 where it was not run.

    Where a split separates the units of a perturbation it is the fold with most of them (ties: the lower).
    """
    repeats = 1 + max((result.id.repeat for result in results), default=-1)
    out = np.full((repeats, len(tested)), -1, np.int16)
    done = {(result.id.repeat, result.id.fold) for result in results}
    for repeat in range(repeats):
        own = folds[folds["repeat"] == repeat]
        ran = own[[(repeat, fold) in done for fold in own["fold"]]]
        if ran.empty:
            continue
        place = np.searchsorted(tested, ran["perturbation"].to_numpy(np.str_))
        votes = np.zeros((len(tested), int(own["fold"].max()) + 1), np.int64)
        np.add.at(votes, (place, ran["fold"].to_numpy(np.int64)), 1)
        out[repeat] = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    return out
