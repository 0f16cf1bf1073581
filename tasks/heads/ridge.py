"""Ridge regression of many readouts, each with its own penalty from grouped inner folds, as matrix products.

For every readout t

    minimise over b, c:  Σ_i (y_it − c − x_iᵀ b)² + α_t ‖b‖²

With X centred on the training rows and X Xᵀ = U diag(s²) Uᵀ (or, when D ≤ m, Xᵀ X = V diag(s²) Vᵀ), the
prediction for validation rows Z is

    Z L diag(1 / (s² + α)) R y + mean(y),    L = Xᵀ U, R = Uᵀ   (D > m)    or    L = V, R = Vᵀ Xᵀ   (D ≤ m)

so one eigendecomposition per inner fold serves all readouts and all penalties, and the rest is products over
blocks of readouts. The decompositions and the final coefficients are float64. The inner validation losses,
which only choose a penalty, use float32 products by default, and fewer of them than there are penalties: the
shrinkage s² / (s² + α), as a function of s, hardly differs between neighbours on a grid, the less the
narrower the range of s. So the directions are divided into :data:`BANDS` by their s, and within a band every
penalty's prediction is a combination of those of a few penalties, within :data:`SPAN`. The predictions of all
penalties are then one more product, of the combinations' weights with the few.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.base import Head
from tasks.folds import assign
from tasks.heads.menu import finite, pick
from tasks.protocol import LogGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tasks.protocol import Protocol


TIES = 1e-5
"""Inner losses within this share of the smallest are equal: float32 products cannot tell them apart."""


SPAN = 1e-6
"""Largest error of a shrinkage, between 0 and 1, that is combined from those of other penalties."""

ROWS = 16
"""Validation rows whose residuals are formed at a time."""

BANDS = 3
"""Bands of directions; more of them need fewer products with the readouts and more with the weights."""


@dataclass(frozen=True)
class RidgeConfig:
    """Settings of :class:`Ridge`.

    Parameters
    ----------
    penalties
        Grid of multipliers of the mean squared norm of the centred training rows (D for standardised
        features); the infinite penalty, the training mean, is always added.
    inner_folds, seed
        Inner folds and what seeds them.
    products
        Precision of the inner validation losses; ``float64`` computes those of every penalty by itself.
    block
        Readouts per block of products; bounds the memory.
    """

    penalties: LogGrid = field(default_factory=LogGrid)
    inner_folds: int = 4
    seed: int = 0
    products: Literal["float32", "float64"] = "float32"
    block: int = 512


@dataclass(frozen=True, eq=False)
class _Basis:
    """A decomposition: ``left`` (D, k), ``right`` (k, m), ``squares`` (k,) and the rows' ``centre`` (D,)."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    squares: NDArray[np.float64]
    centre: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Inner:
    """An inner fold.

    Parameters
    ----------
    valid
        (m,) its validation rows.
    right
        (k, m - v) takes the training readouts to the directions.
    parts
        Per product, the directions it is about and the shrunk scores (v, directions) of the validation rows.
    weights
        (A + 1, parts) of the products in the prediction of each penalty; zeros for the mean, which is last.
        None where each product is a penalty's own.
    """

    valid: NDArray[np.bool_]
    right: NDArray[Any]
    parts: list[tuple[slice, NDArray[Any]]]
    weights: NDArray[Any] | None

    def losses(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """Squared validation errors (A + 1, t) of readouts z (m, t)."""
        train = z[~self.valid]
        centre = train.mean(axis=0)
        train -= centre
        projected = self.right @ train  # (k, t)
        target = z[self.valid]
        target -= centre
        v, t = target.shape
        predictions = np.empty((v, len(self.parts), t), z.dtype)
        for i, (band, left) in enumerate(self.parts):
            np.matmul(left, projected[band], out=predictions[:, i])
        total = np.zeros((len(self.parts if self.weights is None else self.weights), t))
        for start in range(0, v, ROWS):  # few rows at a time stay in the processor's cache
            own = predictions[start : start + ROWS]
            if self.weights is not None:
                own = np.matmul(self.weights, own)  # (A + 1, parts) @ (ROWS, parts, t)
            own -= target[start : start + ROWS, None]
            total += np.einsum("vat,vat->at", own, own)
        if self.weights is None:
            total = np.concatenate([total, np.einsum("vt,vt->t", target, target)[None]])
        return total


class Ridge(Head):
    """Ridge with a penalty per readout, chosen by squared error summed over grouped inner validation rows.

    Readouts with the same pattern of missing values share their decompositions, and every readout is fitted
    exactly to the rows where it is observed. Of equal losses the largest penalty wins. A readout whose
    observed rows stand in a single inner fold gets the infinite penalty; one without an observed row is
    predicted NaN.

    Attributes
    ----------
    coef_
        (D, T) float64.
    intercept_
        (T,) float64, NaN for a readout that was never observed.
    chosen_
        ``alpha``: (T,) the penalty α_t, infinite for the mean.
    inner_loss_
        (T,) inner loss at that penalty, NaN where no inner fold could be scored.
    """

    name = "ridge"
    version = "2"
    saved = ("_origin", "coef_", "intercept_")

    def __init__(self, config: RidgeConfig | None = None) -> None:
        self.config = RidgeConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Ridge:
        """Return the head with the protocol's penalties and inner folds."""
        return cls(RidgeConfig(protocol.penalties, protocol.inner_folds, protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Ridge:
        """Choose each readout's penalty in the inner folds and fit on all rows."""
        m, T = Y.shape
        finite(X, self.name)
        self._origin = X.mean(axis=0, dtype=np.float64)
        centred = np.asarray(X, np.float64) - self._origin
        # 1 for features that never vary, whose penalty does not matter.
        scale = float((centred**2).sum() / max(m, 1)) or 1.0
        grid = self.config.penalties
        self.penalties_ = np.append(np.geomspace(grid.start, grid.stop, grid.num) * scale, np.inf)
        fold = assign(groups, self.config.inner_folds, self.config.seed)
        self.coef_ = np.zeros((centred.shape[1], T))
        self.intercept_ = np.full(T, np.nan)
        self.inner_loss_ = np.full(T, np.nan)
        self.chosen_ = {"alpha": np.full(T, np.inf)}
        for columns, rows in patterns(mask):
            if rows.any():
                self._fit_pattern(centred[rows], Y, rows, columns, fold[rows])
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D)."""
        X = np.asarray(X, np.float64) - self._origin
        T = len(self.intercept_)
        out = np.empty((len(X), T), np.float32)
        for block in self._blocks(np.arange(T)):
            out[:, block] = X @ self.coef_[:, block] + self.intercept_[block]
        return out

    def _fit_pattern(
        self,
        X: NDArray[np.float64],
        Y: NDArray[np.floating[Any]],
        rows: NDArray[np.bool_],
        columns: NDArray[np.int64],
        fold: NDArray[np.int16],
    ) -> None:
        """Fit the readouts ``columns``, all observed in exactly ``rows``; X and ``fold`` are those rows."""
        rotation = None
        if X.shape[1] > 2 * len(X):
            # Ridge does not change under rotations: wide features cost no more columns than there are rows.
            rotation, upper = np.linalg.qr(X.T)  # (D, m), (m, m)
            X = upper.T
        present = np.unique(fold)
        loss = np.zeros((len(self.penalties_), len(columns)))
        if len(present) > 1:
            inner = [self._prepare(X, fold == k) for k in present]
            for place in self._blocks(np.arange(len(columns))):
                y = Y[np.ix_(rows, columns[place])].astype(np.float64)
                # Unit variance keeps float32 squares in range whatever the readout's scale.
                unit = y.std(axis=0)
                unit[unit == 0.0] = 1.0
                z = ((y - y.mean(axis=0)) / unit).astype(self.config.products)
                loss[:, place] = sum(own.losses(z) for own in inner) * unit**2
            best, self.inner_loss_[columns] = pick(loss, np.ones(len(columns), bool), TIES)
            self.chosen_["alpha"][columns] = self.penalties_[best]
        basis = _decompose(X)
        for place in self._blocks(np.arange(len(columns))):
            own = columns[place]
            y = Y[np.ix_(rows, own)].astype(np.float64)
            centre = y.mean(axis=0)
            shrunk = (basis.right @ (y - centre)) / (basis.squares[:, None] + self.chosen_["alpha"][own])
            coef = basis.left @ shrunk  # (D, k) @ (k, block)
            self.coef_[:, own] = coef if rotation is None else rotation @ coef
            self.intercept_[own] = centre - basis.centre @ coef

    def _prepare(self, X: NDArray[np.float64], valid: NDArray[np.bool_]) -> _Inner:
        """Decompose one inner fold's training rows and shrink its validation rows."""
        dtype = np.dtype(self.config.products)
        basis = _decompose(X[~valid])
        scores = (X[valid] - basis.centre) @ basis.left  # (v, k)
        finite = self.penalties_[:-1]
        parts: list[tuple[slice, NDArray[Any]]] = []
        rows = []
        for band in _bands(len(basis.squares), BANDS if dtype == np.float32 else 1):
            squares = basis.squares[band]
            few, weights = _span(squares, finite, SPAN if dtype == np.float32 else 0.0)
            # The penalty acts on the few validation rows, not on the many readouts.
            parts += [(band, (scores[:, band] / (squares + a)).astype(dtype)) for a in finite[few]]
            rows.append(weights)
        if dtype == np.float64:
            return _Inner(valid, basis.right, parts, None)
        whole = np.zeros((len(self.penalties_), len(parts)))
        whole[:-1] = np.concatenate(rows, axis=1)
        return _Inner(valid, basis.right.astype(dtype), parts, whole.astype(dtype))

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(columns), self.config.block):
            yield columns[start : start + self.config.block]


def _bands(directions: int, number: int) -> list[slice]:
    """Divide directions in the order of their s into bands of about the same size."""
    edges = np.linspace(0, directions, min(number, max(directions, 1)) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _span(
    squares: NDArray[np.float64], penalties: NDArray[np.float64], error: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose penalties whose shrinkages span those of all A within ``error``.

    Returns
    -------
    few
        Places of the chosen ones, by pivoted QR; all of them where fewer do not suffice.
    weights
        (A, few) of the chosen in each.
    """
    from scipy.linalg import lstsq, qr

    shrinkage = squares[:, None] / (squares[:, None] + penalties)
    order = qr(shrinkage, mode="r", pivoting=True, check_finite=False)[1]
    for count in range(1, len(penalties) if error else 0):
        few = np.sort(order[:count])
        combined = lstsq(shrinkage[:, few], shrinkage, check_finite=False)[0]  # (few, A)
        if np.abs(shrinkage[:, few] @ combined - shrinkage).max(initial=0.0) <= error:
            return few, combined.T
    return np.arange(len(penalties)), np.eye(len(penalties))


def patterns(mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield readouts that share a pattern of observed rows: columns (t,) and rows (m,) of ``mask`` (m, T)."""
    columns = np.arange(mask.shape[1])
    if mask.all():
        yield columns, np.ones(len(mask), bool)
        return
    packed = np.ascontiguousarray(np.packbits(mask, axis=0).T)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    for p in np.argsort(first):
        yield columns[inverse == p], mask[:, first[p]]


def _decompose(X: NDArray[np.float64]) -> _Basis:
    """Decompose X (m, D), centred here, by the smaller of its two Gram matrices."""
    centre = X.mean(axis=0)
    X = X - centre
    m, D = X.shape
    if m >= D:
        squares, V = _eigh(X.T @ X)
        return _Basis(V, (X @ V).T, squares.clip(min=0.0), centre)
    squares, U = _eigh(X @ X.T)
    return _Basis(X.T @ U, U.T, squares.clip(min=0.0), centre)


def _eigh(gram: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and vectors by divide and conquer (a third faster here than ``numpy.linalg.eigh``)."""
    from scipy.linalg import eigh

    values, vectors = eigh(gram, driver="evd", check_finite=False, overwrite_a=True)
    return values, vectors
