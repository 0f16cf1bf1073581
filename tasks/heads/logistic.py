"""Logistic regression of many masked readouts at once, each with its own penalty from grouped inner folds.

The objective and how it is minimised are in :mod:`tasks.heads.logit`. In an inner fold
penalties are taken from the largest to the smallest, each from the solution before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Head, TaskError
from tasks.folds import assign
from tasks.heads.arrays import host, put
from tasks.heads.logit import Fit, diagonalise, log_loss, solve
from tasks.heads.mean import observed_mean
from tasks.heads.menu import finite, pick
from tasks.protocol import LogGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tasks.protocol import Protocol

TIES = 1e-4
"""Inner losses within this share of the smallest are equal: the fits are no closer than this."""


@dataclass(frozen=True)
class LogisticConfig:
    """Settings of :class:`Logistic`.

    Parameters
    ----------
    penalties
        Grid of multipliers of the mean squared norm of the centred training rows (D for standardised
        features); the infinite penalty, the prevalence, is always added.
    inner_folds, seed
        Inner folds and what seeds them.
    tolerance
        Largest duality gap of a fit, relative to its objective.
    iterations
        Limit per fit; ``gap_`` tells who reached it.
    block
        Readouts per block of products; bounds the memory.
    """

    penalties: LogGrid = field(default_factory=lambda: LogGrid(1e-2, 1e2, 5))
    inner_folds: int = 4
    seed: int = 0
    tolerance: float = 1e-4
    iterations: int = 500
    block: int = 512


class Logistic(Head):
    """Logistic regression, its penalty chosen by the log loss summed over grouped inner validation rows.

    The penalty is per readout, of equal losses the largest; the prevalence is its limit. Inner folds whose
    training rows of a readout have one class are left out for that readout. A readout without an inner fold
    left, or with one class in all its rows, is predicted its prevalence; one without an observed row is
    predicted NaN. Where classes are perfectly separable the penalty keeps the coefficients finite.

    Attributes
    ----------
    coef_
        (D, T) float64.
    intercept_
        (T,) float64; ±inf where only one class was seen, NaN without any row.
    gap_
        (T,) duality gap of the final fit relative to its objective; 0 for the prevalence.
    chosen_
        ``alpha``: (T,) the penalty α_t, infinite for the prevalence.
    inner_loss_
        (T,) log loss summed over inner validation rows at that penalty; NaN where no inner fold was scored.
    """

    name = "logistic"
    version = "1"
    calls_only = True
    saved = ("_origin", "coef_", "intercept_")

    def __init__(self, config: LogisticConfig | None = None) -> None:
        self.config = LogisticConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Logistic:
        """Return the head with the protocol's inner folds and its own five penalties.

        A protocol that holds the penalty (a grid of one) holds it here too.
        """
        own = LogisticConfig(inner_folds=protocol.inner_folds, seed=protocol.seed)
        return cls(replace(own, penalties=protocol.penalties) if protocol.penalties.num == 1 else own)

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Logistic:
        """Choose each readout's penalty in the inner folds and fit on all rows."""
        m, T = Y.shape
        finite(X, self.name)
        if (((Y != 0.0) & (Y != 1.0)) & mask).any():
            raise TaskError("logistic takes readouts of 0 and 1; use ridge for values, or another task")
        self._origin = X.mean(axis=0, dtype=np.float64)
        centred = np.asarray(X, np.float64) - self._origin
        scale = float((centred**2).sum() / max(m, 1)) or 1.0
        grid = self.config.penalties
        self.penalties_ = np.append(np.geomspace(grid.start, grid.stop, grid.num) * scale, np.inf)
        loss, counted = self._inner(
            centred, Y, mask, assign(groups, self.config.inner_folds, self.config.seed)
        )
        best, self.inner_loss_ = pick(loss, counted, TIES)
        alpha = self.penalties_[best]
        self.coef_, self.gap_ = np.zeros((X.shape[1], T)), np.zeros(T)
        prevalence = observed_mean(Y, mask)
        with np.errstate(divide="ignore"):
            self.intercept_ = np.log(prevalence) - np.log1p(-prevalence)
        alpha[(prevalence == 0) | (prevalence == 1)] = np.inf
        self.chosen_ = {"alpha": alpha}
        design = diagonalise(put(centred, self.device))
        axes = host(design.axes)
        for own in self._blocks(np.flatnonzero(np.isfinite(alpha))):
            fit = solve(design, Y[:, own], mask[:, own], alpha[own], **self._limits())
            self.coef_[:, own] = axes @ host(fit.b)
            self.intercept_[own], self.gap_[own] = host(fit.c), fit.gap
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 chances of a 1 for X (k, D)."""
        from scipy.special import expit

        X = np.asarray(X, np.float64) - self._origin
        out = np.empty((len(X), len(self.intercept_)), np.float32)
        for own in self._blocks(np.arange(len(self.intercept_))):
            out[:, own] = expit(X @ self.coef_[:, own] + self.intercept_[own])
        return out

    def _inner(
        self,
        X: NDArray[np.float64],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        fold: NDArray[np.int16],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Log losses (penalties, T) summed over the inner folds, and the readouts that had one to score."""
        T = Y.shape[1]
        loss, counted = np.zeros((len(self.penalties_), T)), np.zeros(T, bool)
        for k in np.unique(fold):
            valid = fold == k
            prevalence = observed_mean(Y[~valid], mask[~valid])
            usable = (prevalence > 0) & (prevalence < 1) & mask[valid].any(axis=0)
            if not usable.any():
                continue
            counted |= usable
            centre = X[~valid].mean(axis=0)
            design = diagonalise(put(X[~valid] - centre, self.device))
            scores = put(((X[valid] - centre) @ host(design.axes)).astype(np.float32), self.device)
            for own in self._blocks(np.flatnonzero(usable)):
                y, seen = Y[np.ix_(valid, own)], mask[np.ix_(valid, own)]
                train, known = Y[np.ix_(~valid, own)], mask[np.ix_(~valid, own)]
                c = np.log(prevalence[own]) - np.log1p(-prevalence[own])
                loss[-1, own] += log_loss(np.broadcast_to(c, y.shape), y, seen)
                start: Fit | None = None
                for a in range(len(self.penalties_) - 2, -1, -1):
                    alpha = np.full(len(own), self.penalties_[a])
                    start = solve(design, train, known, alpha, start, **self._limits())
                    loss[a, own] += log_loss(host(scores @ start.b + start.c), y, seen)
        return loss, counted

    def _limits(self) -> dict[str, Any]:
        return {"tolerance": self.config.tolerance, "iterations": self.config.iterations}

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(columns), self.config.block):
            yield columns[start : start + self.config.block]
