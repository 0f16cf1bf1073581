"""The settings of every decision, in one place and printed with the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Families = Literal["entrants", "readouts"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Levels and Monte-Carlo settings.

    The error rates in ``docs/statistics.md`` were measured with these defaults.

    Parameters
    ----------
    level
        Two-sided level of comparisons (D1), of intervals (1 - level, D2) and, after Holm, of ranks (D4).
    q
        False discovery rate of the per-readout tests (D3).
    flips
        Sign-flips per test; the smallest p-value is 1 / (flips + 1).
    seed
        Seed of the sign-flips.
    families
        What the per-readout tests against the floor are corrected over. ``entrants``: every run's readouts by
        themselves (Benjamini-Hochberg). ``readouts``: hierarchically, first readouts that any ranked entrant
        predicts, then the entrants within each of these (:func:`leaderboard.adjust.hierarchical`).
    effective_minimum
        Below this effective number of perturbations the board says "not resolvable".
    """

    level: float = 0.05
    q: float = 0.05
    flips: int = 2000
    seed: int = 0
    families: Families = "entrants"
    effective_minimum: float = 30.0
