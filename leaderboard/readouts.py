"""Per-readout tests of a whole board: predictable, its expectation under permuted labels, beyond controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard.adjust import benjamini_hochberg, hierarchical
from leaderboard.comparison import aligned
from leaderboard.folded import chance_test, entry_test
from leaderboard.predictable import PerReadout, against_entry, against_floor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from leaderboard.panel import Standing
    from leaderboard.rules import Rules
    from leaderboard.schema import Entry
    from leaderboard.summands import FloatArray


Tick = Callable[[str, int, int], None]
"""Told of progress: stage, done, total."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of readouts; NaN where there is nothing to count from."""

    predictable: float
    permuted: float
    beyond: float


@dataclass(frozen=True, eq=False)
class ReadoutTests:
    """All per-readout tests of a board, by run.

    Parameters
    ----------
    floor
        D3 against the floor, per run (the floor itself has none).
    controls
        (T,) q-values of "better than every control", per entrant and ceiling, where a control is available.
    permuted
        Run of the permuted twin, per run that has one.
    q
        Level of the q-values.
    found
        (T,) bool per run whose readouts were tested hierarchically, in the place of its q-values.
    """

    floor: dict[str, PerReadout]
    controls: dict[str, FloatArray]
    permuted: dict[str, str]
    q: float
    found: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def predictable(self, run: str) -> NDArray[np.bool_]:
        """(T,) bool: predicted better than the floor."""
        return self.found[run] if run in self.found else self.floor[run].significant(self.q)

    def beyond(self, run: str) -> NDArray[np.bool_]:
        """(T,) bool: predictable, and better than every control."""
        return self.predictable(run) & (self.controls[run] < self.q)

    def counts(self, run: str) -> Counts:
        """Numbers for one row of the board."""
        if run not in self.floor or np.isnan(self.floor[run].p).all():
            return Counts(np.nan, np.nan, np.nan)
        twin = self.permuted.get(run)
        return Counts(
            predictable=float(self.predictable(run).sum()),
            permuted=np.nan if twin is None else float(self.predictable(twin).sum()),
            beyond=float(self.beyond(run).sum()) if run in self.controls else np.nan,
        )

    def frame(self, placed: Sequence[Standing], panel: tuple[str, ...]) -> pd.DataFrame:
        """One row per run and readout."""
        parts = []
        for standing in placed:
            run, readouts = standing.entry.run, standing.entry.readouts
            nothing = np.full(len(readouts), np.nan)
            test = self.floor.get(run, PerReadout(nothing, nothing, nothing))
            has_controls = run in self.controls and readouts == panel
            beyond = self.beyond(run) if has_controls else np.zeros(len(readouts), dtype=bool)
            parts.append(
                pd.DataFrame(
                    {
                        "run": run,
                        "readout": readouts,
                        "skill": standing.summands.skill_by_readout,
                        "noise_ceiling": noise_ceiling(standing.entry),
                        "p": test.p,
                        "q": test.q,
                        "predictable": self.predictable(run)
                        if run in self.floor
                        else test.significant(self.q),
                        "q_controls": self.controls[run] if has_controls else nothing,
                        "beyond_controls": beyond,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)


def readout_tests(
    placed: Sequence[Standing], panel: tuple[str, ...], rules: Rules, tick: Tick | None = None
) -> ReadoutTests:
    """Run every per-readout test of a board.

    ROC AUC is tested against chance by :mod:`leaderboard.folded`; other scores that exist per fold only have
    no test, because perturbations do not contribute to them one by one. Under a protocol whose error rates
    were not measured nothing is tested.

    "Beyond controls" is an intersection-union test (Berger 1982, Technometrics 24, 295-300): its p-value is
    the largest over the controls of the A-vs-B p-values, 1 where a control is at least as good, with
    Benjamini-Hochberg over readouts; a readout counts when it is predictable too.

    Parameters
    ----------
    placed
        Runs of the board.
    panel
        The board's readouts.
    rules
        Flips, seed and q.
    tick
        Told of progress: stage, runs done, runs in all.
    """
    floor: dict[str, PerReadout] = {}
    beyond: dict[str, FloatArray] = {}
    for done, standing in enumerate(placed, start=1):
        entry = standing.entry
        if entry.role != "floor" and (test := _against_floor(standing, rules)) is not None:
            floor[entry.run] = test
        rivals = controls_of(standing, placed)
        if rivals and entry.run in floor and entry.role in ("entrant", "ceiling") and entry.readouts == panel:
            p = np.max([_better_than(standing, rival, rules) for rival in rivals], axis=0)
            beyond[entry.run] = benjamini_hochberg(p)
        if tick is not None:
            tick("testing readouts", done, len(placed))
    twins = {s.entry.run: other for s in placed if (other := twin(s, placed))}
    found = _hierarchical(placed, panel, floor, rules) if rules.families == "readouts" else {}
    return ReadoutTests(floor=floor, controls=beyond, permuted=twins, q=rules.q, found=found)


def _against_floor(standing: Standing, rules: Rules) -> PerReadout | None:
    entry = standing.entry
    if not entry.variance_measured:
        return None
    if entry.fold_values is not None:
        return chance_test(entry)
    return against_floor(entry.e, entry.e0, entry.folds, standing.summands.defined, rules)


def _hierarchical(
    placed: Sequence[Standing], panel: tuple[str, ...], floor: dict[str, PerReadout], rules: Rules
) -> dict[str, NDArray[np.bool_]]:
    """Readouts found with a family per readout: over the ranked entrants, and over the permuted runs."""
    found: dict[str, NDArray[np.bool_]] = {}
    for role in ("entrant", "permuted"):
        runs = [
            s.entry.run
            for s in placed
            if s.entry.role == role
            and s.entry.readouts == panel
            and s.entry.run in floor
            and (role == "permuted" or not s.unranked)
        ]
        if not runs:
            continue
        rejected = hierarchical(np.stack([floor[run].p for run in runs]), rules.q)
        found |= {run: own & (floor[run].effect > 0) for run, own in zip(runs, rejected, strict=True)}
    return found


def controls_of(standing: Standing, placed: Sequence[Standing]) -> list[Standing]:
    """Return the controls a run must beat: those with its head, or all where none has it.

    A control that lacks readouts of the board, or was scored against another floor, is not available.
    """
    controls = [
        s
        for s in placed
        if s.entry.role == "control"
        and s.comparable
        and s.entry.run != standing.entry.run
        and s.entry.readouts == standing.entry.readouts
    ]
    same_head = [s for s in controls if s.entry.head == standing.entry.head]
    return same_head or controls


def _better_than(standing: Standing, rival: Standing, rules: Rules) -> FloatArray:
    """(T,) p-values of "better than ``rival``"; 1 where it is not, NaN where nothing is shared."""
    defined = standing.summands.defined & rival.summands.defined
    if standing.entry.fold_values is not None:
        test = entry_test(standing.entry, rival.entry, standing.entry.readouts)
    elif standing.cells == rival.cells:
        test = against_entry(standing.entry.e, rival.entry.e, standing.entry.folds, defined, rules)
    else:
        both = aligned(standing.entry, rival.entry)
        test = against_entry(both.ea, both.eb, both.folds, defined, rules)
    return np.where(np.isnan(test.p), np.nan, np.where(test.effect > 0, test.p, 1.0))


def noise_ceiling(entry: Entry) -> FloatArray:
    """(T,) noise ceilings that a run's scores state (stratum ``all``), NaN where they state none."""
    scores = entry.scores
    if not {"noise_ceiling", "readout", "stratum"} <= set(scores):
        return np.full(len(entry.readouts), np.nan)
    whole = scores["stratum"].to_numpy() == "all"
    values = scores["noise_ceiling"].to_numpy(dtype=np.float64)[whole]
    stated = dict(zip(scores["readout"].to_numpy()[whole], values, strict=True))
    return np.array([stated.get(name, np.nan) for name in entry.readouts], dtype=np.float64)


def twin(standing: Standing, placed: Sequence[Standing]) -> str | None:
    """Run of the permuted entry that belongs to this one: same head, named by run, label or name.

    By its name alone only where no other run is called so: another preset's permuted run, or that of the run
    beside an imported one, was made from other predictions.
    """
    entry = standing.entry
    if entry.role == "permuted":
        return None
    same_head = [s.entry for s in placed if s.entry.head == entry.head]
    twins = [other for other in same_head if other.role == "permuted"]
    owned = {text for other in same_head if other.role != "permuted" for text in (other.run, other.label)}
    for identity in (entry.run, entry.label, None if entry.name in owned else entry.name):
        named = [twin for twin in twins if twin.permutes is not None and twin.permutes == identity]
        same_preset = [twin for twin in named if twin.preset == entry.preset]
        if named:
            return (same_preset or named)[0].run
    return None
