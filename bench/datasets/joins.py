"""Features meet readouts: which wells stand for which row of a readout layer.

``aggregate``: a unit is a row of the layer (and, under ``dose_rule = each``, one dose of it); its features
are the mean over its wells W(u), so ``members[u, w] = 1 / |W(u)|`` for w in W(u). ``broadcast``: one unit
per (row, well) with ``members = 1``. Where the key lacks dose, ``each`` makes one unit per dose with the
row's values repeated (they share a perturbation, so folds keep them together), ``mean`` averages all doses
and ``top`` takes the wells of the highest dose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from bench.datasets.identity import NEGATIVE, identities
from bench.datasets.prepare import apply
from bench.datasets.tables import PERT_TYPE, PLATE, WELL, natural, shorten
from bench.datasets.units import Units, choose, describe, label, match
from bench.errors import DatasetError
from bench.words import count
from tasks.base import TaskData

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset, Layer


@dataclass(frozen=True)
class JoinReport:
    """What met and what did not; names are ``plate/well``, or the key's values joined by ``/``.

    Parameters
    ----------
    units, perturbations
        Number of units, and of perturbations among those that are no negative control.
    rows, wells
        Number of rows of the layer and of wells with features.
    wells_unknown
        Wells with features that the dataset's wells table does not have.
    wells_unnamed
        Wells that are no negative control and name no perturbation; they take no part.
    wells_without_readouts
        Treated wells with features whose key the layer does not have.
    controls_without_readouts
        Number of negative-control wells of that sort; they still normalise.
    wells_left_out
        Number of wells that ``dose_rule = top`` leaves out.
    rows_without_wells
        Rows of the layer without any well.
    """

    layer: str
    units: int
    perturbations: int
    rows: int
    wells: int
    wells_unknown: tuple[str, ...] = ()
    wells_unnamed: tuple[str, ...] = ()
    wells_without_readouts: tuple[str, ...] = ()
    controls_without_readouts: int = 0
    wells_left_out: int = 0
    rows_without_wells: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return the report in words, names cut after ten; the first sentence is always there."""
        said = [
            f"layer {self.layer!r}: {count(self.units, 'unit')} "
            f"of {count(self.perturbations, 'perturbation')} from {count(self.rows, 'row of readouts')} "
            f"and {count(self.wells, 'well with features')}"
        ]
        named = (
            ("well with features", "are", "not in the wells table", self.wells_unknown),
            ("treated well", "name", "no perturbation", self.wells_unnamed),
            ("treated well", "have", "no readouts", self.wells_without_readouts),
            ("row of readouts", "have", "no well", self.rows_without_wells),
        )
        said += [
            f"{count(len(names), noun, verb)} {what}: {shorten(names)}"
            for noun, verb, what, names in named
            if names
        ]
        if self.controls_without_readouts:
            controls = count(self.controls_without_readouts, "negative-control well", "have")
            said.append(f"{controls} no readouts (used to normalise)")
        if self.wells_left_out:
            said.append(f"{count(self.wells_left_out, 'well', 'are')} left out by dose_rule = top")
        return said

    def notes(self) -> tuple[str, ...]:
        """Return what readers of a board must know was left out: a sentence each, names cut after five."""
        named = (
            ("treated well", "name", "no perturbation", self.wells_unnamed),
            ("treated well", "have", "no readouts", self.wells_without_readouts),
            ("row of readouts", "meet", "no well", self.rows_without_wells),
        )
        said = [
            f"Left out: {count(len(names), noun, verb)} {what} ({shorten(names, 5)})."
            for noun, verb, what, names in named
            if names
        ]
        if self.wells_left_out:
            said.append(f"Left out by dose_rule = top: {count(self.wells_left_out, 'well')}.")
        return tuple(said)


def join(dataset: Dataset, layer: Layer, wells: pd.DataFrame) -> TaskData:
    """Return the readouts of ``layer`` on units made of ``wells``.

    Parameters
    ----------
    wells
        N rows that have features, in their order; ``Metadata_Plate`` and ``Metadata_Well`` say which. What
        else is known of them comes from the dataset's wells table.

    Returns
    -------
    Units sorted naturally by the key's values, then by dose, plate and well.

    Raises
    ------
    DatasetError
        When nothing matches, a key occurs twice, or a unit would mix perturbations, controls with treated
        wells, or dose units.
    """
    return join_with_report(dataset, layer, wells)[0]


def join_report(dataset: Dataset, layer: Layer, wells: pd.DataFrame) -> JoinReport:
    """Return what :func:`join` matched and left out."""
    return join_with_report(dataset, layer, wells)[1]


def join_with_report(dataset: Dataset, layer: Layer, wells: pd.DataFrame) -> tuple[TaskData, JoinReport]:
    """Return :func:`join`'s data and its report, reading the layer once."""
    frame = layer.read()
    infinite = np.argwhere(np.isinf(frame.iloc[:, len(layer.key) :].to_numpy(np.float32)))
    if infinite.size:
        row, column = infinite[0]
        raise DatasetError(
            f"{layer.table}, row {row + 1}: readout {frame.columns[len(layer.key) + column]!r} is infinite "
            f"({len(infinite)} such values); leave the field empty where the value is missing"
        )
    return join_frame(dataset, layer, frame, wells)


def join_frame(
    dataset: Dataset, layer: Layer, frame: pd.DataFrame, wells: pd.DataFrame
) -> tuple[TaskData, JoinReport]:
    """Return :func:`join_with_report` of a layer's frame as :meth:`Layer.read` gave it; any value goes.

    The layer's preparation comes first; ``notes`` say what it did.
    """
    done = apply(dataset, layer, frame)
    layer, frame = done.layer, done.frame
    table, known = known_wells(dataset, wells)
    names = np.array(identities(table, dataset.perturbation), dtype=object)
    negative = (table[PERT_TYPE] == NEGATIVE).to_numpy()
    rows, cols = match(layer, frame, table, known & (names != ""))
    if rows.size == 0:
        raise DatasetError(_nothing(layer, frame, table))
    units = choose(layer, frame, table, rows, cols)
    _same(layer, units, names, "perturbations")
    _same(layer, units, np.where(negative, "negcon", "treated"), "negative controls and treated wells")
    readouts = tuple(frame.columns[len(layer.key) :])
    Y = frame[list(readouts)].to_numpy(np.float32)

    unnamed = _pick(table, known & (names == ""))
    size = np.bincount(units.id, minlength=len(units))
    members = sparse.csr_matrix((1.0 / size[units.id], (units.id, units.col)), shape=(len(units), len(table)))
    members.sort_indices()
    data = TaskData(
        wells=table,
        units=describe(layer, frame, table, units),
        members=members,
        Y=Y[units.row],
        readouts=readouts,
        groups=np.array(names[units.first], dtype=np.str_),
        control=negative[units.first],
        well_control=negative,
        layer=layer.name,
        scale=layer.scale,
        fit_by=layer.fit_by,
        score_by=layer.score_by,
        panel=done.panel,
    )
    matched = np.isin(np.arange(len(table)), cols)
    without = known & ~matched & (names != "")
    alone = np.setdiff1d(np.arange(len(frame)), rows)
    report = JoinReport(
        layer=layer.name,
        units=len(units),
        perturbations=len(set(data.groups[~data.control])),
        rows=len(frame),
        wells=len(table),
        wells_unknown=_pick(table, ~known),
        wells_unnamed=unnamed,
        wells_without_readouts=_pick(table, without & ~negative),
        controls_without_readouts=int((without & negative).sum()),
        wells_left_out=int(matched.sum() - np.unique(units.col).size),
        rows_without_wells=tuple(sorted((label(layer, frame, int(r)) for r in alone), key=natural)),
    )
    return replace(data, notes=(*done.sentences, *report.notes())), report


def well_data(dataset: Dataset, wells: pd.DataFrame) -> TaskData:
    """Return ``wells`` as units of their own, without readouts; those that name no perturbation are left out.

    ``notes`` say how many are, and which.
    """
    table, known = known_wells(dataset, wells)
    names = np.array(identities(table, dataset.perturbation), dtype=object)
    negative = (table[PERT_TYPE] == NEGATIVE).to_numpy()
    unit = np.flatnonzero(known & ((names != "") | negative))
    lost = _pick(table, known & (names == "") & ~negative)
    report = JoinReport("wells", unit.size, 0, rows=0, wells=len(table), wells_unnamed=lost)
    return TaskData(
        wells=table,
        units=table.iloc[unit].reset_index(drop=True),
        members=sparse.csr_matrix(
            (np.ones(unit.size), (np.arange(unit.size), unit)), shape=(unit.size, len(table))
        ),
        Y=np.zeros((unit.size, 0), np.float32),
        readouts=(),
        groups=np.array(names[unit], dtype=np.str_),
        control=negative[unit],
        well_control=negative,
        layer="wells",
        notes=report.notes(),
    )


def known_wells(dataset: Dataset, wells: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return ``wells`` with every column of the dataset's wells table, and which rows that table has.

    The dataset's table wins over columns of the same name that the features carry along, so a corrected
    platemap counts at once.
    """
    keys = [PLATE, WELL]
    where = dataset.files.get("wells", "the wells table")
    for frame, what in ((dataset.wells, where), (wells, "the features")):
        twice = np.flatnonzero(frame.duplicated(keys).to_numpy())
        if twice.size:
            plate, well = frame[keys].iloc[twice[0]]
            raise DatasetError(
                f"{what}, row {twice[0] + 1}: well {plate}/{well} occurs twice; keep one row per well"
            )
    extra = [c for c in wells.columns if c in keys or c not in dataset.wells.columns]
    table = wells[extra].reset_index(drop=True).merge(dataset.wells, on=keys, how="left", indicator="_known")
    known = (table.pop("_known") == "both").to_numpy()
    text = [c for c in dataset.wells.columns if dataset.wells[c].dtype == object]
    table[text] = table[text].fillna("")
    return table, known


def _same(layer: Layer, units: Units, values: NDArray[Any], what: str) -> None:
    mixed = np.flatnonzero(~units.constant(values))
    if mixed.size:
        seen = sorted({str(v) for v in values[units.col[units.id == mixed[0]]]})
        raise DatasetError(
            f"layer {layer.name!r}: a unit mixes {what} ({shorten(seen, 3)}; {mixed.size} such units); "
            f"its key ({', '.join(layer.key)}) must not reach across them: "
            "correct the wells table or extend the key"
        )


def _pick(table: pd.DataFrame, mask: NDArray[np.bool_]) -> tuple[str, ...]:
    chosen = table[mask]
    return tuple(sorted((f"{p}/{w}" for p, w in zip(chosen[PLATE], chosen[WELL], strict=True)), key=natural))


def _nothing(layer: Layer, frame: pd.DataFrame, table: pd.DataFrame) -> str:
    shared = [c for c in layer.key if c in table.columns]
    ours, theirs = (
        shorten(("/".join(map(str, v)) for v in f[shared].head(3).itertuples(index=False)), 3)
        for f in (frame, table)
    )
    return (
        f"{layer.table}: no row of layer {layer.name!r} meets a well with features on {', '.join(shared)}; "
        f"the readouts have {ours or 'no row'}, the wells {theirs or 'no row'}: make the two agree"
    )
