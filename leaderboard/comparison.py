"""Two runs side by side: the overall decision, its interval, and every readout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard.apart import why_apart
from leaderboard.decide import Decision, decide
from leaderboard.folded import entry_test, shared_folds
from leaderboard.predictable import against_entry
from leaderboard.rules import Rules
from leaderboard.schema import BoardError, Entry
from leaderboard.summands import summands

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Aligned:
    """Squared errors of two runs over what both have, (R, P, T) each; ``folds`` (R, P)."""

    ea: NDArray[np.float32]
    eb: NDArray[np.float32]
    e0a: NDArray[np.float32]
    e0b: NDArray[np.float32]
    folds: NDArray[np.int64]
    readouts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Run ``a`` against run ``b``; positive differences speak for ``a``.

    Parameters
    ----------
    a, b
        Labels.
    overall
        D1 verdict and D2 interval over the readouts and folds both have.
    skill_a, skill_b
        Mean skill over the same.
    readouts
        One row per shared readout: ``readout``, ``skill_a``, ``skill_b``, ``difference``, ``p``, ``q``
        (D3, A vs B) and ``verdict``.
    """

    a: str
    b: str
    overall: Decision
    skill_a: float
    skill_b: float
    readouts: pd.DataFrame


def compare(a: Entry, b: Entry, rules: Rules | None = None) -> Comparison:
    """Compare two runs of one board, overall and per readout.

    Parameters
    ----------
    a, b
        Runs of the same dataset version, layer, task, protocol and folds.
    rules
        Levels and sign-flips.

    Raises
    ------
    BoardError
        When the runs do not belong on one board or share nothing.
    """
    rules = rules or Rules()
    measured = a.variance_measured and b.variance_measured
    if reason := why_apart(a, b):
        raise BoardError(f"{a.label!r} and {b.label!r} cannot be compared: {reason}.")
    if a.fold_values is not None or b.fold_values is not None:
        left, right, readouts = shared_folds(a, b)
        test = entry_test(a, b, readouts)
    else:
        both = aligned(a, b)
        readouts = both.readouts
        left = summands(both.ea, both.e0a, both.folds)
        right = summands(both.eb, both.e0b, both.folds)
        test = against_entry(both.ea, both.eb, both.folds, left.defined & right.defined, rules)
    if not measured:
        nothing = np.full(len(readouts), np.nan)
        test = replace(test, p=nothing, q=nothing)
    found = test.q < rules.q
    verdict = np.select(
        [np.isnan(test.q), found & (test.effect > 0), found & (test.effect < 0)],
        ["undecided", "better", "worse"],
        "tied",
    )
    table = pd.DataFrame(
        {
            "readout": readouts,
            "skill_a": left.skill_by_readout,
            "skill_b": right.skill_by_readout,
            "difference": left.skill_by_readout - right.skill_by_readout,
            "p": test.p,
            "q": test.q,
            "verdict": verdict,
        }
    )
    return Comparison(
        a=a.label,
        b=b.label,
        overall=decide(
            left,
            right,
            margin=a.margin,
            level=rules.level,
            measured=measured,
        ),
        skill_a=left.skill,
        skill_b=right.skill,
        readouts=table,
    )


def aligned(a: Entry, b: Entry) -> Aligned:
    """Restrict two runs to the readouts, perturbations, repeats and cells that both have.

    Errors are kept where both runs and the floor have one and are NaN elsewhere, so that both skills are over
    the same cells. Where the floor's errors differ, the runs predicted other rows of a perturbation: such a
    cell is not shared.

    Raises
    ------
    BoardError
        When nothing is shared, folds contradict each other, or the floors differ in most cells.
    """
    readouts = _common(a.readouts, b.readouts)
    perturbations = _common(a.perturbations, b.perturbations)
    repeats = min(len(a.folds), len(b.folds))
    if not readouts or not perturbations or not repeats:
        raise BoardError(f"{a.label!r} and {b.label!r} share no readout, perturbation or repeat.")
    ea, e0a, fa = _take(a, readouts, perturbations, repeats)
    eb, e0b, fb = _take(b, readouts, perturbations, repeats)
    tested = (fa >= 0) & (fb >= 0)
    if (fa[tested] != fb[tested]).any():
        raise BoardError(
            f"{a.label!r} and {b.label!r} name the same folds but tested perturbations in different ones; "
            "rerun one of them with the stored folds."
        )
    known = np.isfinite(ea) & np.isfinite(eb) & np.isfinite(e0a) & np.isfinite(e0b) & tested[:, :, None]
    same_floor = known & np.isclose(e0a, e0b, rtol=1e-3, atol=1e-6)
    if 2 * same_floor.sum() < known.sum():
        raise BoardError(
            f"{a.label!r} and {b.label!r} were scored against different floors, so their readouts or their "
            "training rows are not the same; rerun one of them."
        )
    return Aligned(
        ea=_only(ea, same_floor),
        eb=_only(eb, same_floor),
        e0a=e0a,
        e0b=e0b,
        folds=np.where(tested, fa, -1).astype(np.int64),
        readouts=readouts,
    )


def _take(
    entry: Entry, readouts: tuple[str, ...], perturbations: tuple[str, ...], repeats: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16]]:
    if readouts == entry.readouts and perturbations == entry.perturbations and repeats == len(entry.folds):
        return entry.e, entry.e0, entry.folds
    rows = pd.Index(entry.perturbations).get_indexer(pd.Index(perturbations))
    columns = pd.Index(entry.readouts).get_indexer(pd.Index(readouts))
    cells = np.ix_(np.arange(repeats), rows, columns)
    return entry.e[cells], entry.e0[cells], entry.folds[:repeats][:, rows]


def _only(e: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """NaN outside ``known``; the array itself where that changes nothing."""
    return np.where(known, e, np.float32(np.nan)) if (np.isfinite(e) & ~known).any() else e


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    if left == right:
        return left
    members = set(right)
    return tuple(name for name in left if name in members)
