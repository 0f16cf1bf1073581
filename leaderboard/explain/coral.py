r"""Plate correction of embeddings by correlation alignment (CORAL).

Sun, Feng & Saenko 2016 (AAAI, "Return of Frustratingly Easy Domain Adaptation", Algorithm 1): a source X_s is
whitened with its own covariance and recoloured with the target's,

    X_s' = (X_s - m_s) (C_s + r I)^{-1/2} (C_t + r I)^{1/2} + m_t.

Here every plate is a source and all wells together are the target, on the leading principal components of the
standardised features, so that no plate is preferred and few wells suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RIDGE = 1.0
"""r, as in the paper, on components scaled to a mean variance of 1."""
COMPONENTS = 50


def components(X: NDArray[np.floating], most: int = COMPONENTS) -> NDArray[np.float64]:
    """Return (N, k) leading principal components of (N, D) standardised features, k at most ``most``.

    Constant and not finite features are left out; the components are scaled to a mean variance of 1.
    """
    X = np.asarray(X, np.float64)
    X = X[:, np.isfinite(X).all(axis=0)]
    spread = X.std(axis=0)
    kept = spread > 1e-12 * np.maximum(np.abs(X).max(axis=0, initial=0.0), 1.0)
    if not kept.any():
        return np.zeros((len(X), 0))
    Z = (X[:, kept] - X[:, kept].mean(axis=0)) / spread[kept]
    U, s, _ = np.linalg.svd(Z, full_matrices=False)
    k = min(most, int((s > 1e-9 * s[0]).sum()))
    U, s = U[:, :k], s[:k]
    # The sign of a singular vector is arbitrary: its largest entry is made positive.
    signs = np.sign(U[np.abs(U).argmax(axis=0), np.arange(k)])
    scores: NDArray[np.float64] = U * s * signs
    scores /= np.sqrt(scores.var(axis=0).mean())
    return scores


def coral(X: NDArray[np.floating], plate: NDArray[np.str_], ridge: float = RIDGE) -> NDArray[np.float64]:
    """Return (N, k) components with every plate's mean and covariance aligned to those of all wells.

    Parameters
    ----------
    X
        (N, k) components, from :func:`components`.
    plate
        (N,) plate of each well; a plate of one well is only centred.
    ridge
        r of the module's formula.
    """
    X = np.asarray(X, np.float64)
    mean, target = X.mean(axis=0), _root(np.cov(X, rowvar=False), ridge, 0.5)
    out = np.empty_like(X)
    for name in np.unique(plate):
        inside = plate == name
        own = X[inside] - X[inside].mean(axis=0)
        if len(own) > 1:
            own = own @ _root(np.cov(own, rowvar=False), ridge, -0.5) @ target
        out[inside] = own + mean
    return out


def _root(covariance: NDArray[np.float64], ridge: float, power: float) -> NDArray[np.float64]:
    """(C + r I)^power of a symmetric matrix."""
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    scaled: NDArray[np.float64] = (vectors * (values.clip(min=0.0) + ridge) ** power) @ vectors.T
    return scaled
