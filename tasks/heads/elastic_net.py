"""Elastic net of many masked readouts at once, squared error or log loss, penalties from grouped inner folds.

With n observed rows of a readout and M = max_j |Σ_i x_ij (y_i − ȳ)| / n over all training rows,

    minimise over b, c:  (1/n) Σ_i L(y_i, c + x_iᵀ b) + α (ρ ‖b‖₁ + (1 − ρ)/2 ‖b‖²),    α = u M / ρ

(Zou & Hastie, Regularization and variable selection via the elastic net, J. R. Stat. Soc. B 2005, in the
scaling of scikit-learn and glmnet). u = 1 is the smallest multiplier at which every coefficient is zero, so
that one menu of u and ρ serves readouts of any scale. Objective, algorithm and the gap that ends it:
:mod:`tasks.heads.coordinate`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Head, TaskError
from tasks.folds import assign
from tasks.heads.coordinate import Fit, solve
from tasks.heads.logit import log_loss
from tasks.heads.mean import observed_mean
from tasks.heads.menu import Loss, finite, pick, resolve_loss, squared_error
from tasks.protocol import LogGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tasks.protocol import Protocol

TIES = 1e-4
"""Inner losses within this share of the smallest are equal: the fits are no closer than this."""


@dataclass(frozen=True)
class ElasticNetConfig:
    """Settings of :class:`ElasticNet`.

    Parameters
    ----------
    penalties
        Grid of multipliers u of the smallest penalty that leaves no feature; the mean is always added.
    l1_ratios
        Menu of ρ in (0, 1].
    loss
        ``squared``, ``logistic``, or ``auto``: logistic where every observed value is 0 or 1.
    inner_folds, seed
        Inner folds and what seeds them.
    tolerance
        Largest duality gap of a fit, as a share of the objective without features.
    iterations
        Looks at all gradients per fit; ``gap_`` tells which final fits reached the limit, a warning those of
        inner folds too.
    block
        Readouts per block of products; bounds the memory.
    """

    penalties: LogGrid = field(default_factory=lambda: LogGrid(1e-2, 0.5, 5))
    l1_ratios: tuple[float, ...] = (0.1, 0.5, 0.9)
    loss: Loss = "auto"
    inner_folds: int = 4
    seed: int = 0
    tolerance: float = 1e-4
    iterations: int = 100
    block: int = 256

    def __post_init__(self) -> None:
        if not self.l1_ratios or not all(0.0 < r <= 1.0 for r in self.l1_ratios):
            raise TaskError(f"elastic-net: l1_ratios must lie in (0, 1], not {self.l1_ratios}; 0 is ridge")


class ElasticNet(Head):
    """Elastic net, α and ρ per readout by squared error or log loss summed over grouped inner validation
    rows.

    Of equal losses the largest u wins. Every readout is fitted to the rows where it is observed; under the
    log loss inner folds whose training rows have one class are left out for that readout. A readout without
    an inner fold left gets the mean; one without an observed row is predicted NaN.

    Attributes
    ----------
    coef_
        (D, T) float64.
    intercept_
        (T,) float64; of calls with one class ±inf.
    gap_
        (T,) duality gap of the final fit as a share of the objective without features; 0 for the mean.
    chosen_
        ``alpha``: (T,) α, infinite for the mean; ``l1_ratio``: (T,) ρ.
    inner_loss_
        (T,) inner loss of that choice, NaN where no inner fold could be scored.
    """

    name = "elastic-net"
    version = "3"
    saved = ("_origin", "coef_", "intercept_", "logistic_")

    def __init__(self, config: ElasticNetConfig | None = None) -> None:
        self.config = ElasticNetConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> ElasticNet:
        """Return the head with the protocol's inner folds and its own menu."""
        return cls(ElasticNetConfig(inner_folds=protocol.inner_folds, seed=protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> ElasticNet:
        """Choose each readout's penalty in the inner folds and fit on all rows."""
        finite(X, self.name)
        T = Y.shape[1]
        self.logistic_ = resolve_loss(self.config.loss, Y, mask)
        self._origin = X.mean(axis=0, dtype=np.float64)
        centred = np.asarray(X, np.float64) - self._origin
        grid = self.config.penalties
        steps = np.geomspace(grid.stop, grid.start, grid.num)
        menu = [(u, ratio) for u in steps[::-1] for ratio in self.config.l1_ratios]
        mean = observed_mean(Y, mask)
        self._largest = _largest(centred, Y, mask, mean)
        self._inner_gap = np.zeros(T)
        loss, counted = self._inner(
            centred, Y, mask, assign(groups, self.config.inner_folds, self.config.seed), steps, menu
        )
        best, self.inner_loss_ = pick(loss, counted, TIES)
        multiplier = np.array([*(u for u, _ in menu), np.inf])[best]
        ratio = np.array([*(r for _, r in menu), 1.0])[best]
        multiplier[~((self._largest > 0) & np.isfinite(mean))] = np.inf
        self.coef_, self.gap_ = np.zeros((X.shape[1], T)), np.zeros(T)
        with np.errstate(divide="ignore"):
            self.intercept_ = np.log(mean) - np.log1p(-mean) if self.logistic_ else mean
        with np.errstate(invalid="ignore"):
            alpha = multiplier * self._largest / ratio
        alpha[np.isinf(multiplier)] = np.inf
        self.chosen_ = {"alpha": alpha, "l1_ratio": ratio}
        rows = np.ascontiguousarray(centred.T)
        for own in self._blocks(np.flatnonzero(np.isfinite(alpha))):
            fit = self._solve(rows, Y[:, own], mask[:, own], alpha[own], ratio[own], None)
            self.coef_[:, own], self.intercept_[own], self.gap_[own] = fit.b.T, fit.c, fit.gap
        self._warn()
        return self

    def _warn(self) -> None:
        """Say in one sentence how many readouts ended short of the tolerance, and where."""
        limit = self.config.tolerance
        final, inner = int((self.gap_ > limit).sum()), int((self._inner_gap > limit).sum())
        if final or inner:
            largest = max(self.gap_.max(), self._inner_gap.max())
            warnings.warn(
                f"elastic-net: of {len(self.gap_)} readouts {final} in the fit on all rows and {inner} in an "
                f"inner fold ended up to {largest:.1e} from the optimum, above the tolerance of {limit:.0e}; "
                "raise iterations or the smallest of penalties, or lower l1_ratios",
                RuntimeWarning,
                stacklevel=3,
            )

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D); under the log loss chances of a 1."""
        from scipy.special import expit

        out = (np.asarray(X, np.float64) - self._origin) @ self.coef_ + self.intercept_
        return np.asarray(expit(out) if self.logistic_ else out, np.float32)

    def _inner(
        self,
        X: NDArray[np.float64],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        fold: NDArray[np.int16],
        steps: NDArray[np.float64],
        menu: list[tuple[float, float]],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Losses (menu + 1, T) summed over the inner folds, the mean last; and the readouts that had one."""
        T = Y.shape[1]
        loss, counted = np.zeros((len(menu) + 1, T)), np.zeros(T, bool)
        for k in np.unique(fold):
            valid = fold == k
            mean = observed_mean(Y[~valid], mask[~valid])
            usable = np.isfinite(mean) & mask[valid].any(axis=0)
            if self.logistic_:
                usable &= (mean > 0) & (mean < 1)
            counted |= usable
            centre = X[~valid].mean(axis=0)
            rows, held = np.ascontiguousarray((X[~valid] - centre).T), X[valid] - centre
            for own in self._blocks(np.flatnonzero(usable)):
                y, seen = Y[np.ix_(valid, own)], mask[np.ix_(valid, own)]
                plain = np.log(mean[own]) - np.log1p(-mean[own]) if self.logistic_ else mean[own]
                floor = self._loss(np.broadcast_to(plain, y.shape), y, seen)
                loss[:, own] += floor  # of a readout that the features do not move at all, too
                live = self._largest[own] > 0
                if not live.any():
                    continue
                use = own[live]
                train, known = Y[np.ix_(~valid, use)], mask[np.ix_(~valid, use)]
                for ratio in self.config.l1_ratios:
                    start: Fit | None = None
                    for u in steps:
                        alpha = u * self._largest[use] / ratio
                        start = self._solve(rows, train, known, alpha, np.full(len(use), ratio), start)
                        self._inner_gap[use] = np.maximum(self._inner_gap[use], start.gap)
                        z = held @ start.b.T + start.c
                        loss[menu.index((u, ratio)), use] += (
                            self._loss(z, y[:, live], seen[:, live]) - floor[live]
                        )
        return loss, counted

    def _solve(
        self,
        rows: NDArray[np.float64],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        alpha: NDArray[np.float64],
        ratio: NDArray[np.float64],
        start: Fit | None,
    ) -> Fit:
        count = mask.sum(axis=0)
        return solve(
            rows,
            np.ascontiguousarray(Y.T, np.float64),
            np.ascontiguousarray(mask.T),
            count * alpha * ratio,
            count * alpha * (1.0 - ratio),
            start,
            logistic=self.logistic_,
            tolerance=self.config.tolerance,
            iterations=self.config.iterations,
        )

    def _loss(
        self, z: NDArray[np.float64], y: NDArray[np.floating[Any]], mask: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        return log_loss(z, y, mask) if self.logistic_ else squared_error(y, z, mask)

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(columns), self.config.block):
            yield columns[start : start + self.config.block]


def _largest(
    X: NDArray[np.float64],
    Y: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_],
    mean: NDArray[np.float64],
) -> NDArray[np.float64]:
    """M (T,) of the module: the largest mean product of a feature with the centred readout; 0 if constant."""
    count = np.maximum(mask.sum(axis=0), 1)
    centred = np.where(mask, Y - np.nan_to_num(mean), 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    scale = np.sqrt((X**2).mean(axis=0).max(initial=0.0))
    found: NDArray[np.float64] = np.abs(X.T @ centred).max(axis=0, initial=0.0) / count
    # What is left of a constant readout is rounding.
    found[found <= 1e-10 * scale * np.maximum(spread, 1e-12 * np.abs(np.nan_to_num(mean)))] = 0.0
    return found
