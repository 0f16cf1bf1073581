"""From records of screens to observed rates with their Monte-Carlo intervals, beside what is stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.selfcheck.designs import Design
    from bench.selfcheck.examine import Record

    Columns = dict[str, NDArray[np.float64]]

NOMINAL = 0.05
SURE = 0.95
"""Posterior probability from which a statement counts as made."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is observed per screen, 0 or 1 or a share, and the rate that its mean may not exceed.

    Parameters
    ----------
    name, text
        What it is called, and what it says.
    needs
        A field of the record, of the screens that count.
    value
        Columns of these screens to (n,) values.
    stated
        Largest mean that is claimed; None for power.
    """

    name: str
    text: str
    needs: str
    value: Callable[[Columns], NDArray[Any]]
    stated: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """An observed rate: mean over ``screens``, 95 % interval, one-sided 95 % lower bound ``least``."""

    design: str
    measure: str
    text: str
    observed: float
    low: float
    high: float
    least: float
    screens: int
    stated: float | None

    @property
    def exceeds(self) -> bool:
        """Whether the observed rate is above the stated one, beyond chance."""
        return self.stated is not None and self.least > self.stated


def _one_side(c: Columns, pair: str) -> NDArray[Any]:
    """Posterior of the difference gives :data:`SURE` to one side of the true difference."""
    from scipy.special import stdtr

    truth = 0.0 if pair == "ab" else c[f"{pair}_difference"].mean()
    below = stdtr(c[f"{pair}_df"], (truth - c[f"{pair}_difference"]) / c[f"{pair}_error"])
    return np.asarray((below >= SURE) | (below <= 1.0 - SURE))


def _missed(c: Columns, name: str, estimate: str) -> NDArray[Any]:
    truth = c[estimate].mean()
    return np.asarray((truth < c[f"{name}_low"]) | (truth > c[f"{name}_high"]))


MEASURES = (
    Measure(
        "d1",
        "equal entrants declared different (D1, no margin)",
        "ab_resolved",
        lambda c: c["ab_resolved"],
        NOMINAL,
    ),
    Measure(
        "d1-margin",
        "the same with the protocol's margin",
        "ab_better",
        lambda c: c["ab_better"] + c["ab_worse"],
        NOMINAL,
    ),
    Measure(
        "posterior-equal",
        "P(better) or P(worse) of equal entrants at least 95 %",
        "ab_p_better",
        lambda c: np.maximum(c["ab_p_better"], c["ab_p_worse"]) >= SURE,
        NOMINAL,
    ),
    Measure(
        "posterior-side",
        "posterior at least 95 % on one side of the true difference of equals",
        "ab_df",
        lambda c: _one_side(c, "ab"),
        2 * NOMINAL,
    ),
    Measure(
        "posterior-side-ac",
        "the same of unequals",
        "ac_df",
        lambda c: _one_side(c, "ac"),
        2 * NOMINAL,
    ),
    Measure("power", "a worse entrant is found (D1, margin)", "ac_better", lambda c: c["ac_better"]),
    Measure("reversed", "a worse entrant is called better", "ac_worse", lambda c: c["ac_worse"], NOMINAL),
    Measure(
        "one-missed",
        "interval of one run misses (D2)",
        "skill_low",
        lambda c: _missed(c, "skill", "skill"),
        NOMINAL,
    ),
    Measure(
        "difference-missed",
        "interval of a true difference misses (D2)",
        "ac_low",
        lambda c: _missed(c, "ac", "ac_difference"),
        NOMINAL,
    ),
    Measure(
        "ranks",
        "a wrong or tied pair is ordered (D4, no margin)",
        "false_order",
        lambda c: c["false_order"],
        NOMINAL,
    ),
    Measure(
        "floor-fdr",
        "false discoveries against the floor (D3, q = 5 %)",
        "false_share",
        lambda c: c["false_share"],
        NOMINAL,
    ),
    Measure("floor-power", "linked readouts found (D3)", "power", lambda c: c["power"]),
    Measure(
        "between-any",
        "any readout of equals declared different (D3)",
        "between_any",
        lambda c: c["between_any"],
        NOMINAL,
    ),
    Measure(
        "families-fdr",
        "false readouts among those selected (hierarchical)",
        "families_false_share",
        lambda c: c["families_false_share"],
        NOMINAL,
    ),
    Measure("warned", "the audit warns of plates", "warned", lambda c: c["warned"]),
)


def rates(design: Design, records: Sequence[Record]) -> list[Rate]:
    """Return the observed rates of one design; a measure that no screen has is left out."""
    found = []
    for measure in MEASURES:
        own = [record for record in records if measure.needs in record]
        if not own:
            continue
        shared = set.intersection(*(set(record) for record in own))
        columns = {name: np.array([record[name] for record in own]) for name in shared}
        values = np.asarray(measure.value(columns), dtype=float)
        low, high, least = bounds(values)
        stated = measure.stated if design.claimed else None
        mean = float(values.mean())
        found.append(
            Rate(design.name, measure.name, measure.text, mean, low, high, least, len(values), stated)
        )
    return found


def exceeded(found: Sequence[Rate]) -> list[Rate]:
    """Return the rates that are above what is stated, beyond chance."""
    return [rate for rate in found if rate.exceeds]


def bounds(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """95 % interval of a mean, and its one-sided 95 % lower bound.

    Clopper-Pearson for values of 0 and 1; for shares, normal with the standard error of the mean.
    """
    from scipy.special import ndtri

    n = len(values)
    if np.isin(values, (0.0, 1.0)).all():
        hits = int(values.sum())
        return _clopper(hits, n, 0.025), 1.0 - _clopper(n - hits, n, 0.025), _clopper(hits, n, 0.05)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
    two, one = float(ndtri(0.975)) * error, float(ndtri(0.95)) * error
    return max(0.0, mean - two), min(1.0, mean + two), max(0.0, mean - one)


def _clopper(hits: int, n: int, tail: float) -> float:
    """Lower Clopper-Pearson bound: the rate at which so many hits or more have probability ``tail``."""
    from scipy.special import betaincinv

    return 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
