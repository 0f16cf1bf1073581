"""Elastic-net fits of many masked readouts at once, to a known distance from their optimum.

For every readout t with observed rows O_t, ℓ₁ weight λ_t and ℓ₂ weight β_t,

    minimise over b, c:  P(b, c) = Σ_{i ∈ O_t} L(y_it, z_i) + λ_t ‖b‖₁ + (β_t / 2) ‖b‖²,    z_i = c + x_iᵀ b

with L the squared error (y − z)² / 2 or the log loss log(1 + exp z) − y z. Coordinate descent [1]_ on the
quadratic model of L, with weights 1 or p (1 − p), runs readout by readout in compiled code over a working
set: the coefficients that are not zero and those whose gradient exceeds λ. What decides the working set and
when a readout is done, the gradients Xᵀ r, is one matrix product for a whole block of readouts.

Where features outnumber rows and β > 0, :mod:`tasks.heads.newton` minimises the quadratic models instead.
Its b = S(Xᵀ r, λ) / β magnifies rounding by 1 / β: a readout on which it stalls, by an ℓ₂ share that is next
to nothing or rows or features of very unlike scales, goes on by coordinate descent from where it stands.

With the intercept at its optimum Σ r = 0 for r = −∂L/∂z, and θ = s r, s = min(1, λ / ‖Xᵀ r − β b‖_∞), is
feasible in the dual of the problem whose rows are augmented by √β I [2]_. So the gap is known exactly:

    P − min P  ≤  P − D(θ) + s² β ‖b‖² / 2,    D(θ) = s yᵀ r − s² ‖r‖² / 2    or    Σ H((1 − s) y + s p)

H the entropy. A readout is done when this is below ``tolerance`` times P at b = 0.

References
----------
.. [1] Friedman, Hastie & Tibshirani, Regularization paths for generalized linear models via coordinate
descent,
   J. Stat. Softw. 2010, eqs. 5, 8 and 17.
.. [2] Kim et al., An interior-point method for large-scale l1-regularized least squares, IEEE J. Sel. Top.
Signal
   Process. 2007, section III.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.heads import newton
from tasks.jit import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SWEEPS = 200
"""Most passes of coordinate descent over a working set between two looks at all gradients."""

LEAST_WEIGHT = 1e-5
"""Smallest weight of a row in the quadratic model of the log loss, as a share of its residual |y − p|.

A row far on its right side keeps its weight, however small: a larger one would hold it where it stands.
"""

HALVINGS = 30
"""Most halvings of a step of the log loss that went up: what lowers the model lowers the loss if short."""

STALLS = 2
"""Looks on which Newton's method may fail a readout before coordinate descent takes it over."""

LARGEST = 35.0
"""Largest |z|: beyond it a chance is 0 or 1 in float64."""


@dataclass(eq=False)
class Fit:
    """Coefficients ``b`` (C, D), intercepts ``c`` (C,) and gaps (C,) relative to the objective without
    features.
    """

    b: Array
    c: Array
    gap: Array


def solve(
    X: Array,
    Y: Array,
    seen: NDArray[np.bool_],
    l1: Array,
    l2: Array,
    start: Fit | None = None,
    *,
    logistic: bool,
    tolerance: float = 1e-4,
    iterations: int = 100,
) -> Fit:
    """Minimise the module's objective for C readouts at once.

    Parameters
    ----------
    X
        (D, m) features by row, centred.
    Y, seen
        (C, m) readouts by row, and which of them are observed; at least one each, of both classes if
        ``logistic``.
    l1, l2
        (C,) λ and β, not negative, not both 0.
    start
        Where to begin; zero coefficients by default.
    tolerance
        Largest gap relative to the objective at b = 0.
    iterations
        Looks at all gradients; the gaps tell who reached the limit.
    """
    state = _State(X, np.where(seen, Y, 0.0), seen, l1, l2, start, logistic)
    # A Newton step more makes a squared error's fit exact; the log loss is another model at the next look.
    state.small = (1e-5 if state.smooth and not logistic else 0.1) * tolerance * state.nothing
    C = len(l1)
    out = Fit(np.zeros((C, len(X))), np.zeros(C), np.full(C, np.inf))
    left = np.arange(C)
    for _ in range(iterations):
        gap = state.look()
        out.gap[left] = gap
        done = gap <= tolerance
        if done.any():
            out.b[left[done]], out.c[left[done]] = state.b[done], state.c[done]
            left = left[~done]
            if not left.size:
                return out
            state.keep(~done)
        state.descend(gap[~done])
    out.b[left], out.c[left] = state.b, state.c
    return out


class _State:
    """The arrays of the readouts that are not done: (C, m), (C, D) and (C,)."""

    def __init__(
        self,
        X: Array,
        y: Array,
        seen: NDArray[np.bool_],
        l1: Array,
        l2: Array,
        start: Fit | None,
        logistic: bool,  # noqa: FBT001
    ) -> None:
        self.X, self.squares, self.logistic = X, X**2, logistic
        self.smooth = X.shape[0] > X.shape[1] and bool((l2 > 0.0).all())
        """Whether the dual is smooth and smaller than the problem, so that Newton's method serves it."""
        self.y, self.seen, self.l1, self.l2 = y, seen.astype(np.float64), l1, l2
        C = len(l1)
        self.b = np.zeros((C, len(X))) if start is None else start.b.copy()
        count = self.seen.sum(axis=1)
        mean = y.sum(axis=1) / count
        if logistic:
            self.c = np.log(mean) - np.log1p(-mean)
            self.nothing = count * (-mean * np.log(mean) - (1.0 - mean) * np.log1p(-mean))
        else:
            self.c = mean
            self.nothing = 0.5 * (self.seen * (y - mean[:, None]) ** 2).sum(axis=1)
        self.z = np.repeat(self.c[:, None], y.shape[1], axis=1)
        if start is not None:
            self.c = start.c.copy()
            self.z = self.b @ X + self.c[:, None]
        self.small, self.gap = np.zeros(C), np.full(C, np.inf)
        """Change of the objective at which sweeps stop, and the gap before them."""
        self.stalls, self.reached = np.zeros(C, np.int64), np.ones(C, bool)
        """Looks on which Newton's method got no further, and whether its last steps met their gap."""
        self.before = (np.full(C, np.inf), self.b.copy(), self.c.copy(), self.z.copy())

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the readouts that are done."""
        arrays = ("y", "seen", "l1", "l2", "b", "c", "z", "nothing", "small", "gap", "r", "g")
        for name in (*arrays, "stalls", "reached"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[which]))
        self.before = tuple(np.ascontiguousarray(a[which]) for a in self.before)  # type: ignore[assignment]

    def look(self) -> Array:
        """Centre the residuals, halve steps that went up, set the gradients; return the relative gaps."""
        value = self._residuals()
        if self.logistic:
            last, b, c, z = self.before
            for _ in range(HALVINGS):
                worse = value > last * (1.0 + 1e-12)
                if not worse.any():
                    break
                for own, old in ((self.b, b), (self.c, c), (self.z, z)):
                    own[worse] = 0.5 * (own[worse] + old[worse])
                value = self._residuals()
            self.before = (value, self.b.copy(), self.c.copy(), self.z.copy())
        self.g = self.r @ self.X.T  # (C, m) @ (m, D)
        largest = np.abs(self.g - self.l2[:, None] * self.b).max(axis=1, initial=0.0)
        s = np.minimum(1.0, np.divide(self.l1, largest, out=np.ones_like(largest), where=largest > 0))
        ridge = 0.5 * self.l2 * (self.b**2).sum(axis=1)
        if self.logistic:
            q = (1.0 - s)[:, None] * self.y + s[:, None] * (self.y - self.r)
            dual = (self.seen * _entropy(q)).sum(axis=1)
        else:
            dual = s * (self.y * self.r).sum(axis=1) - 0.5 * s**2 * (self.r**2).sum(axis=1)
        gap: Array = value - dual + s**2 * ridge
        relative: Array = np.divide(gap, self.nothing, out=np.zeros_like(gap), where=self.nothing > 0)
        return relative

    def descend(self, gap: Array) -> None:
        """Minimise the quadratic model of every readout, by coordinate descent over its working set.

        The gap is of first order in what is left of the gradient, the objective of second: where it hardly
        fell, the next sweeps go on for longer.
        """
        slow = gap > 0.5 * self.gap
        self.small[slow] *= 0.1
        self.gap = gap
        # The log loss has another model at every look: only one that was not minimised counts.
        self.stalls += slow & ~(self.reached & self.logistic)
        served = (self.stalls < STALLS) & self.smooth
        if self.logistic:
            p = self.y - self.r  # chances, where observed
            weight = np.maximum(p * (1.0 - p), LEAST_WEIGHT * np.abs(self.r)) * self.seen
        else:
            weight = self.seen
        residual = np.divide(self.r, weight, out=np.zeros_like(self.r), where=weight > 0)
        if served.any():
            newton.kernel()(
                self.X,
                weight,
                residual,
                self.b,
                self.c,
                self.z,
                self.l1,
                self.l2,
                self.small,
                served,
                self.reached,
                newton.STEPS,
            )
        if served.all():
            return
        excess = np.abs(self.g - self.l2[:, None] * self.b) > self.l1[:, None]
        curvature = weight @ self.squares.T  # (C, m) @ (m, D)
        kernel()(
            self.X,
            weight,
            residual,
            self.b,
            self.c,
            self.z,
            ((self.b != 0) | excess) & ~served[:, None],
            curvature,
            self.l1,
            self.l2,
            self.small,
            SWEEPS,
        )

    def _residuals(self) -> Array:
        """Set r with the intercept at its optimum; return the objective P."""
        if self.logistic:
            for _ in range(50):
                p = 1.0 / (1.0 + np.exp(-np.clip(self.z, -LARGEST, LARGEST)))
                self.r = self.seen * (self.y - p)
                off = self.r.sum(axis=1)
                shift = off / np.maximum((self.seen * p * (1.0 - p)).sum(axis=1), 1e-9)
                if (np.abs(off) <= 1e-10 * self.seen.sum(axis=1)).all():
                    break
                np.clip(shift, -2.0, 2.0, out=shift)
                self.c += shift
                self.z += shift[:, None]
            loss = self.seen * (np.logaddexp(0.0, self.z) - self.y * self.z)
        else:
            self.r = self.seen * (self.y - self.z)
            shift = self.r.sum(axis=1) / self.seen.sum(axis=1)
            self.c += shift
            self.z += shift[:, None]
            self.r = self.seen * (self.y - self.z)
            loss = 0.5 * self.r**2
        penalty = self.l1 * np.abs(self.b).sum(axis=1) + 0.5 * self.l2 * (self.b**2).sum(axis=1)
        value: Array = loss.sum(axis=1) + penalty
        return value


def _entropy(q: Array) -> Array:
    """H(q) = −q log q − (1 − q) log(1 − q), 0 at the ends."""
    from scipy.special import entr

    value: Array = entr(q) + entr(1.0 - q)
    return value


@functools.cache
def kernel() -> Callable[..., None]:
    """Compile the coordinate descent."""
    return compiled(_descend, fastmath=newton.FAST)


def _descend(
    X: Array,
    weight: Array,
    residual: Array,
    b: Array,
    c: Array,
    z: Array,
    work: NDArray[np.bool_],
    curvature: Array,
    l1: Array,
    l2: Array,
    small: Array,
    sweeps: int,
) -> None:
    """Coordinate descent of every readout t on ½ Σ w (residual)² + λ ‖b‖₁ + β ‖b‖² / 2, in place.

    b_j ← S(Σ_i w_i x_ij r_i + h_j b_j, λ) / (h_j + β), S the soft threshold and h_j = Σ_i w_i x_ij²; after
    each sweep the intercept takes the weighted mean of the residuals. Stops when a sweep's steps change the
    objective by less than ``small``. X (D, m); weight, residual, z (C, m); b, work, curvature (C, D).
    """
    C, m = residual.shape
    for t in range(C):
        columns = np.flatnonzero(work[t])
        w, r, zt = weight[t], residual[t], z[t]
        total = w.sum()
        for _ in range(sweeps):
            change = 0.0
            for j in columns:
                x = X[j]
                old, h = b[t, j], curvature[t, j]
                if h + l2[t] <= 0.0:
                    continue
                g = h * old
                for i in range(m):
                    g += w[i] * x[i] * r[i]
                new = 0.0
                if g > l1[t]:
                    new = (g - l1[t]) / (h + l2[t])
                elif g < -l1[t]:
                    new = (g + l1[t]) / (h + l2[t])
                step = new - old
                if step != 0.0:
                    b[t, j] = new
                    for i in range(m):
                        r[i] -= step * x[i]
                        zt[i] += step * x[i]
                    change += (h + l2[t]) * step * step
            shift = 0.0
            for i in range(m):
                shift += w[i] * r[i]
            shift /= total
            c[t] += shift
            for i in range(m):
                r[i] -= shift
                zt[i] += shift
            if change <= small[t]:
                break
