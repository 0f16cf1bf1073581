"""The model for use: everything chosen and fitted on all units with readouts, and how far new wells are from
them.

What a fold of an evaluation does on its training units is done once on all of them: the member of the
normalisation menu and the projection are chosen by the head's inner folds, one for all strata of ``fit_by``.
A new well is normalised by the negative controls of its own plate, then standardised, selected and projected
by the training units, which the model keeps for that purpose.

*Domain.* The distance of a well is the mean Euclidean distance to its K nearest training units in the space
that the head sees (:data:`NEIGHBOURS` = K). It is calibrated on units of held-out perturbations: each
training unit's distance to the units outside its own inner fold, which hold none of its perturbation. With n
of these, the share

    s(z) = (1 + #{i : d_i ≥ d(z)}) / (1 + n)

is a conformal p-value of "as close to the training units as a new perturbation of the same screen is" (Vovk
et al., Algorithmic learning in a random world, 2005); a well is out of domain where s < :data:`LEVEL`. So
about that share of the wells of a like screen is flagged too. Held-out units have fewer neighbours than new
wells have: the flag errs towards staying silent by what one inner fold of units adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import normalise
from tasks.base import Head, TaskError
from tasks.design import design
from tasks.evaluate import _relative, build, to_units
from tasks.folds import assign, split_groups, strata

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from tasks.base import TaskData
    from tasks.protocol import Protocol, Selection

NEIGHBOURS = 5
LEVEL = 0.05
POOLED = ("tvn",)
"""Normalisations that mix the controls of all plates: a new plate would change what the head was fitted
to."""


@dataclass(eq=False)
class Stratum:
    """One stratum's model.

    Parameters
    ----------
    units
        (n, D) float64 features of its training units after the plate normalisation.
    head
        Fitted on their design matrix.
    distances
        (n,) ascending distances of held-out units, see the module.
    chosen
        Setting name to (T,) values or scalars, as the inner folds chose them.
    """

    units: NDArray[np.float64]
    head: Head
    distances: NDArray[np.float64]
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Model:
    """Heads by stratum, and what stands between a well's features and them."""

    normalisation: str
    projection: str
    selection: Selection
    columns: tuple[str, ...]
    readouts: tuple[str, ...]
    fit_by: tuple[str, ...]
    strata: dict[str, Stratum]

    def predict(
        self, wells: pd.DataFrame, control: NDArray[np.bool_], X: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return predictions (N, T) and shares s (N,) of the module for wells with features X (N, D).

        Rows without features, or of a stratum that the model does not know, are NaN.

        Parameters
        ----------
        wells
            ``Metadata_Plate`` and the columns of ``fit_by``.
        control
            (N,) negative controls, by which plates are normalised.

        Raises
        ------
        TaskError
            When the features have another width, or plates lack the controls that the normalisation needs.
        """
        if X.shape[1] != len(self.columns):
            raise TaskError(
                f"the wells have {X.shape[1]} features, the model was fitted on {len(self.columns)}"
            )
        values = np.asarray(X, np.float64)
        if self.normalisation not in normalise.PLAIN:
            layout = normalise.plates(wells, control, X)
            if isinstance(layout, str):
                raise TaskError(
                    f"the model normalises every plate to its negative controls ({self.normalisation}), and "
                    f"{layout}"
                )
            values = normalise.apply(self.normalisation, X, layout)
        prediction = np.full((len(X), len(self.readouts)), np.nan, np.float32)
        share = np.full(len(X), np.nan)
        present = np.isfinite(values).any(axis=1)
        own = strata(wells, self.fit_by, "fit_by")
        for name, stratum in self.strata.items():
            rows = np.flatnonzero(present & (own == name))
            if rows.size == 0:
                continue
            train = np.arange(len(stratum.units))
            whole = np.concatenate([stratum.units, values[rows]])
            Z, _ = design([whole], train, self.normalisation, self.projection, self.selection, [self.columns])
            known, new = Z[: len(train)], Z[len(train) :]
            prediction[rows] = stratum.head.predict(new)
            farther = len(stratum.distances) - np.searchsorted(stratum.distances, distance(new, known))
            share[rows] = (1.0 + farther) / (1.0 + len(stratum.distances))
        return prediction, share


def fit(
    data: TaskData,
    X: NDArray[np.float32],
    columns: tuple[str, ...],
    protocol: Protocol,
    head: type[Head] | Callable[[], Head],
) -> Model:
    """Choose and fit on every unit that is no control and has features X (N, D) of its wells.

    Raises
    ------
    TaskError
        When no unit has features, or the protocol offers no normalisation that a new plate can have.
    """
    layout = normalise.plates(data.wells, data.well_control, X)
    stratum = strata(data.units, data.fit_by, "fit_by")
    groups = split_groups(data, protocol)
    best: tuple[float, str, str, dict[str, Stratum]] | None = None
    for name in protocol.normalisation:
        if name in POOLED or (name not in normalise.PLAIN and isinstance(layout, str)):
            continue
        wells = X if name in normalise.PLAIN or isinstance(layout, str) else normalise.apply(name, X, layout)
        units = to_units(data, wells)
        usable = ~data.control & np.isfinite(units).any(axis=1)
        if not usable.any():
            raise TaskError("no unit with readouts has features: there is nothing to fit on")
        for projection in protocol.pca:
            loss, found = 0.0, {}
            for value in np.unique(stratum[usable]):
                rows = np.flatnonzero(usable & (stratum == value))
                own = units[rows]
                Z, settled = design(
                    [own], np.arange(len(rows)), name, projection, protocol.selection, [columns]
                )
                y = data.Y[rows]
                mask = ~np.isnan(y)
                fitted = build(head, protocol).fit(Z, y, mask, groups[rows])
                loss += _relative(fitted.inner_loss_, y, mask)
                fold = assign(groups[rows], protocol.inner_folds, protocol.seed)
                found[str(value)] = Stratum(
                    own, fitted, held_out_distances(Z, fold), {**fitted.chosen_, **settled}
                )
            if best is None or loss < best[0]:
                best = (loss, name, projection, found)
    if best is None:
        why = f", and {layout}" if isinstance(layout, str) else ""
        raise TaskError(
            f"protocol {protocol.name!r} offers no normalisation that one plate can have alone{why}"
        )
    return Model(best[1], best[2], protocol.selection, columns, data.readouts, data.fit_by, best[3])


def held_out_distances(Z: NDArray[np.float64], fold: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return ascending distances of units Z (n, D) to the units outside their own fold; empty with one
    fold.
    """
    found = [
        distance(Z[fold == k], Z[fold != k])
        for k in np.unique(fold)
        if (fold == k).any() and (fold != k).any()
    ]
    return np.sort(np.concatenate(found)) if found else np.zeros(0)


def distance(Z: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (v,) mean Euclidean distances of Z (v, D) to their nearest rows of ``known`` (n, D)."""
    k = min(NEIGHBOURS, len(known))
    squares = (Z**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2.0 * (Z @ known.T)
    nearest = np.partition(squares.clip(min=0.0), k - 1, axis=1)[:, :k]
    mean: NDArray[np.float64] = np.sqrt(nearest).mean(axis=1)
    return mean
