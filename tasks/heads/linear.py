"""Least squares without a penalty, of many masked readouts at once.

For every readout t with observed rows O_t: of all (b, c) that minimise Σ_{i ∈ O_t} (y_it − c − x_iᵀ b)², the
one with the smallest ‖b‖. With the observed rows X = U S Vᵀ, centred, that is b = V S⁺ Uᵀ (y − ȳ), where S⁺
inverts the singular values above ``cutoff`` times the largest and is 0 elsewhere.

With fewer features than rows this is ordinary least squares. With more, the training readouts are
interpolated and what is predicted elsewhere is the interpolant of the smallest norm, without any protection
against noise: worst where there are about as many features as rows. Calls of 0 and 1 are fitted by squared
error too (a linear score, ranked like any other), because the logistic loss without a penalty has no minimum
where classes are separable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Head
from tasks.folds import assign
from tasks.heads.menu import finite, squared_error
from tasks.heads.ridge import patterns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.protocol import Protocol


@dataclass(frozen=True)
class LinearConfig:
    """Settings of :class:`Linear`.

    Parameters
    ----------
    inner_folds, seed
        Inner folds and what seeds them; they only measure ``inner_loss_``, there is nothing to choose.
    cutoff
        Singular values below this share of the largest count as 0: what float32 features cannot tell from 0.
    """

    inner_folds: int = 4
    seed: int = 0
    cutoff: float = 1e-6


class Linear(Head):
    """Least squares without a penalty; the solution of the smallest norm where features outnumber rows.

    Readouts with the same pattern of missing values share their decompositions. A readout without an observed
    row is predicted NaN.

    Attributes
    ----------
    coef_
        (D, T) float64.
    intercept_
        (T,) float64, NaN for a readout that was never observed.
    inner_loss_
        (T,) squared error summed over inner validation rows, NaN where no inner fold could be scored.
    chosen_
        Empty: there is nothing to choose.
    """

    name = "linear"
    version = "1"
    saved = ("_origin", "coef_", "intercept_")

    def __init__(self, config: LinearConfig | None = None) -> None:
        self.config = LinearConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Linear:
        """Return the head with the protocol's inner folds."""
        return cls(LinearConfig(protocol.inner_folds, protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Linear:
        """Fit on all rows, and on the rows outside each inner fold to measure ``inner_loss_``."""
        finite(X, self.name)
        T = Y.shape[1]
        self._origin = X.mean(axis=0, dtype=np.float64)
        centred = np.asarray(X, np.float64) - self._origin
        fold = assign(groups, self.config.inner_folds, self.config.seed)
        self.coef_, self.intercept_ = np.zeros((X.shape[1], T)), np.full(T, np.nan)
        self.inner_loss_ = np.full(T, np.nan)
        self.chosen_ = {}
        for columns, rows in patterns(mask):
            if not rows.any():
                continue
            x, y, own = centred[rows], Y[np.ix_(rows, columns)].astype(np.float64), fold[rows]
            present = np.unique(own)
            if len(present) > 1:
                self.inner_loss_[columns] = sum(
                    self._left_out(x, y, own == k) for k in present
                )  # one decomposition per inner fold and pattern
            self.coef_[:, columns], self.intercept_[columns] = least_squares(x, y, self.config.cutoff)
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D)."""
        out: NDArray[np.float64] = (np.asarray(X, np.float64) - self._origin) @ self.coef_ + self.intercept_
        return out.astype(np.float32)

    def _left_out(
        self, X: NDArray[np.float64], Y: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        coef, intercept = least_squares(X[~valid], Y[~valid], self.config.cutoff)
        return squared_error(Y[valid], X[valid] @ coef + intercept, np.ones((valid.sum(), Y.shape[1]), bool))


def least_squares(
    X: NDArray[np.float64], Y: NDArray[np.float64], cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients (D, t) and intercepts (t,) of the module's solution for complete Y (m, t)."""
    from scipy.linalg import svd

    centre, mean = X.mean(axis=0), Y.mean(axis=0)
    U, s, Vt = svd(X - centre, full_matrices=False, check_finite=False)
    keep = s > cutoff * s.max(initial=0.0)
    coef: NDArray[np.float64] = Vt[keep].T @ ((U[:, keep].T @ (Y - mean)) / s[keep, None])  # (D, r) @ (r, t)
    return coef, mean - centre @ coef
