"""Who stands on a board and who is ranked: the common readouts, and the reason where a run is not ranked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.comparison import aligned
from leaderboard.folded import shared_folds, summands_of_folds
from leaderboard.gaps import leave_out
from leaderboard.schema import BoardError, Entry
from leaderboard.summands import Summands, summands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Standing:
    """One run on its board.

    Parameters
    ----------
    entry
        The run, restricted to the board's readouts where it has more.
    summands
        Its skill and losses over those readouts.
    unranked
        Why the run is shown but not ranked; empty for a ranked entrant.
    cells
        Digest of which readouts, perturbations, repeats and folds were scored.
    comparable
        Whether D1 is run against the others: every ranked entrant, and controls, floor and ceiling whose
        cells and floor fit.
    gaps
        Perturbations of which a ranked entrant lacks units; no run of the board is scored on them.
    """

    entry: Entry
    summands: Summands
    unranked: str
    cells: bytes
    comparable: bool
    gaps: tuple[str, ...] = ()


def check(entry: Entry) -> None:
    """Refuse an entry whose arrays and names do not fit each other.

    Raises
    ------
    BoardError
        Naming the run and the array.
    """
    size = (len(entry.perturbations), len(entry.readouts))
    where = f"run {entry.run!r} ({entry.label})"
    if entry.fold_values is not None:
        if entry.fold_values.ndim != 3 or entry.fold_values.shape[2] != size[1]:
            raise BoardError(
                f"{where}: fold values {entry.fold_values.shape} must be (repeats, folds, {size[1]} "
                "readouts)."
            )
        size = (size[0], 0)
    if entry.e.shape != entry.e0.shape or entry.e.ndim != 3 or entry.e.shape[1:] != size:
        raise BoardError(
            f"{where}: e {entry.e.shape} and e0 {entry.e0.shape} must be (repeats, {size[0]} perturbations, "
            f"{size[1]} readouts)."
        )
    if entry.folds.shape != entry.e.shape[:2]:
        raise BoardError(f"{where}: folds {entry.folds.shape} must be {entry.e.shape[:2]}, like the errors.")
    for kind, names in (("readout", entry.readouts), ("perturbation", entry.perturbations)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise BoardError(f"{where}: the {kind} {twice[0]!r} is listed twice; give each a unique name.")


def common_panel(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the readouts that most of the runs have; the first such set on a tie."""
    sets = Counter(frozenset(entry.readouts) for entry in entries)
    most = max(sets.values())
    return next(entry.readouts for entry in entries if sets[frozenset(entry.readouts)] == most)


def standings(entries: Sequence[Entry], panel: tuple[str, ...]) -> list[Standing]:
    """Place every run on the board's panel and say who is not ranked, and why.

    A mean over other readouts or other cells is another quantity: a run that lacks readouts of the panel, or
    predictions for values under test, is shown with its reason and not ranked. Where an entrant lacks a few
    units only, no run is scored on their perturbations (:mod:`leaderboard.gaps`), and it is ranked.
    """
    kept = leave_out([_restrict(entry, panel) for entry in entries])
    observed = _observed(kept.entries, panel)
    placed = [_place(entry, panel, observed, kept.tolerated.get(entry.run)) for entry in kept.entries]
    reference = next((standing for standing in placed if not standing.unranked), None)
    return [_against_reference(standing, reference) for standing in placed]


def shared(a: Standing, b: Standing) -> tuple[Summands, Summands]:
    """Summands of two runs over the cells both have; those at hand where the cells are the same.

    Raises
    ------
    BoardError
        When they share nothing, or were scored in other folds or against other floors.
    """
    left, right = a.summands, b.summands
    if a.entry.fold_values is not None:
        return (left, right) if a.cells == b.cells else shared_folds(a.entry, b.entry)[:2]
    if a.cells == b.cells and np.allclose(left.floor_loss, right.floor_loss, rtol=1e-3, atol=1e-6):
        return left, right
    both = aligned(a.entry, b.entry)
    return summands(both.ea, both.e0a, both.folds), summands(both.eb, both.e0b, both.folds)


def _restrict(entry: Entry, panel: tuple[str, ...]) -> Entry:
    """Cut a run that has all of the panel to it; leave one that lacks some as it is."""
    if entry.readouts == panel or not set(panel) <= set(entry.readouts):
        return entry
    index = {name: column for column, name in enumerate(entry.readouts)}
    columns = [index[name] for name in panel]
    if entry.fold_values is not None:
        return replace(entry, fold_values=entry.fold_values[:, :, columns], readouts=panel)
    return replace(entry, e=entry.e[:, :, columns], e0=entry.e0[:, :, columns], readouts=panel)


def _observed(entries: Sequence[Entry], panel: tuple[str, ...]) -> NDArray[np.bool_]:
    """Cells (R, P or K, T) that have a value in any run: what a run without a prediction has left out.

    Permuted runs have their missing values elsewhere and do not count.
    """
    whole = [entry for entry in entries if entry.readouts == panel]
    repeats = max(len(entry.folds) for entry in whole)
    seen = np.zeros((repeats, *_tested(whole[0]).shape[1:]), dtype=bool)
    for entry in whole:
        cells = _tested(entry)
        if entry.role != "permuted" and entry.perturbations == whole[0].perturbations:
            seen[: len(cells)] |= cells
    return seen


def _tested(entry: Entry) -> NDArray[np.bool_]:
    """Cells of a run that were tested and have a floor, (R, P, T), or a score, (R, K, T)."""
    if entry.fold_values is not None:
        return np.isfinite(entry.fold_values)
    return np.isfinite(entry.e0) & (entry.folds >= 0)[:, :, None]


def _place(
    entry: Entry, panel: tuple[str, ...], observed: NDArray[np.bool_], gaps: tuple[str, ...] | None
) -> Standing:
    lacking = len(set(panel) - set(entry.readouts))
    seen = _tested(entry)
    expected = observed[: len(seen)] if seen.shape[1:] == observed.shape[1:] else seen
    if entry.fold_values is None:
        values = summands(entry.e, entry.e0, entry.folds)
        expected = expected & (entry.folds >= 0)[:, :, None]
        seen = seen & np.isfinite(entry.e)
    else:
        values = summands_of_folds(entry)
    missing = int((expected & ~seen).any(axis=(0, 1)).sum())
    skipped = _skipped(entry, observed)
    reason = ""
    if np.isnan(values.skill):
        reason = "no readout has a defined score"
    elif lacking:
        reason = f"it lacks {lacking} of the board's {len(panel)} readouts"
    elif entry.role != "entrant":
        reason = entry.role
    elif entry.coverage < 1 and gaps is None:
        unpredicted = int((expected.any(axis=(0, 1)) & ~seen.any(axis=(0, 1))).sum())
        share = f"{100 * entry.coverage:.3g} % of the units"
        if unpredicted:
            share = f"{len(panel) - unpredicted} of {len(panel)} readouts"
        reason = f"it was partly run ({share})"
    elif skipped:
        reason = f"a repeat leaves out {skipped} perturbations that others were tested on"
    elif missing:
        reason = f"it has no finite prediction for values of {missing} of {len(panel)} readouts"
    comparable = not reason or reason in ("control", "floor", "ceiling")
    return Standing(
        entry, values, reason, _fingerprint(entry, seen), comparable, (gaps or ()) if not reason else ()
    )


def _skipped(entry: Entry, observed: NDArray[np.bool_]) -> int:
    """Most perturbations left out of a repeat that was run: a mean over chosen folds is another quantity."""
    if entry.fold_values is not None or observed.shape[1] != entry.folds.shape[1]:
        return 0
    tested = entry.folds >= 0
    run = np.flatnonzero(tested[: len(observed)].any(axis=1))
    asked, tested = np.any(observed[run], axis=2), tested[run]
    return int((asked & ~tested).sum(axis=1).max(initial=0))


def _fingerprint(entry: Entry, seen: NDArray[np.bool_]) -> bytes:
    digest = sha256(repr((entry.readouts, entry.perturbations, seen.shape)).encode())
    digest.update(np.packbits(seen).tobytes())
    digest.update(np.ascontiguousarray(entry.folds, dtype=np.int64).tobytes())
    return digest.digest()


def _against_reference(standing: Standing, reference: Standing | None) -> Standing:
    if reference is None or not standing.comparable or standing is reference:
        return standing
    try:
        shared(reference, standing)
    except BoardError as error:
        return replace(standing, unranked=str(error).rstrip("."), comparable=False)
    return standing
