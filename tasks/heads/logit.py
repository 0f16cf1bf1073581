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

A readout is done when this is below ``tolerance`` times its objective. A design's arrays may be NumPy's or
torch's, on any device (:mod:`tasks.heads.arrays`).

References
----------
.. [1] Polak & Ribière, Note sur la convergence de méthodes de directions conjuguées, 1969, restarted where
   the direction does not descend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.heads.arrays import device, eigh, host, namespace

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

    scores: Any
    squares: Any
    axes: Any


@dataclass(eq=False)
class Fit:
    """Coefficients ``b`` (k, C) in a design's coordinates and intercepts ``c`` (C,), where the design is; and
    relative gaps (C,).
    """

    b: Any
    c: Any
    gap: NDArray[np.float64]


def diagonalise(X: Any) -> Design:
    """Rotate centred X (m, D) to its principal axes; directions without spread are left out."""
    xp = namespace(X)
    m, D = X.shape
    squares, vectors = eigh(X.T @ X if m >= D else X @ X.T)
    keep = squares > 1e-10 * max(float(squares[-1]), 1e-300)
    squares, vectors = squares[keep], vectors[:, keep]
    axes = vectors if m >= D else X.T @ vectors / xp.sqrt(squares)
    return Design(xp.astype(X @ axes, xp.float32), xp.astype(squares / m, xp.float32), axes)


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
    xp, where = namespace(design.scores), device(design.scores)
    seen = mask.astype(np.float32)
    y = np.where(mask, Y, 0.0).astype(np.float32)
    if start is None:
        prevalence = (y.sum(axis=0) / seen.sum(axis=0)).astype(np.float64)
        c = xp.asarray((np.log(prevalence) - np.log1p(-prevalence)).astype(np.float32), device=where)
        b = xp.zeros((len(design.squares), C), dtype=xp.float32, device=where)
        start = Fit(b, c, np.full(C, np.inf))
    out = Fit(xp.asarray(start.b, copy=True), xp.asarray(start.c, copy=True), np.full(C, np.inf))
    active = np.arange(C)
    begin = (xp.asarray(start.b, copy=True), xp.asarray(start.c, copy=True))
    y, seen, penalty = (xp.asarray(own, device=where) for own in (y, seen, alpha.astype(np.float32)))
    state = _State(design, y, seen, penalty, *begin)
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

    def __init__(self, design: Design, y: Any, seen: Any, alpha: Any, b: Any, c: Any) -> None:
        self.design, self.xp = design, namespace(y)
        self.y, self.seen, self.alpha, self.b, self.c = y, seen, alpha, b, c
        self.z = design.scores @ b
        self.z += c
        self.d, self.g = self.xp.zeros_like(b), self.xp.zeros_like(b)
        self.fresh = self.xp.ones_like(c)
        self.p = self._chances()

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the readouts that are done."""
        for name in ("y", "seen", "z", "p", "b", "d", "g"):
            own = getattr(self, name)[:, which]
            setattr(self, name, np.ascontiguousarray(own) if isinstance(own, np.ndarray) else own)
        for name in ("alpha", "c", "fresh"):
            setattr(self, name, getattr(self, name)[which])

    def gradient(self) -> NDArray[np.float64]:
        """Set the gradient and the next direction; return the duality gaps relative to the objective."""
        r = self.y - self.p
        g = self.alpha * self.b
        g -= self.design.scores.T @ r
        weight = self._dot(self.p, self.seen - self.p)
        h = g / (self.design.squares[:, None] * weight + self.alpha)
        fresh = self._dot(g, h)
        # Polak-Ribière in the metric of the preconditioner.
        beta = ((fresh - self._dot(self.g, h)) / self.fresh).clip(min=0.0)
        self.d *= beta
        self.d -= h
        uphill = self._dot(self.d, g) >= 0
        self.d[:, uphill] = -h[:, uphill]
        self.g, self.fresh = g, fresh.clip(min=float(np.finfo(np.float32).tiny))
        # What the intercept is off its optimum is added to second order.
        gap = self._dot(g, g) / (2.0 * self.alpha) + r.sum(axis=0) ** 2 / (2.0 * weight.clip(min=1e-12))
        return np.asarray(host(gap / self._objective(r)), np.float64)

    def step(self) -> None:
        """Go along the direction to the minimum over step and intercept, by Newton's method in two."""
        xp, double = self.xp, self.xp.float64
        q = self.design.scores @ self.d
        bd, dd = self._dot(self.b, self.d), self._dot(self.d, self.d)
        t = xp.zeros_like(self.c)
        for _ in range(LINE_STEPS):
            r, w = self.y - self.p, self.p * (self.seen - self.p)
            slope = xp.astype(self.alpha * (bd + t * dd) - self._dot(r, q), double)
            level = -r.sum(axis=0, dtype=double)
            ww = w.sum(axis=0, dtype=double) + 1e-12
            w *= q
            wq = w.sum(axis=0, dtype=double)
            qq = self._dot(w, q) + self.alpha * dd
            free = (qq - wq**2 / ww).clip(min=1e-30)
            more = -(slope - wq * level / ww) / free
            shift = -(level + wq * more) / ww
            change = q * xp.astype(more, xp.float32)
            change += xp.astype(shift, xp.float32)
            # Beyond this the curvature at hand says little.
            largest = xp.max(xp.abs(change), axis=0).clip(min=1e-12)
            brake = (STRIDE / largest).clip(max=1.0)
            change *= brake
            self.z += change
            t += brake * xp.astype(more, xp.float32)
            self.c += brake * xp.astype(shift, xp.float32)
            self.p = self._chances()
        self.b += t * self.d

    def _chances(self) -> Any:
        """σ(z) where observed, 0 elsewhere."""
        p = self.xp.exp(-self.z.clip(-LARGEST, LARGEST))
        p += 1.0
        return self.xp.divide(self.seen, p, out=p)

    def _objective(self, r: Any) -> Any:
        """Value at (b, c); |r| is the chance that was not given to what was observed."""
        given = self.xp.abs(r).clip(max=1.0 - 1e-7)
        loss = -self.xp.log1p(-given).sum(axis=0, dtype=self.xp.float64)
        return loss + 0.5 * self.alpha * self._dot(self.b, self.b)

    def _dot(self, a: Any, b: Any) -> Any:
        """Products of columns: Σ_m a_mc b_mc."""
        return self.xp.einsum("mc,mc->c", a, b)
