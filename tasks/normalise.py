"""Normalisation of well features: the menu from which a run's inner folds choose.

``none``
    Wells as they are, and not standardised afterwards either.
``fold``
    Wells as they are.
``plate-standardise``
    Per plate: minus the mean, divided by the population standard deviation of that plate's negative controls.
``plate-mad``
    Per plate: minus the median, divided by 1.4826 × the median absolute deviation of the controls.
``plate-spherise``
    ``plate-standardise``, then z W with W = ((1 − γ) C + γ I)^(−1/2), C the controls' correlation matrix on
    that plate and γ the Ledoit–Wolf shrinkage: ZCA whitening of the controls [1]_, [2]_. W is computed from
    the singular vectors of the centred *and scaled* controls, so that C is what is whitened.
``tvn``
    Typical variation normalisation as EFAAR has it [3]_: all wells standardised to the controls of all
    plates, rotated to the controls' principal components, each divided by the controls' standard deviation,
    then per plate z (C + I / 2)^(−1/2), C the covariance (divisor m − 1) of that plate's controls. Components
    without variance among the controls are left out, so there are at most as many as controls less one.

Every member of the menu but ``none`` is followed by :func:`standardise`, fitted on the training units of the
outer fold.
Nothing but negative controls is used here, so no test row is.

References
----------
.. [1] Kessy, Lewin & Strimmer, Optimal whitening and decorrelation, Am. Stat. 2018, eq. 8 (ZCA-cor).
.. [2] Ledoit & Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
   J. Multivar. Anal. 2004.
.. [3] Celik et al., Building, benchmarking, and exploring perturbative maps of transcriptional and
   morphological data, PLoS Comput. Biol. 2024; Ando et al. 2017, whose method it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

PLAIN = ("none", "fold")
"""Members that need no controls."""

MIN_CONTROLS = 4
"""Fewest negative controls of a plate from which its centre and spread are estimated."""

NEGLIGIBLE = 1e-6
"""A spread below this share of the controls' largest absolute value is float32 rounding, and counts as 0."""


@dataclass(frozen=True, eq=False)
class Plates:
    """Which rows of X are a plate's wells and which of these are controls with features.

    ``wells`` and ``controls`` hold one index array per plate, in the order of ``names``.
    """

    names: tuple[str, ...]
    wells: tuple[NDArray[np.int64], ...]
    controls: tuple[NDArray[np.int64], ...]


def plates(wells: pd.DataFrame, control: NDArray[np.bool_], X: NDArray[np.floating]) -> Plates | str:
    """Return the plates, or the reason why no plate normalisation is available."""
    if "Metadata_Plate" not in wells.columns:
        return "the wells have no column Metadata_Plate"
    present = ~np.isnan(X).all(axis=1)
    plate = wells["Metadata_Plate"].astype(str).to_numpy()
    names = np.unique(plate)
    rows = tuple(np.flatnonzero(plate == name) for name in names)
    controls = tuple(np.flatnonzero((plate == name) & control & present) for name in names)
    for name, own in zip(names, controls, strict=True):
        if len(own) < MIN_CONTROLS:
            return f"plate {name} has {len(own)} negative controls with features, {MIN_CONTROLS} are needed"
    return Plates(tuple(str(n) for n in names), rows, controls)


def apply(name: str, X: NDArray[np.floating], layout: Plates) -> NDArray[np.float64]:
    """Return X (N, D) normalised per plate by the named member of the menu, as float64; ``tvn`` gives (N, k).

    A feature whose controls have no spread on a plate is divided by its spread over the controls of all
    plates (each plate's centred first), and by 1 where that is 0 too; ``plate-spherise`` leaves it out of its
    mixing. A difference from the control mean that is rounding becomes 0. NaN stays NaN, except that
    ``plate-spherise`` and ``tvn`` put a missing feature of a present well at the control mean.
    """
    if name in PLAIN:
        return np.asarray(X, np.float64)
    if name not in _MENU:
        raise TaskError(
            f"there is no normalisation {name!r}; there are: {', '.join((*PLAIN, *sorted(_MENU)))}"
        )
    return _MENU[name](np.asarray(X, np.float64), layout)


def standardise(X: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return X (n, D) minus the mean, divided by the population standard deviation of the training rows.

    A feature that does not vary over the training rows, or is missing in all of them, becomes 0; a missing
    feature of a row is put at the training mean. Rows without any feature stay NaN.
    """
    own = X[train]
    known = ~np.isnan(own)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, own, 0.0)
    centre = filled.sum(axis=0) / count
    spread = np.sqrt(np.where(known, (filled - centre) ** 2, 0.0).sum(axis=0) / count)
    varies = spread > NEGLIGIBLE * np.abs(filled).max(axis=0, initial=0.0)
    Z: NDArray[np.float64] = (X - centre) * np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
    Z[:, ~varies] = 0.0
    absent = np.isnan(X).all(axis=1)
    Z[np.isnan(Z)] = 0.0
    Z[absent] = np.nan
    return Z


def balanced(blocks: Sequence[NDArray[np.float64]], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Join standardised blocks (n, D_b) so that each has the same share of the rows' mean squared norm.

    Block b of B is multiplied by (D / (B D_b))^½, D_b its features that vary over the training rows and D
    their number in all: 3,000 columns then weigh no more in a penalty or a distance than 100, and the mean
    squared norm of a training row is D, as without blocks. A single block is returned as it is.
    """
    if len(blocks) == 1:
        return blocks[0]
    live = np.array([max(1, int((Z[train] != 0.0).any(axis=0).sum())) for Z in blocks], np.float64)
    factors = np.sqrt(live.sum() / (len(blocks) * live))
    return np.hstack([Z * factor for Z, factor in zip(blocks, factors, strict=True)])


def _scaled(
    X: NDArray[np.float64],
    layout: Plates,
    centre: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    spread: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Centre and scale each plate on its controls; ``spread`` takes centred values."""
    centres = [_ignoring_nan(centre, X[own]) for own in layout.controls]
    centred = [X[own] - c for own, c in zip(layout.controls, centres, strict=True)]
    size = [np.nanmax(np.abs(X[own]), axis=0, initial=0.0) for own in layout.controls]
    pooled = _ignoring_nan(spread, np.concatenate(centred))
    pooled = np.where(pooled > NEGLIGIBLE * np.max(size, axis=0), pooled, 1.0)
    out = np.empty_like(X)
    for rows, c, values, largest in zip(layout.wells, centres, centred, size, strict=True):
        own = _ignoring_nan(spread, values)
        divisor = np.where(own > NEGLIGIBLE * largest, own, pooled)
        difference = X[rows] - c
        # What is left of equal numbers is rounding; standardised again, it would outgrow every real value.
        difference[np.abs(difference) <= NEGLIGIBLE * largest] = 0.0
        out[rows] = difference / divisor
    return out


def _ignoring_nan(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Apply a NaN-ignoring statistic over rows; 0 for a column without any value."""
    empty = np.isnan(values).all(axis=0)
    return statistic(np.where(empty, 0.0, values))


def _standardise(X: NDArray[np.float64], layout: Plates) -> NDArray[np.float64]:
    return _scaled(X, layout, lambda v: np.nanmean(v, axis=0), lambda v: np.sqrt(np.nanmean(v**2, axis=0)))


def _mad(X: NDArray[np.float64], layout: Plates) -> NDArray[np.float64]:
    return _scaled(
        X, layout, lambda v: np.nanmedian(v, axis=0), lambda v: 1.4826 * np.nanmedian(np.abs(v), axis=0)
    )


def _spherise(X: NDArray[np.float64], layout: Plates) -> NDArray[np.float64]:
    Z = _standardise(X, layout)
    absent = np.isnan(X).all(axis=1)
    Z[np.isnan(Z)] = 0.0
    for rows, own in zip(layout.wells, layout.controls, strict=True):
        # A feature without spread among the controls stays out: whitening would only mix rounding into it.
        live = np.flatnonzero((Z[own] != 0.0).any(axis=0))
        if live.size:
            Z[np.ix_(rows, live)] = whiten(Z[np.ix_(rows, live)], Z[np.ix_(own, live)])
    Z[absent] = np.nan
    return Z


def _tvn(X: NDArray[np.float64], layout: Plates) -> NDArray[np.float64]:
    absent = np.isnan(X).all(axis=1)
    everywhere = Plates(("",), (np.arange(len(X)),), (np.concatenate(layout.controls),))
    Z = _standardise(X, everywhere)
    Z[np.isnan(Z)] = 0.0
    own = everywhere.controls[0]
    _, s, Vt = np.linalg.svd(Z[own] - Z[own].mean(axis=0), full_matrices=False)
    live = s > NEGLIGIBLE * max(float(s.max(initial=0.0)), 1e-300)
    if not live.any():
        Z = np.zeros((len(X), 1))
        Z[absent] = np.nan
        return Z
    # Scores of the controls have variance s² / m, which is what they are divided by.
    Z = (Z - Z[own].mean(axis=0)) @ (Vt[live].T / s[live] * np.sqrt(len(own)))
    for rows, controls in zip(layout.wells, layout.controls, strict=True):
        C = np.atleast_2d(np.cov(Z[controls], rowvar=False, ddof=1))
        values, vectors = np.linalg.eigh(C + 0.5 * np.eye(len(C)))
        Z[rows] = Z[rows] @ (vectors / np.sqrt(values) @ vectors.T)
    Z[absent] = np.nan
    white: NDArray[np.float64] = Z
    return white


def whiten(
    Z: NDArray[np.float64], controls: NDArray[np.float64], shrinkage: float | None = None
) -> NDArray[np.float64]:
    """Return Z W, W = ((1 − γ) C + γ μ I)^(−1/2), C the covariance (divisor m) of ``controls`` (m, D).

    μ = tr C / D, so the shrunk matrix keeps the total variance; γ is the Ledoit–Wolf shrinkage unless given.
    Only the min(m, D) singular vectors of the controls are computed: on their complement W is (γ μ)^(−1/2) I.

    Raises
    ------
    TaskError
        When γ is 0 and C is singular.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = controls - controls.mean(axis=0)
    m, D = centred.shape
    mu = float((centred**2).sum() / (m * D))
    if mu == 0.0:
        return Z
    gamma = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if shrinkage is None else shrinkage
    _, s, Vt = np.linalg.svd(centred, full_matrices=False)
    variance = (1.0 - gamma) * s**2 / m + gamma * mu
    if gamma == 0.0 and (m <= D or variance.min() <= 1e-12 * variance.max()):
        raise TaskError(f"{m} controls cannot whiten {D} features without shrinkage")
    rest = (gamma * mu) ** -0.5 if gamma > 0.0 else 0.0
    scores = Z @ Vt.T
    white: NDArray[np.float64] = Z * rest + (scores * (variance**-0.5 - rest)) @ Vt
    return white


_MENU: dict[str, Callable[[NDArray[np.float64], Plates], NDArray[np.float64]]] = {
    "plate-standardise": _standardise,
    "plate-mad": _mad,
    "plate-spherise": _spherise,
    "tvn": _tvn,
}
