"""Wells to treatments and their labels: what retrieval asks of a table of wells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from tasks.base import TaskData, TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING = ("", "nan", "None", "<NA>")
SHOWN = 5


def names(groups: NDArray[np.str_], units: pd.DataFrame, dose: str) -> NDArray[np.object_]:
    """Return (n,) names of treatments: the perturbation, and its dose to six digits where there is one."""
    if dose not in units.columns:
        return groups.astype(object)
    doses = pd.to_numeric(units[dose], errors="coerce").to_numpy(np.float64)
    return np.array(
        [g if np.isnan(d) else f"{g} @ {d:.6g}" for g, d in zip(groups, doses, strict=True)], dtype=object
    )


def activity(wells: TaskData, dose: str) -> TaskData | str:
    """Return wells named by treatment for phenotypic activity, or why it cannot be asked about.

    Where fewer than half of the treatments have two wells, wells are named by perturbation.

    Parameters
    ----------
    wells
        One unit per well.
    dose
        Column of the dose.
    """
    if not wells.control.any():
        return "there are no negative controls to tell replicates from"
    name = names(wells.groups, wells.units, dose)
    question, what = "activity", "treatment"
    size = pd.Series(name[~wells.control]).value_counts()
    notes = list(wells.notes)
    if 2 * int((size > 1).sum()) < len(size):
        notes.append(
            f"Only {int((size > 1).sum())} of {len(size)} treatments have two wells: wells of a perturbation "
            "at any dose count as replicates."
        )
        name, question, what = wells.groups.astype(object), "activity-any-dose", "perturbation"
        size = pd.Series(name[~wells.control]).value_counts()
    if not (size > 1).any():
        return "no perturbation has two wells"
    alone = int((size == 1).sum())
    if alone:
        notes.append(f"{alone} of {len(size)} {what}s have a single well and no score.")
    return replace(
        wells,
        units=wells.units.assign(treatment=name),
        Y=np.where(wells.control, np.nan, 1.0).astype(np.float32)[:, None],
        readouts=("treated",),
        layer=f"wells:{question}",
        notes=tuple(notes),
    )


def treatments(wells: TaskData, column: str, dose: str, separator: str) -> TaskData:
    """Return one unit per labelled treatment, its wells averaged, with its labels as readouts of 1 and 0.

    Negative controls are no unit; they normalise. Treatments without a label are left out and counted.

    Raises
    ------
    TaskError
        When no well has a label, or the wells of a treatment have different ones.
    """
    own = np.flatnonzero(~wells.control)
    text = wells.units[column].astype(str).to_numpy()[own]
    labels = np.array(["" if value.strip() in MISSING else value for value in text], dtype=object)
    name = names(wells.groups[own], wells.units.iloc[own], dose)
    unit, first, inverse = np.unique(name.astype(str), return_index=True, return_inverse=True)
    mixed = np.flatnonzero(labels != labels[first][inverse])
    if mixed.size:
        one = int(mixed[0])
        raise TaskError(
            f"column {column!r}: treatment {name[one]!r} is {labels[first[inverse[one]]]!r} in one well and "
            f"{labels[one]!r} in another ({mixed.size} such wells); correct the wells table"
        )
    known = labels[first] != ""
    if not known.any():
        raise TaskError(f"column {column!r} is empty for every treated well: there is no label to retrieve")
    sets = [{part.strip() for part in str(value).split(separator)} - {""} for value in labels[first][known]]
    readouts = sorted(set().union(*sets))
    Y = np.array([[float(r in own_set) for r in readouts] for own_set in sets], np.float32)
    number = np.cumsum(known) - 1
    links = np.flatnonzero(known[inverse])
    at = number[inverse[links]]
    size = np.bincount(at, minlength=len(sets))
    place = sparse.csr_matrix((1.0 / size[at], (at, own[links])), shape=(len(sets), len(wells.groups)))
    chosen = own[first[known]]
    notes = list(wells.notes)
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(known)} treatments have no {column} and take no part.")
    kept = [c for c in wells.units.columns if c not in ("Metadata_Plate", "Metadata_Well")]
    return replace(
        wells,
        units=wells.units[kept].iloc[chosen].reset_index(drop=True).assign(treatment=unit[known]),
        members=(place @ wells.members).tocsr(),
        Y=Y,
        readouts=tuple(readouts),
        groups=wells.groups[chosen],
        control=np.zeros(len(sets), bool),
        layer=column,
        notes=tuple(notes),
    )


def with_labels(data: TaskData, dose: str = "Metadata_Concentration") -> TaskData:
    """Return labelled units with a ``treatment`` name each; ``notes`` name labels of one perturbation only.

    Raises
    ------
    TaskError
        When no label is shared by two perturbations, or all units share one.
    """
    tested = ~data.control
    has = data.Y[tested] == 1.0
    code = np.unique(data.groups[tested], return_inverse=True)[1]
    count = np.array([len(np.unique(code[has[:, t]])) for t in range(has.shape[1])])
    named = has.any(axis=0)
    if not (count > 1).any():
        raise TaskError(
            f"{data.layer!r}: none of {len(count)} labels is shared by two perturbations, so no neighbour of "
            "another perturbation could be right"
        )
    if (has[:, count > 1].all(axis=0)).any() and named.sum() == 1:
        raise TaskError(
            f"{data.layer!r}: every perturbation has the label {data.readouts[int(np.argmax(named))]!r}"
        )
    notes = list(data.notes)
    alone = [data.readouts[t] for t in np.flatnonzero(count == 1)]
    if alone:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        verb = "is a label" if len(alone) == 1 else "are labels"
        notes.append(
            f"{len(alone)} of {len(count)} {verb} of one perturbation only, which no other can share: "
            f"{', '.join(alone[:SHOWN])}{more}."
        )
    units = data.units
    if "treatment" not in units.columns:
        name = pd.Series(names(data.groups, units, dose)).astype(str)
        twin = name.groupby(name).cumcount()
        units = units.assign(treatment=np.where(twin > 0, name + " #" + (twin + 1).astype(str), name))
    return replace(data, units=units, notes=tuple(notes))
