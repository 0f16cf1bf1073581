"""Nearest neighbours of many masked readouts at once: exact, the distances as matrix products.

The prediction of row z for readout t is the mean of y_it over the k training rows nearest to z among those
where readout t is observed (Cover & Hart, Nearest neighbor pattern classification, IEEE Trans. Inf. Theory
1967), all with the same weight; all of them where fewer than k are observed. Distances are ``euclidean``, ‖z
− x‖, or ``cosine``, 1 − zᵀx / (‖z‖ ‖x‖), a row of zeros being at distance 1 from every other. They come from
one product Z Xᵀ in float64 and are compared in float32: closer ones than that tie, and of ties the earlier
training row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tasks.base import Head, TaskError
from tasks.folds import assign
from tasks.heads.mean import observed_mean
from tasks.heads.menu import finite, pick, squared_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tasks.protocol import Protocol

Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class KnnConfig:
    """Settings of :class:`Knn`.

    Parameters
    ----------
    neighbours
        Menu of k, ascending; the mean of all rows is always added.
    metrics
        Menu of distances.
    inner_folds, seed
        Inner folds and what seeds them.
    block
        Readouts at a time; bounds the memory.
    """

    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20, 40)
    metrics: tuple[Metric, ...] = ("euclidean", "cosine")
    inner_folds: int = 4
    seed: int = 0
    block: int = 512

    def __post_init__(self) -> None:
        if not self.neighbours or list(self.neighbours) != sorted({k for k in self.neighbours if k >= 1}):
            raise TaskError(f"knn: neighbours must be ascending whole numbers from 1, not {self.neighbours}")
        if not self.metrics or set(self.metrics) - set(get_args(Metric)):
            raise TaskError(f"knn: metrics must be among {', '.join(get_args(Metric))}, not {self.metrics}")


class Knn(Head):
    """Mean of the nearest training rows; k and metric per readout by squared error over inner validation
    rows.

    Of equal losses the largest k wins. For calls the squared error is the Brier score: the log loss of a
    share of k neighbours is infinite as soon as they are unanimous and wrong. A readout without an observed
    row is predicted NaN.

    Attributes
    ----------
    chosen_
        ``k``: (T,) neighbours, infinite for the mean of all rows; ``metric``: (T,) the distance.
    inner_loss_
        (T,) inner loss of that choice, NaN where no inner fold could be scored.
    """

    name = "knn"
    version = "1"
    saved = ("_X", "_Y", "_mask", "_mean", "_k", "_metric")

    def __init__(self, config: KnnConfig | None = None) -> None:
        self.config = KnnConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Knn:
        """Return the head with the protocol's inner folds and its own menu."""
        return cls(KnnConfig(inner_folds=protocol.inner_folds, seed=protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Knn:
        """Choose k and the metric in the inner folds and keep the rows."""
        finite(X, self.name)
        T, sizes = Y.shape[1], self.config.neighbours
        self._X, self._Y, self._mask = np.asarray(X, np.float64), np.where(mask, Y, 0.0), mask
        self._mean = observed_mean(Y, mask)
        # From few neighbours to many, so that of equal losses the plainest wins.
        menu = list(product(sizes, self.config.metrics))
        loss, counted = np.zeros((len(menu) + 1, T)), np.zeros(T, bool)
        fold = assign(groups, self.config.inner_folds, self.config.seed)
        for k in np.unique(fold):
            valid = fold == k
            usable = mask[valid].any(axis=0) & mask[~valid].any(axis=0)
            counted |= usable
            order = {m: nearest(self._X[valid], self._X[~valid], m) for m in self.config.metrics}
            for own in self._blocks(np.flatnonzero(usable)):
                y, seen = Y[np.ix_(valid, own)], mask[np.ix_(valid, own)]
                train, known = self._Y[np.ix_(~valid, own)], mask[np.ix_(~valid, own)]
                loss[-1, own] += squared_error(y, observed_mean(train, known)[None], seen)
                for metric in self.config.metrics:
                    means = neighbour_means(order[metric], train, known, sizes)
                    for i, size in enumerate(sizes):
                        loss[menu.index((size, metric)), own] += squared_error(y, means[i], seen)
        best, self.inner_loss_ = pick(loss, counted, ties=0.0)
        chosen = np.array([*(float(size) for size, _ in menu), np.inf])[best]
        metrics = np.array([*(metric for _, metric in menu), self.config.metrics[0]], dtype=object)[best]
        self.chosen_ = {"k": chosen, "metric": metrics}
        self._k, self._metric = chosen, metrics.tolist()
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D)."""
        k, metric = self._k, np.array(self._metric)
        out = np.tile(self._mean.astype(np.float32), (len(X), 1))
        for name in get_args(Metric):
            if name not in metric:
                continue
            order = nearest(np.asarray(X, np.float64), self._X, name)
            for own in self._blocks(np.flatnonzero((metric == name) & np.isfinite(k))):
                sizes = tuple(int(size) for size in np.unique(k[own]))
                means = neighbour_means(order, self._Y[:, own], self._mask[:, own], sizes)
                out[:, own] = np.take_along_axis(
                    means, np.searchsorted(sizes, k[own])[None, None, :], axis=0
                )[0]
        return out

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(columns), self.config.block):
            yield columns[start : start + self.config.block]


def nearest(Z: NDArray[np.float64], X: NDArray[np.float64], metric: Metric) -> NDArray[np.int64]:
    """Return (v, m) rows of X (m, D) in the order of their distance from each row of Z (v, D)."""
    if metric == "cosine":
        Z, X = _unit(Z), _unit(X)
        distance = 1.0 - Z @ X.T
    else:
        distance = (Z**2).sum(axis=1)[:, None] + (X**2).sum(axis=1) - 2.0 * (Z @ X.T)
    return np.argsort(distance.astype(np.float32), axis=1, kind="stable")


def _unit(X: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.sqrt((X**2).sum(axis=1, keepdims=True))
    unit: NDArray[np.float64] = np.divide(X, norm, out=np.zeros_like(X), where=norm > 0)
    return unit


def neighbour_means(
    order: NDArray[np.int64], Y: NDArray[np.floating[Any]], mask: NDArray[np.bool_], sizes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Mean over the first k observed rows in each row of ``order``, for every k of ``sizes``.

    Parameters
    ----------
    order
        (v, m) rows of Y from the nearest to the farthest.
    Y, mask
        (m, t) readouts, 0 where mask is False.
    sizes
        Ascending k; fewer are averaged where fewer are observed.

    Returns
    -------
    ndarray
        (sizes, v, t); NaN where nothing is observed.
    """
    v, m = order.shape
    out = np.empty((len(sizes), v, Y.shape[1]))
    complete = bool(mask.all())
    for row in range(v):
        if complete:
            running = np.cumsum(Y[order[row, : sizes[-1]]], axis=0, dtype=np.float64)
            for i, k in enumerate(sizes):
                out[i, row] = running[min(k, m) - 1] / min(k, m)
            continue
        width = min(m, 2 * sizes[-1])
        while True:
            near = order[row, :width]
            count = np.cumsum(mask[near], axis=0)
            if width == m or (count[-1] >= sizes[-1]).all():
                break
            width = min(m, 2 * width)
        running = np.cumsum(Y[near], axis=0, dtype=np.float64)
        for i, k in enumerate(sizes):
            # The place where the k-th observed row stands, or the last one.
            place = np.minimum((count < k).sum(axis=0), width - 1)[None]
            number = np.take_along_axis(count, place, axis=0)[0]
            total = np.take_along_axis(running, place, axis=0)[0]
            out[i, row] = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return out
