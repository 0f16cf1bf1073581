"""What an inductive featurizer learns from in one outer fold, as a table of its training wells.

A featurizer whose card names readouts is given them beside each well: those of the layer that ``--omics``
names, else of the layer that is scored, else of the dataset's only abundance layer. No row of a tested unit
is in the table. In the run on permuted labels the layer that is scored is permuted here too, so that such a
featurizer is fitted anew; another layer stays with its wells, like the images.

One whose card says ``images="all"`` also sees treated wells that stand for no unit, because the scored layer
has no readouts of them: no fold tests their perturbation, or it is one of the training units of this fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench import inputs
from bench.align import to_wells
from bench.configure import unknown
from bench.datasets.identity import identities
from bench.datasets.tables import PLATE
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets import Dataset
    from bench.problem import Problem
    from featurizers.base import Card
    from tasks.base import TaskData

READOUTS = "readouts"


@dataclass(frozen=True, eq=False)
class Paired:
    """Readouts that may be learnt from.

    Parameters
    ----------
    scored
        Whether it is the layer that the problem scores. Its values are by unit, any other layer's by well.
    values
        (n units or N wells, T) float32, NaN where missing.
    beside
        (N,) perturbation of each treated well that stands for no unit and whose image may be learnt from all
        the same; ``""`` for every other well. None where the card asks for paired images alone.
    """

    layer: str
    scored: bool
    columns: tuple[str, ...]
    values: NDArray[np.float32]
    beside: NDArray[np.str_] | None = None

    def permuted(self, data: TaskData, seed: int) -> Paired:
        """Return the readouts as the run on permuted labels has them; only a scored layer changes."""
        from tasks.evaluate import permuted

        return replace(self, values=permuted(data, seed).Y) if self.scored else self


def sources(card: Card) -> str:
    """Return in words what an inductive featurizer learns from; a card that is silent means labels."""
    words = ["perturbation labels" if own == "perturbations" else own for own in card.learns_from]
    *most, last = words or ["perturbation labels"]
    return f"{', '.join(most)} and {last}" if most else last


def paired(card: Card, dataset: Dataset, problem: Problem, named: str) -> Paired | None:
    """Return what a featurizer with this card may learn from beside the wells; None without readouts.

    Parameters
    ----------
    named
        A layer, or empty for the rule of this module.

    Raises
    ------
    UsageError
        When the layer that is named does not exist.
    BenchError
        When there are several layers to choose from, or a well would have several rows of one.
    """
    if READOUTS not in card.learns_from:
        return None
    data = problem.data
    layers = {layer.name: layer for layer in dataset.layers if layer.kind == "abundance"}
    if named and named not in layers:
        raise UsageError(f"dataset {dataset.name!r}: {unknown('abundance layer', named, layers)}")
    if not named and data.layer not in layers and len(layers) > 1:
        raise BenchError(
            f"{card.name} learns from readouts, and dataset {dataset.name!r} has several abundance layers "
            f"({', '.join(layers)}); name the one to learn from with --omics"
        )
    if not layers:
        return None
    name = named or (data.layer if data.layer in layers else next(iter(layers)))
    beside = _beside(dataset, data) if card.images == "all" else None
    if name == data.layer:
        return Paired(name, scored=True, columns=data.readouts, values=data.Y, beside=beside)
    block = inputs.block(dataset, layers[name])
    values = to_wells(block.wells, block.X, data.wells)
    return Paired(name, scored=False, columns=block.columns, values=values, beside=beside)


def _beside(dataset: Dataset, data: TaskData) -> NDArray[np.str_]:
    """Return (N,) the perturbation of each treated well of no unit; ``""`` for every other well.

    A well that names no perturbation could be of a tested one, so it is none of them.
    """
    names = np.array(identities(data.wells, dataset.perturbation), dtype=np.str_)
    of_unit = np.bincount(data.members.tocoo().col, minlength=len(names)) > 0
    return np.where(of_unit | data.well_control, "", names).astype(np.str_)


def training_table(problem: Problem, repeat: int, fold: int, readouts: Paired | None = None) -> pd.DataFrame:
    """Return what may be learnt from in one outer fold.

    Returns
    -------
    One row per well of a training unit, with the well's metadata and ``perturbation``; wells of tested
    perturbations are absent. With ``readouts`` follow ``control``, true for negative controls (those of the
    plates that training wells stand on; they have no perturbation), and one column per readout.
    With ``readouts.beside`` the wells of no unit come last, all their readouts NaN: by name those of
    perturbations that the fold trains on and does not test, and without ``perturbation``, since nothing but
    their images is learnt from, those of perturbations that have no unit, so that no fold tests them.
    Folds that leave out a block (a plate, a batch) have none of these: which block such a well is of is not
    known here, and the images of the tested one must stay unseen.
    """
    from tasks import folds as draw

    tested, trained = draw.split(problem.folds, repeat, fold)
    if readouts is not None and "block" in problem.folds.columns:
        readouts = replace(readouts, beside=None)
    return _table(problem, trained, readouts, tested)


def paired_table(problem: Problem, readouts: Paired | None = None) -> pd.DataFrame:
    """Return what may be learnt from for a final model: every unit that a fold tests, as training units."""
    units = np.unique(problem.folds["unit"].to_numpy(np.int64))
    return _table(problem, units, readouts, np.zeros(0, np.int64))


def wells_of(data: TaskData, units: NDArray[np.int64]) -> pd.DataFrame:
    """Return one row per well of some units: what is known of the well, and ``perturbation``."""
    well, unit = _first(data, units)
    return data.wells.iloc[well].reset_index(drop=True).assign(perturbation=data.groups[unit])


def _table(
    problem: Problem, units: NDArray[np.int64], readouts: Paired | None, tested: NDArray[np.int64]
) -> pd.DataFrame:
    import pandas as pd

    data = problem.data
    if readouts is None:
        return wells_of(data, units)
    well, unit = _first(data, units)
    plates = set(data.wells[PLATE].iloc[well])
    control = np.flatnonzero(data.well_control & data.wells[PLATE].isin(plates).to_numpy())
    control = np.setdiff1d(control, well)
    beside, named = _without_readouts(data, units, tested, readouts)
    every = np.concatenate([well, control, beside])
    known = slice(len(well) + len(control))
    whole = data.wells.iloc[every].reset_index(drop=True)
    nobody = np.full(len(control), None, dtype=object)
    whole["perturbation"] = np.concatenate([data.groups[unit].astype(object), nobody, named])
    whole["control"] = np.repeat([False, True, False], [len(well), len(control), len(beside)])
    values = np.full((len(every), len(readouts.columns)), np.nan, np.float32)
    if readouts.scored:
        values[: len(well)] = readouts.values[unit]
        of_control, own = _first(data, np.flatnonzero(data.control))
        at = {int(w): len(well) + i for i, w in enumerate(control)}
        found = [(at[int(w)], u) for w, u in zip(of_control, own, strict=True) if int(w) in at]
        if found:
            rows, source = np.array(found).T
            values[rows] = readouts.values[source]
    else:
        values[known] = readouts.values[every[known]]
    return pd.concat([whole, pd.DataFrame(values, columns=list(readouts.columns))], axis=1)


def _without_readouts(
    data: TaskData, units: NDArray[np.int64], tested: NDArray[np.int64], readouts: Paired
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return wells of no unit that may be seen where ``units`` are trained on, and what each is named.

    The name is None where the perturbation has no unit at all.
    """
    name = np.full(len(data.wells), "") if readouts.beside is None else readouts.beside
    posed = np.isin(name, data.groups)
    trained = np.isin(name, np.setdiff1d(data.groups[units], data.groups[tested]))
    well = np.flatnonzero((name != "") & (trained | ~posed))
    named = name[well].astype(object)
    named[~posed[well]] = None
    return well, named


def _first(data: TaskData, units: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the wells of some units, ascending, and the first of those units that each belongs to."""
    chosen = data.members[units].tocoo()
    order = np.lexsort((chosen.row, chosen.col))
    well, at = np.unique(chosen.col[order], return_index=True)
    return well.astype(np.int64), units[chosen.row[order][at]]
