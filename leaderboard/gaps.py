"""Entrants with a few units missing: which perturbations all of a board leave out, so that they compare.

A unit without a prediction (an empty well) is left out of its perturbation's error and of the floor's, so
that the perturbation stands for other rows than on a run that has it. Such perturbations are known by their
floor. Where they are few, every run of the board is scored without them; where they are many, the entrant is
not ranked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.summands import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from leaderboard.schema import Entry

LEAST_COVERAGE = 0.95
"""Share of the units that an entrant must have predicted, and of the perturbations that a board must keep."""


@dataclass(frozen=True, eq=False)
class Gaps:
    """What a board leaves out.

    Parameters
    ----------
    entries
        All runs; those with the board's perturbations are marked untested on the ones left out.
    tolerated
        Entrants with gaps that are ranked all the same, each with the perturbations it lacks units of.
    perturbations
        Names of all that are left out, in the order of the entries.
    """

    entries: list[Entry]
    tolerated: dict[str, tuple[str, ...]]
    perturbations: tuple[str, ...]


def leave_out(entries: Sequence[Entry]) -> Gaps:
    """Leave out of every run the perturbations of which an entrant lacks a few units.

    Entrants are taken in order of coverage, down to :data:`LEAST_COVERAGE`, while the board keeps that share
    of its perturbations. A run without gaps and on measured readouts (the floor is one) says what each
    perturbation is; without one, and for scores that exist per fold only, nothing is left out.
    """
    # Not a permuted run: its floor is of other rows, and every perturbation would seem to lack a unit.
    whole = next(
        (e for e in entries if e.coverage >= 1 and e.fold_values is None and e.role != "permuted"), None
    )
    gapped = [
        entry
        for entry in sorted(entries, key=lambda entry: (-entry.coverage, entry.run))
        if entry.role == "entrant" and LEAST_COVERAGE <= entry.coverage < 1 and entry.fold_values is None
    ]
    if whole is None or not gapped:
        return Gaps(list(entries), {}, ())
    out = np.zeros(len(whole.perturbations), dtype=bool)
    tolerated = {}
    for entry in gapped:
        if entry.perturbations != whole.perturbations or entry.readouts != whole.readouts:
            continue
        own = lacking(entry, whole)
        if (out | own).mean() <= 1 - LEAST_COVERAGE:
            out |= own
            tolerated[entry.run] = _names(whole, own)
    return Gaps([_without(entry, whole, out) for entry in entries], tolerated, _names(whole, out))


def lacking(entry: Entry, whole: Entry) -> NDArray[np.bool_]:
    """(P,) bool: perturbations where a run lacks an error that ``whole`` has, or has another floor."""
    repeats = min(len(entry.folds), len(whole.folds))
    tested = (entry.folds[:repeats] >= 0)[:, :, None]
    found = np.zeros(len(entry.perturbations), dtype=bool)
    for start in range(0, len(entry.readouts), BLOCK):
        part = slice(start, start + BLOCK)
        e, own, floor = entry.e[:repeats, :, part], entry.e0[:repeats, :, part], whole.e0[:repeats, :, part]
        same = np.isfinite(e) & np.isclose(own, floor, rtol=1e-3, atol=1e-6)
        found |= (tested & np.isfinite(floor) & ~same).any(axis=(0, 2))
    return found


def _without(entry: Entry, whole: Entry, out: NDArray[np.bool_]) -> Entry:
    if not out.any() or entry.perturbations != whole.perturbations:
        return entry
    return replace(entry, folds=np.where(out, -1, entry.folds).astype(entry.folds.dtype))


def _names(whole: Entry, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(np.asarray(whole.perturbations, dtype=object)[chosen].tolist())
