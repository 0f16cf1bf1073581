"""Boards: runs grouped by what makes them comparable, ranked, tested per readout, with notes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard import notes as words
from leaderboard.apart import Heading, separations
from leaderboard.decide import Decision, decide, skill_interval
from leaderboard.panel import Standing, check, common_panel, shared, standings
from leaderboard.ranks import Ranking, rank
from leaderboard.readouts import ReadoutTests, Tick, noise_ceiling, readout_tests
from leaderboard.rules import Rules
from leaderboard.schema import BoardError, Entry
from leaderboard.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from leaderboard.report import Material, Written

MISSING = float("nan")
FLIPPED = {"better": "worse", "worse": "better", "tied": "tied", "undecided": "undecided"}
"""The verdict on the second of a pair."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Board(Sheet):
    """The runs of one dataset version, layer, task, protocol and fold table.

    Parameters
    ----------
    entries
        The runs, in the order of ``rows``.
    readouts
        One row per run and readout: ``run``, ``readout``, ``skill``, ``noise_ceiling``, ``p``, ``q``,
        ``predictable``, ``q_controls``, ``beyond_controls``.
    """

    entries: tuple[Entry, ...]
    readouts: pd.DataFrame


class Leaderboard:
    """Group runs into boards; runs are never ranked across boards.

    Parameters
    ----------
    entries
        Runs, in any order.
    rules
        Levels and sign-flips.
    tick
        Told of progress: stage, runs done, runs in all (per board).

    Attributes
    ----------
    boards
        One per dataset, version, layer, task, protocol and fold table, in order of first appearance.
    separations
        One sentence per further board: why its runs are not ranked with an earlier one's.

    Raises
    ------
    BoardError
        When a run is given twice or its arrays do not fit its names.
    """

    def __init__(
        self, entries: Sequence[Entry], rules: Rules | None = None, tick: Tick | None = None
    ) -> None:
        rules = rules or Rules()
        groups: dict[tuple[str, ...], list[Entry]] = {}
        seen: set[str] = set()
        for entry in entries:
            check(entry)
            if entry.run in seen:
                raise BoardError(f"Run {entry.run!r} is given twice; pass every run once.")
            seen.add(entry.run)
            groups.setdefault(Heading.of(entry).key, []).append(entry)
        self.boards = [make_board(group, rules, tick) for group in groups.values()]
        self.separations = separations([board.heading for board in self.boards])

    @classmethod
    def read(cls, folder: str | Path, rules: Rules | None = None) -> Leaderboard:
        """Rank the runs of a folder of Parquet tables, see :mod:`leaderboard.folder`."""
        from leaderboard.folder import read_folder

        return cls(read_folder(folder), rules)

    def report(self, path: str | Path, material: Material | None = None) -> Written:
        """Write every board, its figures and all readouts as one HTML file, see :mod:`leaderboard.report`."""
        from leaderboard.report import write

        return write(self, path, material)


def make_board(entries: Sequence[Entry], rules: Rules, tick: Tick | None = None) -> Board:
    """Build one board from runs that share all of its key."""
    panel = common_panel(entries)
    placed = sorted(
        standings(entries, panel),
        key=_by_skill,
    )
    ranked = [standing for standing in placed if not standing.unranked]
    margin = entries[0].margin
    decisions = _decide_pairs(placed, rules)
    ranking = rank(
        len(ranked),
        {
            (i, j): decisions[ranked[i].entry.run, ranked[j].entry.run]
            for i, j in combinations(range(len(ranked)), 2)
        },
        margin=margin,
        level=rules.level,
    )
    tests = readout_tests(placed, panel, rules, tick)
    rows = _rows(placed, ranked, ranking, decisions, tests, rules)
    pairs = _pairs(decisions, ranked, ranking)
    return Board(
        heading=Heading.of(entries[0]),
        metric=entries[0].metric,
        per_fold=entries[0].fold_values is not None,
        entries=tuple(standing.entry for standing in placed),
        rows=rows,
        pairs=pairs,
        readouts=tests.frame(placed, panel),
        notes=words.notes(placed, rows, pairs, margin, rules),
        banner=words.banner(entries),
        rules=rules,
    )


def _by_skill(standing: Standing) -> tuple[float, str, str, str]:
    entry = standing.entry
    return -np.nan_to_num(standing.summands.skill, nan=-np.inf), entry.label, entry.head, entry.run


def _decide_pairs(placed: Sequence[Standing], rules: Rules) -> dict[tuple[str, str], Decision]:
    """D1 for every pair with an entrant in it, the one with more skill first."""
    comparable = [s for s in placed if s.comparable]
    decisions = {}
    for a, b in combinations(comparable, 2):
        if "entrant" not in (a.entry.role, b.entry.role):
            continue
        left, right = shared(a, b)
        decisions[a.entry.run, b.entry.run] = decide(
            left,
            right,
            margin=a.entry.margin,
            level=rules.level,
            measured=a.entry.variance_measured and b.entry.variance_measured,
        )
    return decisions


def _rows(
    placed: Sequence[Standing],
    ranked: Sequence[Standing],
    ranking: Ranking,
    decisions: dict[tuple[str, str], Decision],
    tests: ReadoutTests,
    rules: Rules,
) -> pd.DataFrame:
    position = {standing.entry.run: index for index, standing in enumerate(ranked)}
    rows = []
    for standing in placed:
        entry, values = standing.entry, standing.summands
        interval = skill_interval(values, rules.level, measured=entry.variance_measured)
        index = position.get(entry.run)
        above = decisions[ranked[index - 1].entry.run, entry.run] if index else None
        counts = tests.counts(entry.run)
        rows.append(
            {
                "rank": MISSING if index is None else index + 1,
                "rank_low": MISSING if index is None else ranking.low[index],
                "rank_high": MISSING if index is None else ranking.high[index],
                "ties": "" if index is None else ranking.ties[index],
                "label": entry.label,
                "name": entry.name,
                "role": entry.role,
                "head": entry.head,
                "skill": values.skill,
                "skill_low": interval.low,
                "skill_high": interval.high,
                "median_skill": values.median_skill,
                "above_difference": -above.difference if above else MISSING,
                "above_verdict": FLIPPED[above.verdict] if above else "",
                "above_mdd80": above.mdd80 if above else MISSING,
                "predictable": counts.predictable,
                "predictable_permuted": counts.permuted,
                "beyond_controls": counts.beyond,
                **ceiling_of(standing),
                "readouts": int(values.defined.sum()),
                "readouts_undefined": int((~values.defined).sum()),
                "perturbations": int((values.folds >= 0).any(axis=0).sum()),
                "effective_perturbations": values.effective_number,
                "coverage": entry.coverage,
                "fit_scope": entry.fit_scope,
                "preset": entry.preset,
                "seconds": entry.seconds,
                "peak_memory_mb": entry.peak_memory_mb,
                "unranked": standing.unranked,
                "run": entry.run,
            }
        )
    frame = pd.DataFrame(rows)
    whole = ["rank", "rank_low", "rank_high", "predictable", "predictable_permuted", "beyond_controls"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def ceiling_of(standing: Standing) -> dict[str, float]:
    """Mean noise ceiling, and mean skill as a share of it, over readouts that have both; NaN without."""
    ceiling = noise_ceiling(standing.entry)
    skill = standing.summands.skill_by_readout
    both = np.isfinite(ceiling) & np.isfinite(skill)
    mean = float(ceiling[both].mean()) if both.any() else MISSING
    share = float(skill[both].mean()) / mean if mean > 0 else MISSING
    return {"noise_ceiling": mean, "share_of_ceiling": share}


def _pairs(
    decisions: dict[tuple[str, str], Decision], ranked: Sequence[Standing], ranking: Ranking
) -> pd.DataFrame:
    runs = [standing.entry.run for standing in ranked]
    adjusted = {(runs[i], runs[j]): p for (i, j), p in ranking.adjusted.items()}
    own = ["difference", "low", "high", "p", "p_holm", "mdd80", "verdict", "p_worse", "p_same", "p_better"]
    rows = [
        {"a": a, "b": b, "p_holm": adjusted.get((a, b), MISSING)} | asdict(decision)
        for (a, b), decision in decisions.items()
    ]
    return pd.DataFrame(rows, columns=["a", "b", *own])
