"""Logistic fits of many masked readouts at once, to a known distance from their optimum.

For every readout t with observed rows O_t and calls y_it in {0, 1},

    minimise over b, c:  f(b, c) = Σ_{i ∈ O_t} [log(1 + exp z_i) − y_it z_i] + (α_t / 2) ‖b‖²

with z_i = c + x_iᵀ b. All readouts share the centred features X = U S Vᵀ, so b is sought in the coordinates
X V, where XᵀX is diagonal. There the Hessian is close to diag(w̄ s² + α), w̄ the mean weight p (1 − p) of the
readout's rows: a preconditioner that costs nothing. Preconditioned nonlinear conjugate gradients [1]_ then
take every readout of a block along by two matrix products per step, X d and Xᵀ r; the step length and the
intercept are found together by Newton's method on values that are already there.

With the intercept at its optimum, Σ_i r_i = 0 for r = y − σ(z), so r is feasible in the dual problem and the
duality gap is known exactly:

    f(b, c) − min f  ≤  ‖α b − Xᵀ r‖² / (2 α)

A readout is done when this is below ``tolerance`` times its objective.

References
----------
.. [1] Polak & Ribière, Note sur la convergence de méthodes de directions conjuguées, 1969, restarted where
   the direction does not descend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

LINE_STEPS = 2
"""Newton steps of the step length and the intercept per iteration."""

STRIDE = 4.0
"""Largest change of any z in one Newton step."""

LARGEST = 80.0
"""Largest |z| that float32 exponentials take."""


@dataclass(frozen=True, eq=False)
class Design:
    """Rows in coordinates where their Gram matrix is diagonal.

    Parameters
    ----------
    scores
        (m, k) float32, X V.
    squares
        (k,) float32, the diagonal s² of its Gram matrix, over m.
    axes
        (D, k) V.
    """

    scores: NDArray[np.float32]
    squares: NDArray[np.float32]
    axes: NDArray[np.float64]


@dataclass(eq=False)
class Fit:
    """Coefficients ``b`` (k, C) in a design's coordinates, intercepts ``c`` (C,) and relative gaps (C,)."""

    b: NDArray[np.float32]
    c: NDArray[np.float32]
    gap: NDArray[np.float64]


def diagonalise(X: NDArray[np.float64]) -> Design:
    """Rotate centred X (m, D) to its principal axes; directions without spread are left out."""
    from scipy.linalg import eigh

    m, D = X.shape
    gram = X.T @ X if m >= D else X @ X.T
    squares, vectors = eigh(gram, driver="evd", check_finite=False, overwrite_a=True)
    keep = squares > 1e-10 * max(float(squares[-1]), 1e-300)
    squares, vectors = squares[keep], vectors[:, keep]
    axes = vectors if m >= D else X.T @ vectors / np.sqrt(squares)
    return Design((X @ axes).astype(np.float32), (squares / m).astype(np.float32), axes)


def log_loss(z: Array, y: Array, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (C,) Σ log(1 + exp z) − y z over the rows where mask (m, C) is True."""
    terms = np.where(mask, np.logaddexp(0.0, z) - np.where(mask, y, 0.0) * z, 0.0)
    total: NDArray[np.float64] = terms.sum(axis=0, dtype=np.float64)
    return total


def solve(
    design: Design,
    Y: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_],
    alpha: NDArray[np.float64],
    start: Fit | None = None,
    *,
    tolerance: float = 1e-4,
    iterations: int = 500,
) -> Fit:
    """Minimise the module's objective for C readouts at once, each of which has rows of both classes.

    Parameters
    ----------
    design
        The m rows.
    Y, mask
        (m, C) calls and which of them are observed.
    alpha
        (C,) finite penalties.
    start
        Where to begin; zero coefficients and the prevalence by default.
    tolerance
        Largest duality gap of a fit, relative to its objective.
    iterations
        Limit; the gaps tell who reached it.
    """
    C = len(alpha)
    seen = mask.astype(np.float32)
    y = np.where(mask, Y, 0.0).astype(np.float32)
    if start is None:
        prevalence = (y.sum(axis=0) / seen.sum(axis=0)).astype(np.float64)
        c = np.log(prevalence) - np.log1p(-prevalence)
        start = Fit(np.zeros((len(design.squares), C), np.float32), c.astype(np.float32), np.full(C, np.inf))
    out = Fit(start.b.copy(), start.c.copy(), np.full(C, np.inf))
    active = np.arange(C)
    state = _State(design, y, seen, alpha.astype(np.float32), start.b.copy(), start.c.copy())
    for _ in range(iterations):
        gap = state.gradient()
        out.gap[active] = gap
        done = gap <= tolerance
        if done.any():
            out.b[:, active[done]], out.c[active[done]] = state.b[:, done], state.c[done]
            active = active[~done]
            if not active.size:
                return out
            state.keep(~done)
        state.step()
    out.b[:, active], out.c[active] = state.b, state.c
    return out


class _State:
    """The iteration's arrays for the readouts that are not done: (m, C), (k, C) and (C,), float32."""

    def __init__(
        self,
        design: Design,
        y: NDArray[np.float32],
        seen: NDArray[np.float32],
        alpha: NDArray[np.float32],
        b: NDArray[np.float32],
        c: NDArray[np.float32],
    ) -> None:
        self.design = design
        self.y, self.seen, self.alpha, self.b, self.c = y, seen, alpha, b, c
        self.z = design.scores @ b
        self.z += c
        self.d, self.g = np.zeros_like(b), np.zeros_like(b)
        self.fresh = np.ones(len(alpha), np.float32)
        self.p = self._chances()

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the readouts that are done."""
        for name in ("y", "seen", "z", "p", "b", "d", "g"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[:, which]))
        for name in ("alpha", "c", "fresh"):
            setattr(self, name, getattr(self, name)[which])

    def gradient(self) -> NDArray[np.float64]:
        """Set the gradient and the next direction; return the duality gaps relative to the objective."""
        r = self.y - self.p
        g = self.alpha * self.b
        g -= self.design.scores.T @ r
        weight = _dot(self.p, self.seen - self.p)
        h = g / (self.design.squares[:, None] * weight + self.alpha)
        fresh = _dot(g, h)
        # Polak-Ribière in the metric of the preconditioner.
        beta = ((fresh - _dot(self.g, h)) / self.fresh).clip(min=0.0)
        self.d *= beta
        self.d -= h
        uphill = _dot(self.d, g) >= 0
        self.d[:, uphill] = -h[:, uphill]
        self.g, self.fresh = g, np.maximum(fresh, np.finfo(np.float32).tiny)
        # What the intercept is off its optimum is added to second order.
        gap = _dot(g, g) / (2.0 * self.alpha) + r.sum(axis=0) ** 2 / (2.0 * np.maximum(weight, 1e-12))
        return np.asarray(gap / self._objective(r), np.float64)

    def step(self) -> None:
        """Go along the direction to the minimum over step and intercept, by Newton's method in two."""
        q = self.design.scores @ self.d
        bd, dd = _dot(self.b, self.d), _dot(self.d, self.d)
        t = np.zeros_like(self.c)
        for _ in range(LINE_STEPS):
            r, w = self.y - self.p, self.p * (self.seen - self.p)
            slope = (self.alpha * (bd + t * dd) - _dot(r, q)).astype(np.float64)
            level = -r.sum(axis=0, dtype=np.float64)
            ww = w.sum(axis=0, dtype=np.float64) + 1e-12
            w *= q
            wq = w.sum(axis=0, dtype=np.float64)
            qq = _dot(w, q) + self.alpha * dd
            free = np.maximum(qq - wq**2 / ww, 1e-30)
            more = -(slope - wq * level / ww) / free
            shift = -(level + wq * more) / ww
            change = q * more.astype(np.float32)
            change += shift.astype(np.float32)
            # Beyond this the curvature at hand says little.
            largest = np.maximum(np.abs(change).max(axis=0), np.float32(1e-12))
            brake = np.minimum(np.float32(1.0), np.float32(STRIDE) / largest)
            change *= brake
            self.z += change
            t += brake * more.astype(np.float32)
            self.c += brake * shift.astype(np.float32)
            self.p = self._chances()
        self.b += t * self.d

    def _chances(self) -> NDArray[np.float32]:
        """σ(z) where observed, 0 elsewhere."""
        p: NDArray[np.float32] = np.exp(-np.clip(self.z, -LARGEST, LARGEST))
        p += np.float32(1.0)
        np.divide(self.seen, p, out=p)
        return p

    def _objective(self, r: NDArray[np.float32]) -> NDArray[np.float64]:
        """Value at (b, c); |r| is the chance that was not given to what was observed."""
        given = np.minimum(np.abs(r), np.float32(1.0 - 1e-7))
        loss = -np.log1p(-given).sum(axis=0, dtype=np.float64)
        return np.asarray(loss + 0.5 * self.alpha * _dot(self.b, self.b))


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of columns: Σ_m a_mc b_mc."""
    product: NDArray[np.float32] = np.einsum("mc,mc->c", a, b)
    return product
