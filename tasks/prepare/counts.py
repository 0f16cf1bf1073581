"""From counts to logarithms: median-of-ratios size factors, and the logarithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.base import TaskError
from tasks.prepare.readouts import Readouts, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SizeFactors(Step):
    """Divide each row by its size factor, the median of its ratios to a reference (DESeq2 [1]_).

    With k_ig the count of readout g in row i of m rows,

        s_i = median over g with k_ig > 0 of  k_ig / r_g,     r_g = (Π_i k_ig)^(1/m)

    Under ``complete`` only readouts above zero in every row take part. Under ``poscounts`` zeros are left out
    of the product (not of m), and the s_i are divided by their geometric mean; it serves sparse counts.
    A row's factor is its own, but the reference is over all rows, tested ones included. A row without any
    count above zero among those that take part has no factor: it is refused, or with ``empty = "missing"``
    all its values become missing.

    References
    ----------
    .. [1] Anders & Huber, Differential expression analysis for sequence count data, Genome Biol. 2010, eq. 5;
       Love, Huber & Anders 2014.
    """

    reference: Literal["complete", "poscounts"] = "complete"
    empty: Literal["refuse", "missing"] = "refuse"

    name = "size-factors"
    takes = ("counts",)

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return counts per size factor."""
        _not_negative(given, self.name)
        factors = size_factors(given.values, self.reference, self.empty)
        lost = int(np.isnan(factors).sum())
        told = f"; {lost} without counts became missing" if lost else ""
        return replace(given, values=given.values / factors[:, None]), (
            f"{self.name}: every row divided by its median-of-ratios size factor ({self.reference}; "
            f"{np.nanmin(factors):.3g} to {np.nanmax(factors):.3g}; the reference is over all rows{told})"
        )


def size_factors(
    counts: NDArray[np.float64],
    reference: Literal["complete", "poscounts"] = "complete",
    empty: Literal["refuse", "missing"] = "refuse",
) -> NDArray[np.float64]:
    """Return (m,) size factors of counts (m, T), NaN for empty rows; readouts with a gap take no part.

    Raises
    ------
    TaskError
        When no readout can serve as reference, or a row has none above zero among those that do.
    """
    known = ~np.isnan(counts).any(axis=0)
    k = counts[:, known]
    with np.errstate(divide="ignore"):
        log = np.log(k)
    if reference == "complete":
        usable = (k > 0).all(axis=0)
        if not usable.any():
            raise TaskError(
                "step 'size-factors': every readout is zero or missing in some row, so there is no complete "
                'reference; set reference = "poscounts"'
            )
        centre = log[:, usable].mean(axis=0)
    else:
        usable = (k > 0).any(axis=0)
        if not usable.any():
            raise TaskError("step 'size-factors': no readout is above zero; are these counts?")
        centre = np.where(k > 0, log, 0.0)[:, usable].sum(axis=0) / len(k)
    ratio = np.where(k[:, usable] > 0, log[:, usable] - centre, np.nan)
    some = ~np.isnan(ratio).all(axis=1)
    if empty == "refuse" and not some.all():
        raise TaskError(
            f"step 'size-factors': row {int(np.argmin(some)) + 1} has no count above zero "
            f'({int((~some).sum())} such rows); drop the rows, or set empty = "missing"'
        )
    log_factor = np.full(len(counts), np.nan)
    log_factor[some] = np.nanmedian(ratio[some], axis=1)
    if reference == "poscounts":
        log_factor -= np.nanmean(log_factor)
    factors: NDArray[np.float64] = np.exp(log_factor)
    return factors


@dataclass(frozen=True)
class Log(Step):
    """Take log2(x + ``pseudocount``); the scale becomes ``log``."""

    pseudocount: float = 1.0

    name = "log"
    takes = ("counts", "ratio")

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return logarithms."""
        _not_negative(given, self.name)
        if self.pseudocount == 0.0 and (given.values == 0).any():
            row, column = np.argwhere(given.values == 0)[0]
            raise TaskError(
                f"step {self.name!r}: readout {given.names[column]!r} of row {row + 1} is 0, which has no "
                "logarithm; set a pseudocount above 0"
            )
        values = np.log2(given.values + self.pseudocount)
        return replace(given, values=values, scale="log"), f"{self.name}: log2(x + {self.pseudocount:g})"


def _not_negative(given: Readouts, step: str) -> None:
    wrong = np.argwhere(given.values < 0)
    if len(wrong):
        row, column = wrong[0]
        raise TaskError(
            f"step {step!r}: readout {given.names[column]!r} of row {row + 1} is "
            f"{given.values[row, column]:g}, below 0 on scale {given.scale!r} ({len(wrong)} such values); "
            "correct the scale"
        )
