"""The training mean: the floor that every run is scored against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Head
from tasks.folds import assign

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.protocol import Protocol


class Mean(Head):
    """Predict each readout's observed training mean, ŷ = mean{y_i : i observed}, whatever the features."""

    name = "mean"
    version = "1"
    saved = ("mean_",)

    def __init__(self, inner_folds: int = 4, seed: int = 0) -> None:
        self.inner_folds = inner_folds
        self.seed = seed

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Mean:
        """Return the head with the protocol's inner folds."""
        return cls(protocol.inner_folds, protocol.seed)

    def fit(
        self,
        X: NDArray[np.floating[Any]],  # noqa: ARG002 the floor knows no features
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Mean:
        """Take the means; ``inner_loss_`` is their squared error on the inner validation rows."""
        self.mean_ = observed_mean(Y, mask)
        loss = np.full(Y.shape[1], np.nan)
        fold = assign(groups, self.inner_folds, self.seed)
        for k in range(self.inner_folds):
            valid = fold == k
            error = np.where(mask[valid], Y[valid] - observed_mean(Y[~valid], mask[~valid]), np.nan)
            counted = ~np.isnan(error)
            used = counted.any(axis=0)
            loss[used] = np.nan_to_num(loss[used]) + np.where(counted, error**2, 0.0).sum(axis=0)[used]
        self.inner_loss_ = loss
        self.chosen_ = {}
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the means (k, T), one row per row of X."""
        return np.tile(self.mean_.astype(np.float32), (len(X), 1))


def observed_mean(Y: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (T,) means of Y (m, T) over the rows where mask is True, NaN where there is none."""
    count = mask.sum(axis=0)
    total = np.where(mask, Y, 0.0).sum(axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(Y.shape[1], np.nan), where=count > 0)
    return mean
