"""Phenotypic activity: do replicates find each other before the negative controls of their plate?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData


def score(
    data: TaskData, rows: NDArray[np.float64], plate: str, dose: str, draws: int, seed: int
) -> pd.DataFrame:
    """Return the mean AP per treatment, and per dose of its wells.

    Parameters
    ----------
    data
        Wells as :func:`tasks.treatments.activity` named them (``treatment``).
    rows
        (n, D) as :func:`tasks.neighbours.unit_rows` made them; NaN rows are wells without features.
    plate, dose
        Columns of the units.
    draws, seed
        Random orders behind a p-value.

    Returns
    -------
    DataFrame
        ``readout`` (treatment), ``stratum``, ``n_units`` (wells that counted), ``score``, ``chance``,
        ``perturbation``, and in the stratum ``all`` ``p`` and ``q``.
    """
    names, name = np.unique(data.units["treatment"].to_numpy(np.str_), return_inverse=True)
    plates = data.units[plate].astype(str).to_numpy()
    present = np.asarray(np.isfinite(rows).all(axis=1))
    treated = np.flatnonzero(~data.control)
    found = neighbours.Precision.empty(len(treated))
    for block in np.unique(plates[treated]):
        queries = np.flatnonzero(plates[treated] == block)
        own = treated[queries]
        alike = np.flatnonzero(np.isin(name, name[own]) & ~data.control & present)
        candidates = np.concatenate([alike, np.flatnonzero(data.control & (plates == block) & present)])
        positive = (name[own][:, None] == name[candidates]) & (own[:, None] != candidates)
        positive &= ~data.control[candidates]
        allowed = (positive | data.control[candidates]) & present[own][:, None]
        found.put(queries, neighbours.precision(rows, own, candidates, positive, allowed))
    readouts, first, member = np.unique(name[treated], return_index=True, return_inverse=True)
    known = ~np.isnan(found.ap)
    groups = [np.flatnonzero((member == g) & known) for g in range(len(readouts))]
    frame = neighbours.grouped(groups, found, draws, seed)
    frame.insert(0, "readout", names[readouts].astype(object))
    frame.insert(1, "stratum", "all")
    frame.insert(3, "n_perturbations", 1)
    frame["perturbation"] = data.groups[treated[first]]
    strata = _by_dose(data, dose, treated, frame, groups, found)
    return pd.concat([frame, *strata], ignore_index=True)


def _by_dose(
    data: TaskData,
    dose: str,
    treated: NDArray[np.int64],
    frame: pd.DataFrame,
    groups: list[NDArray[np.int64]],
    found: neighbours.Precision,
) -> list[pd.DataFrame]:
    """Score and chance of the queries at each dose, for the treatments that have any; not tested."""
    if dose not in data.units.columns:
        return []
    doses = pd.to_numeric(data.units[dose], errors="coerce").to_numpy(np.float64)[treated]
    expected = neighbours.chance_precision(found.positives, found.candidates)
    frames = []
    for value in np.unique(doses[~np.isnan(doses)]):
        at = [own[doses[own] == value] for own in groups]
        some = [g for g, own in enumerate(at) if own.size]
        scores = {
            "stratum": f"{dose}={value:.6g}",
            "n_units": [at[g].size for g in some],
            "score": [found.ap[at[g]].mean() for g in some],
            "chance": [expected[at[g]].mean() for g in some],
        }
        names = frame[["readout", "n_perturbations", "perturbation"]].iloc[some]
        frames.append(names.reset_index(drop=True).assign(**scores))
    return frames
