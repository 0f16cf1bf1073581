"""What heads share when they choose from a menu in inner folds: which loss, and which member wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Loss = Literal["auto", "squared", "logistic"]


def resolve_loss(loss: Loss, Y: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> bool:
    """Return whether the loss is logistic: ``auto`` takes it where every observed value is 0 or 1.

    Raises
    ------
    TaskError
        When ``logistic`` meets another value.
    """
    if loss == "squared":
        return False
    calls = bool((((Y == 0.0) | (Y == 1.0)) | ~mask).all()) and bool(mask.any())
    if loss == "logistic" and not calls:
        raise TaskError(
            "the logistic loss takes readouts of 0 and 1; set loss to 'squared', or use another task"
        )
    return calls


def finite(X: NDArray[np.floating[Any]], name: str) -> None:
    """Refuse features that are not finite."""
    if not np.isfinite(X).all():
        raise TaskError(f"{name} takes finite features; drop or fill the rows that have none")


def pick(
    loss: NDArray[np.float64], counted: NDArray[np.bool_], ties: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose, per readout, the member of a menu with the smallest inner loss.

    Parameters
    ----------
    loss
        (A, T) losses summed over inner validation rows; members from the freest to the plainest, the mean
        last. One that is no number is never the smallest.
    counted
        (T,) readouts that had an inner fold to score; the others get the last member and a loss of NaN.
    ties
        Losses within this share of the smallest are equal; of equal ones the last wins.

    Returns
    -------
    best, own
        (T,) place of the member and its loss.
    """
    equal = loss <= np.where(np.isnan(loss), np.inf, loss).min(axis=0) * (1.0 + ties)
    last = len(loss) - 1
    best = np.where(counted, last - np.argmax(equal[::-1], axis=0), last)
    return best, np.where(counted, loss[best, np.arange(loss.shape[1])], np.nan)


def squared_error(
    y: NDArray[np.floating[Any]], p: NDArray[np.floating[Any]], mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (T,) Σ (y − p)² over the rows where mask (m, T) is True.

    It is infinite where p is no number in such a row: what is not predicted must not look free.
    """
    total: NDArray[np.float64] = (np.where(mask, np.where(mask, y, 0.0) - p, 0.0) ** 2).sum(axis=0)
    return np.where(np.isnan(total), np.inf, total)
