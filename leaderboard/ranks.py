"""Ranks (D4): all pairs by the D1 statistic, Holm over the pairs, rank intervals and tie groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.adjust import holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from leaderboard.decide import Decision


@dataclass(frozen=True, eq=False)
class Ranking:
    """What all pairs together allow to say.

    Parameters
    ----------
    beats
        (m, m) bool: row declared better than column.
    low, high
        (m,) rank interval [1 + declared better than it, m - declared worse than it].
    ties
        (m,) letters; two entrants that share one were not declared different.
    adjusted
        Holm-adjusted p-value per pair (i, j), i < j.
    """

    beats: NDArray[np.bool_]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    ties: tuple[str, ...]
    adjusted: dict[tuple[int, int], float]


def rank(
    count: int, decisions: Mapping[tuple[int, int], Decision], *, margin: float, level: float
) -> Ranking:
    """Rank ``count`` entrants from the decisions of all their pairs.

    Parameters
    ----------
    count
        Number of entrants m, in order of skill.
    decisions
        One per pair (i, j), i < j.
    margin
        A pair is declared different when its Holm-adjusted p is at most ``level`` and its difference exceeds
        this margin.
    level
        Familywise level over all pairs.
    """
    pairs = sorted(decisions)
    adjusted = dict(zip(pairs, holm([decisions[pair].p for pair in pairs]).tolist(), strict=True))
    beats = np.zeros((count, count), dtype=bool)
    for (i, j), p in adjusted.items():
        difference = decisions[i, j].difference
        if math.isfinite(p) and p <= level and abs(difference) > margin:
            winner, loser = (i, j) if difference > 0 else (j, i)
            beats[winner, loser] = True
    return Ranking(
        beats=beats,
        low=1 + beats.sum(axis=0),
        high=count - beats.sum(axis=1),
        ties=tie_letters(beats | beats.T),
        adjusted=adjusted,
    )


def tie_letters(different: NDArray[np.bool_]) -> tuple[str, ...]:
    """Compact letter display by insertion and absorption (Piepho 2004, J. Comput. Graph. Stat. 13, 456-466).

    Parameters
    ----------
    different
        (m, m) symmetric bool: pairs declared different.

    Returns
    -------
    tuple of str
        One string of letters per entrant: two share a letter exactly when they were not declared different.
    """
    count = len(different)
    columns: list[frozenset[int]] = [frozenset(range(count))] if count else []
    for i, j in zip(*np.nonzero(np.triu(different)), strict=True):
        split: list[frozenset[int]] = []
        for column in columns:
            split += [column - {int(i)}, column - {int(j)}] if {i, j} <= column else [column]
        columns = _maximal(split)
    columns.sort(key=sorted)
    return tuple(
        "".join(_letter(k) for k, column in enumerate(columns) if member in column) for member in range(count)
    )


def _maximal(columns: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    unique = list(dict.fromkeys(columns))
    return [column for column in unique if not any(column < other for other in unique)]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"({index + 1})"
