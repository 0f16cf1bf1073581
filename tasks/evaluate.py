"""One outer fold of one run: normalise, choose in inner folds, fit on training units, predict tested ones.

Nothing here reads a tested unit before prediction: plate normalisations are fitted on negative controls,
everything else on the training units of the fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import normalise
from tasks.base import Block, FoldId, FoldResult, Head, TaskData, TaskError
from tasks.design import design
from tasks.folds import ids, split_groups, strata
from tasks.folds import split as divide
from tasks.heads.mean import observed_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from tasks.base import FeatureSupplier
    from tasks.protocol import Protocol


def run(
    data: TaskData,
    features: FeatureSupplier,
    protocol: Protocol,
    folds: pd.DataFrame,
    head: type[Head] | Callable[[], Head],
    ids: Iterable[FoldId] | None = None,
    permute_seed: int | None = None,
) -> list[FoldResult]:
    """Run the outer folds ``ids`` (all of ``folds`` by default), one after the other."""
    chosen = all_ids(folds) if ids is None else ids
    return [run_fold(data, features, protocol, folds, own, head, permute_seed) for own in chosen]


def all_ids(folds: pd.DataFrame) -> list[FoldId]:
    """Return every outer fold of a fold table, ascending."""
    return [FoldId(*own) for own in ids(folds)]


def run_fold(
    data: TaskData,
    features: FeatureSupplier,
    protocol: Protocol,
    folds: pd.DataFrame,
    id: FoldId,  # noqa: A002 the contract's word
    head: type[Head] | Callable[[], Head],
    permute_seed: int | None = None,
    device: str = "cpu",
) -> FoldResult:
    """Fit on the training units of one outer fold and predict its tested units.

    Per member of the normalisation menu that the plates allow, and per projection: wells are normalised,
    averaged into units, standardised, selected and projected on the training units (:mod:`tasks.design`), and
    a head is fitted per stratum of ``fit_by``. The pair is kept whose mean over readouts of (inner loss /
    training sum of squares) is smallest (ties: the earlier in the menus); all strata share it. The floor is
    the mean of the training units' observed readouts per stratum, whether or not they have features, so that
    every entrant is scored against the same floor.

    Parameters
    ----------
    features
        Gives (N, D) well features for this outer fold; an all-NaN row is a well without features. A unit none
        of whose wells has features is not trained on and predicted NaN; the others average the wells that
        have. Several blocks are standardised one by one and balanced (:func:`normalise.balanced`); a unit
        needs all of them.
    head
        A :class:`~tasks.base.Head` class, which is built with the protocol's menu, or any factory of heads.
    permute_seed
        Run the whole pipeline on :func:`permuted` readouts.
    device
        Where a head computes that can do so elsewhere than on the processor.

    Raises
    ------
    TaskError
        When the features have the wrong number of rows or are infinite, or the fold does not exist.
    """
    if permute_seed is not None:
        data = permuted(data, permute_seed)
    test, train = split(folds, id)
    blocks = _blocks(features(id), data)
    layout = _layout(data, blocks)
    stratum = strata(data.units, data.fit_by, "fit_by")
    groups = split_groups(data, protocol)
    best: _Fitted | None = None
    for name in protocol.normalisation:
        if name not in normalise.PLAIN and isinstance(layout, str):
            continue
        units = [
            to_units(
                data,
                block.X
                if isinstance(layout, str) or not block.plates
                else normalise.apply(name, block.X, layout),
            )
            for block in blocks
        ]
        names = [block.names if name != "tvn" else () for block in blocks]
        for projection in protocol.pca:
            menu = _Member(name, projection, names)
            fitted = _fit(menu, units, data, groups, stratum, train, test, head, protocol, device)
            if best is None or fitted.loss < best.loss:
                best = fitted
    if best is None:
        raise TaskError(
            f"protocol {protocol.name!r} offers plate normalisations only, and {layout}; a protocol file "
            'with normalisation = ["fold"] would run'
        )
    chosen: dict[str, Any] = {"normalisation": best.member.normalisation, **best.chosen}
    if len(protocol.pca) > 1:
        chosen["pca"] = best.member.projection
    if isinstance(layout, str) and len(protocol.normalisation) > 1:
        chosen["plate_normalisation_unavailable"] = layout
    return FoldResult(id, test, best.prediction, floor(data, train, test), chosen)


def split(folds: pd.DataFrame, id: FoldId) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # noqa: A002
    """Return the tested and the training units of an outer fold, ascending; see :func:`tasks.folds.split`."""
    return divide(folds, id.repeat, id.fold)


def floor(data: TaskData, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (m, T) the mean of the training units' observed readouts, per stratum of ``fit_by``.

    NaN where no training unit of the stratum has the readout.
    """
    stratum = strata(data.units, data.fit_by, "fit_by")
    means = np.full((len(test), len(data.readouts)), np.nan, np.float32)
    for name in np.unique(stratum[test]):
        y = data.Y[train[stratum[train] == name]]
        means[stratum[test] == name] = observed_mean(y, ~np.isnan(y))
    return means


def to_units(data: TaskData, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Average wells X (N, D) into units (n, D); a missing value is left out of its unit's average."""
    missing = np.isnan(X)
    filled = np.where(missing, 0.0, X).astype(np.float64)
    units: NDArray[np.float64] = data.members @ filled
    # Only units that own a well with gaps are touched, so that no unit's bytes depend on another unit.
    gappy = np.flatnonzero(data.members @ missing.any(axis=1).astype(np.float64))
    if gappy.size:
        weight = data.members[gappy] @ (~missing).astype(np.float64)
        units[gappy] = np.divide(units[gappy], weight, out=np.full(weight.shape, np.nan), where=weight > 0)
    return units


def permuted(data: TaskData, seed: int) -> TaskData:
    """Return the data with readouts permuted between perturbations, within each stratum of ``fit_by``.

    Perturbation g takes the rows of π(g), π a uniform permutation of the stratum's perturbations in sorted
    order: its j-th unit takes the (j mod m)-th of the m units of π(g), so perturbations of unequal size
    repeat or drop rows. Whole rows move, with their missing values; negative controls keep theirs. Score a
    permuted run against this table.
    """
    stratum = strata(data.units, data.fit_by, "fit_by")
    source = np.arange(len(data.groups))
    for number, name in enumerate(np.unique(stratum)):
        rows = np.flatnonzero((stratum == name) & ~data.control)
        own = {g: rows[data.groups[rows] == g] for g in np.unique(data.groups[rows])}
        names = list(own)
        order = np.random.default_rng([seed, number]).permutation(len(names))
        for g, donor in zip(names, order, strict=True):
            given = own[names[donor]]
            source[own[g]] = given[np.arange(len(own[g])) % len(given)]
    return replace(data, Y=data.Y[source])


@dataclass(frozen=True)
class _Member:
    """One choice for the features: a normalisation, a projection; and the features' names per block."""

    normalisation: str
    projection: str
    names: Sequence[tuple[str, ...]]


class _Fitted:
    """Predictions and choices under one member of the menu."""

    def __init__(self, member: _Member, shape: tuple[int, int]) -> None:
        self.member = member
        self.prediction = np.full(shape, np.nan, np.float32)
        self.chosen: dict[str, Any] = {}
        self.loss = 0.0


def _fit(
    member: _Member,
    units: Sequence[NDArray[np.float64]],
    data: TaskData,
    groups: NDArray[np.str_],
    stratum: NDArray[np.str_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    head: type[Head] | Callable[[], Head],
    protocol: Protocol,
    device: str,
) -> _Fitted:
    present = np.all([np.isfinite(own).any(axis=1) for own in units], axis=0)
    fitted = _Fitted(member, (len(test), len(data.readouts)))
    for name in np.unique(stratum[test]):
        rows = train[(stratum[train] == name) & present[train]]
        own = np.flatnonzero((stratum[test] == name) & present[test])
        if rows.size == 0:
            continue
        Z, settled = design(
            units, rows, member.normalisation, member.projection, protocol.selection, member.names
        )
        y = data.Y[rows]
        mask = ~np.isnan(y)
        model = build(head, protocol, device).fit(Z[rows], y, mask, groups[rows])
        if own.size:
            fitted.prediction[own] = model.predict(Z[test[own]])
        fitted.loss += _relative(model.inner_loss_, y, mask)
        suffix = "" if name == "all" else f"[{name}]"
        fitted.chosen |= {key + suffix: value for key, value in {**model.chosen_, **settled}.items()}
    return fitted


def build(head: type[Head] | Callable[[], Head], protocol: Protocol, device: str = "cpu") -> Head:
    """Make a head, to compute on ``device``: a class with the protocol's menu, a factory as it is."""
    made = head.for_protocol(protocol) if isinstance(head, type) and issubclass(head, Head) else head()
    if not isinstance(made, Head):
        raise TaskError(f"{head!r} makes a {type(made).__name__}, not a head")
    if device != "cpu":
        made.device = device
    return made


def _relative(loss: NDArray[np.float64], y: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean over readouts of the inner loss as a share of the training sum of squares."""
    centred = np.where(mask, y - observed_mean(y, mask), 0.0)
    total = (centred**2).sum(axis=0)
    usable = (total > 0) & ~np.isnan(loss)
    return float((loss[usable] / total[usable]).mean()) if usable.any() else 0.0


def _blocks(given: NDArray[np.floating[Any]] | Sequence[Block], data: TaskData) -> list[Block]:
    """Return what a supplier gives as blocks, checked; a matrix is one block of image features."""
    blocks = [Block("image", np.asarray(given))] if isinstance(given, np.ndarray) else list(given)
    if not blocks:
        raise TaskError("the features have no block; give a matrix or at least one block")
    for block in blocks:
        _check(block.X, data)
    return blocks


def _layout(data: TaskData, blocks: Sequence[Block]) -> normalise.Plates | str:
    """Return the plates on which every image block has enough controls, or why there are none."""
    found: normalise.Plates | str = "the features are no image features"
    for block in blocks:
        if block.plates:
            found = normalise.plates(data.wells, data.well_control, block.X)
    return found


def _check(X: NDArray[np.floating[Any]], data: TaskData) -> None:
    if X.ndim != 2 or len(X) != len(data.wells):
        raise TaskError(f"features have shape {X.shape}; {len(data.wells)} rows, one per well, are needed")
    if X.shape[1] == 0:
        raise TaskError("features have no columns")
    infinite = np.isinf(X)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise TaskError(
            f"feature {column} of well row {row} is infinite ({int(infinite.sum())} such values in all)"
        )
