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
penalty's shrinkage is a combination of the leading singular vectors of all, within :data:`SPAN`. The
residuals of all are then one more product, of the combinations' weights with those few and, at weight −1,
the readouts. Losses so computed err by less than 1e-6 of the readout's variance; where the features reproduce
a readout almost exactly, that is a larger share of the loss.

Folds are decomposed, and blocks of readouts fitted, in as many threads as the linear algebra has; on another
device than ``cpu`` torch does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.base import Head
from tasks.folds import assign
from tasks.heads.arrays import device, each, eigh, host, namespace, put
from tasks.heads.menu import finite, pick
from tasks.protocol import LogGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tasks.protocol import Protocol


TIES = 1e-5
"""Inner losses within this share of the smallest are equal: float32 products cannot tell them apart."""


SPAN = 2e-6
"""Largest error of a shrinkage, between 0 and 1, that is combined from a few singular vectors."""

SMALL = 2**17
"""Numbers below which features and readouts are fitted before threads have started."""

ROWS = 5
"""Validation rows whose residuals are formed at a time, so that they stay in the processor's cache."""

WORTH = 64
"""Readouts from which on finding the few penalties costs less than doing without."""

BANDS = 4
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
    block: int = 384


@dataclass(frozen=True, eq=False)
class _Basis:
    """A decomposition: ``left`` (D, k), ``right`` (k, m), ``squares`` (k,) and the rows' ``centre`` (D,)."""

    left: Any
    right: Any
    squares: Any
    centre: Any


@dataclass(frozen=True, eq=False)
class _Inner:
    """An inner fold, its validation rows standing together.

    Parameters
    ----------
    valid
        Its v validation rows of the m.
    right
        (k, m - v) takes the training readouts to the directions; its rows sum to 0.
    parts
        Per band, its directions and the scores (r · v, directions) of the validation rows, shrunk in the r
        ways that the band needs, one under the other.
    weights
        (A + 1, R + 1) of the R shrunk predictions of all bands and, last, of the readouts in the residuals of
        each penalty; the mean, the last of them, has none.
    """

    valid: slice
    right: Any
    parts: list[tuple[slice, Any]]
    weights: Any

    def losses(self, z: Any) -> NDArray[np.float64]:
        """Squared validation errors (A + 1, t) of readouts z (m, t)."""
        xp, (a, b) = namespace(z), (self.valid.start, self.valid.stop)
        (m, t), v = z.shape, b - a
        centre = (z[:a].sum(axis=0) + z[b:].sum(axis=0)) / (m - v)
        projected = self.right[:, :a] @ z[:a] + self.right[:, a:] @ z[b:]  # (k, t)
        made = {"dtype": z.dtype, "device": device(z)}
        products = xp.empty((self.weights.shape[1] * v, t), **made)
        start = 0
        for band, left in self.parts:
            xp.matmul(left, projected[band], out=products[start : start + len(left)])
            start += len(left)
        products[start:] = z[a:b] - centre
        products = products.reshape(-1, v, t)
        rows = ROWS if isinstance(z, np.ndarray) else v
        total = xp.zeros((len(self.weights), t), dtype=xp.float64, device=made["device"])
        for start in range(0, v, rows):
            own = products[:, start : start + rows].reshape(self.weights.shape[1], -1)
            residuals = (self.weights @ own).reshape(len(self.weights), -1, t)
            total += xp.einsum("avt,avt->at", residuals, residuals)
        return host(total)


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
    version = "4"
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
        rotation = None
        if centred.shape[1] > 2 * m:
            # Ridge does not change under rotations: wide features cost no more columns than there are rows.
            rotation, upper = np.linalg.qr(centred.T)  # (D, m), (m, m)
            centred = upper.T

        def fit(pattern: tuple[NDArray[np.int64], NDArray[np.bool_]], *, threaded: bool) -> None:
            columns, rows = pattern
            # Rows of a fold stand together.
            own = np.flatnonzero(rows)[np.argsort(fold[rows], kind="stable")]
            self._fit_pattern(centred[own], Y, own, columns, fold[own], rotation, threaded=threaded)

        # Threads are within a pattern of many readouts, and among patterns of few.
        local = self.device == "cpu"
        observed = [pattern for pattern in patterns(mask) if pattern[1].any()]
        few = [pattern for pattern in observed if len(pattern[0]) <= self.config.block]
        among = len(few) > 1
        for pattern in observed:
            if not among or len(pattern[0]) > self.config.block:
                fit(pattern, threaded=local and max(centred.size, Y.size) >= SMALL)
        each(partial(fit, threaded=False), few if among else [], threaded=local)
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
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        fold: NDArray[np.int16],
        rotation: NDArray[np.float64] | None,
        *,
        threaded: bool,
    ) -> None:
        """Fit the readouts ``columns``, all observed in exactly ``rows``; X and ``fold`` are those rows, fold
        after fold, X rotated back by ``rotation`` (D, columns of X).
        """
        edges = np.flatnonzero(np.diff(fold, prepend=-1, append=-1))
        folds = [slice(int(a), int(b)) for a, b in pairwise(edges)] if len(edges) > 2 else []
        blocks = list(self._blocks(columns))
        x = put(X, self.device)
        tall = folds if x.shape[0] >= x.shape[1] else []
        grams = each(lambda own: x[own].T @ x[own], tall, threaded=threaded)
        error = SPAN if self.config.products == "float32" and len(columns) >= WORTH else 0.0
        prepare = partial(self._prepare, x, folds, grams, error)
        inner = each(prepare, range(len(folds)), threaded=threaded)

        def choose(place: NDArray[np.int64]) -> None:
            y, _ = _centred(Y, rows, place)  # (m, block)
            # Unit variance keeps float32 squares in range whatever the readout's scale.
            unit = np.sqrt(np.einsum("mt,mt->t", y, y) / len(y))
            unit[unit == 0.0] = 1.0
            scaled = np.empty(y.shape, self.config.products)
            z = put(np.divide(y, unit, out=scaled, casting="same_kind"), self.device)
            loss = sum(own.losses(z) for own in inner) * unit**2
            best, self.inner_loss_[place] = pick(loss, np.ones(len(place), bool), TIES)
            self.chosen_["alpha"][place] = self.penalties_[best]

        def solve(basis: _Basis, place: NDArray[np.int64]) -> None:
            y, centre = _centred(Y, rows, place)
            shrunk = basis.right @ put(y, self.device)  # (k, block)
            shrunk /= basis.squares[:, None] + put(self.chosen_["alpha"][place], self.device)
            coef = host(basis.left @ shrunk)  # (D, k) @ (k, block)
            self.coef_[:, _beside(place)] = coef if rotation is None else rotation @ coef
            self.intercept_[place] = centre - host(basis.centre) @ coef

        # The decomposition of all rows is needed last, and keeps a core busy that would wait for the others.
        todo: list[partial[Any]] = [partial(_decompose, x, grams)]
        todo += [partial(choose, place) for place in blocks if inner]
        basis, *_ = each(lambda own: own(), todo, threaded=threaded)
        each(partial(solve, basis), blocks, threaded=threaded)

    def _prepare(self, x: Any, folds: list[slice], grams: list[Any], error: float, number: int) -> _Inner:
        """Decompose the training rows of x (m, D) in one inner fold and shrink its validation rows: by as few
        penalties as give the others within ``error``.
        """
        xp = namespace(x)
        dtype = np.dtype(self.config.products)
        valid = folds[number]
        train = xp.concat([x[: valid.start], x[valid.stop :]])
        basis = _decompose(train, [own for i, own in enumerate(grams) if i != number], dtype.name)
        scores = (x[valid] - basis.centre) @ basis.left  # (v, k)
        parts: list[tuple[slice, Any]] = []
        rows = []
        squares = host(basis.squares)
        for band in _bands(len(squares), BANDS if error else 1):
            inverses = 1.0 / (squares[band, None] + self.penalties_[:-1])  # (directions, A)
            few, weights = _span(squares[band], inverses, error)
            # The penalty acts on the few validation rows, not on the many readouts.
            shrunk = put(np.ascontiguousarray(few.T), self.device)[:, None] * scores[:, band]
            parts.append((band, xp.astype(shrunk, getattr(xp, dtype.name)).reshape(-1, shrunk.shape[-1])))
            rows.append(weights)
        combined = np.concatenate(rows, axis=1)
        whole = np.zeros((len(self.penalties_), combined.shape[1] + 1))
        whole[:-1, :-1] = combined
        whole[:, -1] = -1.0
        return _Inner(valid, basis.right, parts, put(whole.astype(dtype), self.device))

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(columns), self.config.block):
            yield columns[start : start + self.config.block]


def _bands(directions: int, number: int) -> list[slice]:
    """Divide directions in the order of their s into bands of about the same size."""
    edges = np.linspace(0, directions, min(number, max(directions, 1)) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _span(
    squares: NDArray[np.float64], inverses: NDArray[np.float64], error: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find a few vectors that span the ``inverses`` 1 / (s² + α), (directions, A), of all A penalties.

    Returns
    -------
    few
        (directions, r) combinations of the inverses by the leading right singular vectors of the shrinkages
        s² / (s² + α), as many as reproduce each shrinkage within ``error``; all inverses where fewer do not.
    weights
        (A, r) of the few in each.
    """
    if error:
        shrinkage = squares[:, None] * inverses
        left, size, right = np.linalg.svd(shrinkage, full_matrices=False)
        for r in range(len(size) + 1):
            if np.abs((left[:, :r] * size[:r]) @ right[:r] - shrinkage).max(initial=0.0) <= error:
                # Not the left vectors over s²: their rounding would not vanish with it.
                return inverses @ right[:r].T, right[:r].T
    return inverses, np.eye(inverses.shape[1])


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


def _centred(
    Y: NDArray[np.floating[Any]], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows and columns of Y as float64 less their means, and those means (columns,)."""
    y = Y[:, _beside(columns)][rows].astype(np.float64)
    centre = y.mean(axis=0)
    y -= centre
    return y, centre


def _beside(columns: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Ascending columns as a slice where they stand side by side, which is read and written much faster."""
    first, last = int(columns[0]), int(columns[-1])
    return slice(first, last + 1) if last - first == len(columns) - 1 else columns


def _decompose(X: Any, grams: list[Any], dtype: str = "float64") -> _Basis:
    """Decompose X (m, D), centred here, by the smaller of its two Gram matrices; ``right`` is a ``dtype``.

    ``grams`` are XᵀX of parts of the rows, whose sum saves forming it; none where they were not formed.
    """
    xp = namespace(X)
    m, D = X.shape
    centre = X.mean(axis=0)
    X = X - centre
    kind = getattr(xp, dtype)
    if m >= D:
        squares, V = eigh(sum(grams) - m * centre[:, None] * centre if grams else X.T @ X)
        right = (xp.astype(X, kind) @ xp.astype(V, kind)).T
        return _Basis(V, right, squares.clip(min=0.0), centre)
    squares, U = eigh(X @ X.T)
    return _Basis(X.T @ U, xp.astype(U.T, kind), squares.clip(min=0.0), centre)
