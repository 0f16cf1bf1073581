"""Quadratic models of the elastic net with more features than rows: Newton's method on their duals.

What :mod:`tasks.heads.coordinate` asks for over and over, for every readout with weights w and working
readouts v = z + residual,

    minimise over b, c:  P(b, c) = Σ_i w_i (v_i − c − x_iᵀ b)² / 2 + λ ‖b‖₁ + (β / 2) ‖b‖²

takes coordinate descent thousands of sweeps where features outnumber rows and resemble each other. With β > 0
the dual is smooth and has one variable per observed row, whatever the number of features:

    minimise over r, Σ_i r_i = 0:  F(r) = Σ_i (r_i² / (2 w_i) − v_i r_i) + Σ_j S(g_j, λ)² / (2 β),  g = Xᵀ r

S the soft threshold. At the minimum r are the weighted residuals, b_j = S(g_j, λ) / β, and the gradient r / w
− v + X b is −c. F is piecewise quadratic; a semismooth Newton step [1]_ solves

    (diag(1 / w) + X_A X_Aᵀ / β) d + c = v − r / w − X b,    Σ_i d_i = 0,    A = {j: |g_j| > λ}

a system of as many unknowns as there are rows or, by Woodbury's identity, features in A, whichever is less.
The step's length minimises F along d. As b is known at every step, so is the gap P(b, c) + F(r) ≥ P − min P.

References
----------
.. [1] Li, Sun & Toh, A highly efficient semismooth Newton augmented Lagrangian method for solving Lasso
   problems, SIAM J. Optim. 2018, section 3.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from tasks.jit import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FAST = {"reassoc", "contract"}
"""Sums may be taken in another order, by whole registers: five times as fast, and the same in every run."""

STEPS = 1000
"""Most Newton steps of a model."""

ROUNDING = 1e-13
"""Objectives within this share of each other differ by rounding: the later iterate has the smaller gap."""


@functools.cache
def kernel() -> Callable[..., None]:
    """Compile the Newton steps."""
    return compiled(_newton, fastmath=FAST, error_model="numpy")


def _newton(
    X: Array,
    weight: Array,
    residual: Array,
    b: Array,
    c: Array,
    z: Array,
    l1: Array,
    l2: Array,
    small: Array,
    served: NDArray[np.bool_],
    reached: NDArray[np.bool_],
    steps: int,
) -> None:
    """Minimise the model of every readout that is ``served`` in place, to a gap of ``small``.

    No start is left for a larger P, and ``reached`` tells where the gap was met. X (D, m); weight, residual,
    z (C, m), weight 0 where nothing is observed; b (C, D); c, l1, l2, small, served, reached (C,), l2
    positive.
    """
    D, wide = X.shape
    for t in np.flatnonzero(served):
        reached[t] = False
        rows = np.flatnonzero(weight[t])
        m = len(rows)
        x = X
        if m < wide:
            x = np.empty((D, m))
            for j in range(D):
                for i in range(m):
                    x[j, i] = X[j, rows[i]]
        w, v, r, d, right = np.empty(m), np.empty(m), np.empty(m), np.empty(m), np.empty((m, 2))
        for i in range(m):
            w[i] = weight[t, rows[i]]
            v[i] = z[t, rows[i]] + residual[t, rows[i]]
            r[i] = w[i] * residual[t, rows[i]]
        r -= r.mean()
        lam, beta = l1[t], l2[t]
        g = x @ r
        # P of the start, not its gap: that of a later iterate can be smaller, as F falls, where P is larger.
        least = 0.0
        for j in range(D):
            least += lam * np.abs(b[t, j]) + 0.5 * beta * b[t, j] ** 2
        for i in range(m):
            least += 0.5 * w[i] * residual[t, rows[i]] ** 2
        for step in range(steps):
            active = np.flatnonzero(np.abs(g) > lam)
            a = len(active)
            xa, ba = np.empty((a, m)), np.empty(a)
            for k in range(a):
                j = active[k]
                ba[k] = (g[j] - lam if g[j] > 0.0 else g[j] + lam) / beta
                for i in range(m):
                    xa[k, i] = x[j, i]
            made = np.zeros(m)
            if a:
                made[:] = xa.T @ ba
            centre = (w * (v - made)).sum() / w.sum()
            ridge = 0.5 * beta * (ba**2).sum()
            value = ridge + lam * np.abs(ba).sum()
            gap = ridge
            for i in range(m):
                value += 0.5 * w[i] * (v[i] - made[i] - centre) ** 2
                gap += r[i] * (0.5 * r[i] / w[i] - v[i])
            gap += value
            if value <= least * (1.0 + ROUNDING):
                least = min(value, least)
                b[t] = 0.0
                for k in range(a):
                    b[t, active[k]] = ba[k]
                c[t] = centre
            if gap <= small[t]:
                reached[t] = True
                break
            for i in range(m):
                right[i, 0], right[i, 1] = v[i] - r[i] / w[i] - made[i], 1.0
            if a < m:
                solved = np.empty((m, 2))
                for i in range(m):
                    solved[i, 0], solved[i, 1] = right[i, 0] * w[i], w[i]
                if a:
                    weighed = xa * w
                    system = weighed @ xa.T
                    for k in range(a):
                        system[k, k] += beta
                    solved -= weighed.T @ np.linalg.solve(system, weighed @ right)
            else:
                system = xa.T @ xa / beta
                for i in range(m):
                    system[i, i] += 1.0 / w[i]
                solved = np.linalg.solve(system, right)
            shift = solved[:, 0].sum() / solved[:, 1].sum()
            for i in range(m):
                d[i] = solved[i, 0] - shift * solved[i, 1]
            d -= d.mean()
            h = x @ d
            # F'(length) = constant + length · square + Σ_j S(g_j + length h_j) h_j / β does not decrease.
            constant = square = 0.0
            for i in range(m):
                constant += (r[i] / w[i] - v[i]) * d[i]
                square += d[i] * d[i] / w[i]
            low, high, length, falling, rising = 0.0, np.inf, 0.0, 0.0, 0.0
            first = -np.inf
            for _ in range(50):
                slope = 0.0
                for j in range(D):
                    ahead = g[j] + length * h[j]
                    slope += (max(ahead - lam, 0.0) + min(ahead + lam, 0.0)) * h[j]
                slope = constant + length * square + slope / beta
                if length == 0.0:
                    first = slope
                if slope < 0.0:
                    low, falling = length, slope
                else:
                    high, rising = length, slope
                if first >= 0.0 or (length > 0.0 and np.abs(slope) <= 0.01 * np.abs(first)):
                    break
                if high == np.inf:
                    length = 2.0 * length if length > 0.0 else 1.0
                else:
                    width = high - low
                    cut = low + width * falling / (falling - rising)
                    length = min(max(cut, low + 0.1 * width), high - 0.1 * width)
            if first >= 0.0:
                break  # nothing is left but rounding
            for i in range(m):
                r[i] += length * d[i]
            for j in range(D):
                g[j] += length * h[j]
            if step % 8 == 7:
                g = x @ r  # rid of what rounding has added up
        for i in range(wide):
            z[t, i] = c[t]
        for j in range(D):
            if b[t, j] != 0.0:
                for i in range(wide):
                    z[t, i] += b[t, j] * X[j, i]
