"""Checks of the wells table: duplicates, identities, controls, doses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from bench.datasets.checks.finding import Finding, finding
from bench.datasets.identity import NEGATIVE, identities
from bench.datasets.load import NO_PLATE
from bench.datasets.tables import DOSE, DOSE_UNIT, PERT_TYPE, PLATE, WELL, natural, shorten
from bench.words import count

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset

_WELL = re.compile(r"[A-Z]{1,2}[0-9]{2}")


def check_wells(dataset: Dataset) -> list[Finding]:
    """Return what is wrong with the wells table."""
    file, wells = dataset.files["wells"], dataset.wells
    if wells.empty:
        return [finding("error", "no-wells", file, "the wells table has no row", "list the wells")]
    names = np.array(identities(wells, dataset.perturbation), dtype=object)
    negative = (wells[PERT_TYPE] == NEGATIVE).to_numpy()
    treated = ~negative & (names != "")
    spots = dataset.images is not None and "Region" in dataset.images.columns
    out = _places(file, wells, named=spots)
    unnamed = np.flatnonzero(~negative & (names == ""))
    if unnamed.size:
        what = f"{count(unnamed.size, 'well')} with neither a perturbation nor the mark of a negative control"
        out.append(finding("warning", "unnamed-well", file, what, f"fill in {dataset.perturbation}", unnamed))
    number = len(set(names[treated]))
    if number < 2:
        what = f"{count(number, 'perturbation')} besides negative controls"
        remedy = f"check {dataset.perturbation} and {PERT_TYPE}; two are the least that can be compared"
        out.append(finding("error", "few-perturbations", file, what, remedy))
    if not negative.any():
        seen = shorten(sorted(set(wells[PERT_TYPE])), 5)
        what = f"no negative control; {PERT_TYPE} says {seen}"
        remedy = "mark them negcon; without them features cannot be normalised per plate"
        out.append(finding("warning", "no-negative-controls", file, what, remedy))
    both = np.flatnonzero(np.isin(names, list(set(names[treated]) & set(names[negative]))))
    if both.size:
        what = f"{shorten(sorted(set(names[both]), key=natural))} is both treated and a negative control"
        out.append(finding("error", "mixed-control", file, what, f"correct {PERT_TYPE}", both))
    if DOSE in wells.columns:
        out += _doses(file, wells, names, treated)
    return out


def _places(file: str, wells: pd.DataFrame, *, named: bool) -> list[Finding]:
    """Return wells that occur twice or, unless they are ``named`` (spots of a section), have no place."""
    out = []
    twice = np.flatnonzero(wells.duplicated([PLATE, WELL], keep=False).to_numpy())
    if twice.size:
        places = wells[[PLATE, WELL]].iloc[twice].drop_duplicates()
        listed = shorten(f"{p}/{w}" for p, w in places.itertuples(index=False))
        out.append(
            finding(
                "error", "duplicate-well", file, f"wells occur twice: {listed}", "keep one row each", twice
            )
        )
    odd = [
        i
        for i, (p, w) in enumerate(zip(wells[PLATE], wells[WELL], strict=True))
        if p != NO_PLATE and not named and not _WELL.fullmatch(w)
    ]
    if odd:
        written = shorten(wells[WELL].iloc[odd], 5)
        what = f"{count(len(odd), 'well', 'are')} not written as row and column: {written}"
        out.append(finding("warning", "odd-well", file, what, "write them like B07", odd))
    return out


def _doses(
    file: str, wells: pd.DataFrame, names: NDArray[np.object_], treated: NDArray[np.bool_]
) -> list[Finding]:
    out = []
    dose = wells[DOSE].to_numpy(np.float64)
    bad = np.flatnonzero(treated & ((dose <= 0) | np.isinf(dose)))
    if bad.size:
        doses = shorten(map(str, dose[bad]), 5)
        what = f"{count(bad.size, 'treated well', 'have')} a dose that is not positive: {doses}"
        out.append(finding("error", "bad-dose", file, what, f"correct {DOSE}, or mark the wells negcon", bad))
    absent = np.flatnonzero(treated & np.isnan(dose))
    if absent.size:
        what = f"{count(absent.size, 'treated well', 'have')} no dose"
        out.append(finding("warning", "no-dose", file, what, f"fill in {DOSE}", absent))
    if DOSE_UNIT not in wells.columns:
        return out
    units = wells[DOSE_UNIT].to_numpy()
    seen = sorted({u for u in units[treated] if u})
    if len(seen) > 1:
        per_name: dict[str, set[str]] = {}
        for name, unit in zip(names[treated], units[treated], strict=True):
            if unit:
                per_name.setdefault(name, set()).add(unit)
        mixed = sorted((n for n, u in per_name.items() if len(u) > 1), key=natural)
        counts = {u: int((units[treated] == u).sum()) for u in seen}
        rare = min(seen, key=lambda u: (counts[u], u))
        listed = ", ".join(f"{u} ({count(counts[u], 'well')})" for u in seen)
        what = f"doses stand in several units: {listed}"
        what += f"; within one perturbation: {shorten(mixed)}" if mixed else ""
        remedy = f"convert {DOSE} to one unit (rows of {rare} are listed)"
        rows = np.flatnonzero(treated & (units == rare))
        out.append(finding("error" if mixed else "warning", "mixed-dose-units", file, what, remedy, rows))
    return out
