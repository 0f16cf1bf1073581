"""Numbers as text, the same in every output: three decimals, intervals in brackets, a dash for nothing."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

NOTHING = "–"
MINUS = "\u2212"
HUGE = 999.5


def number(value: float, *, signed: bool = False) -> str:
    """Three decimals with a true minus sign, two digits from 1,000 on; a dash for NaN."""
    if _nothing(value):
        return NOTHING
    digits = ".3f" if abs(value) < HUGE else ".1e"
    text = f"{value:+{digits}}" if signed else f"{value:{digits}}"
    if float(text) == 0.0:
        text = text.replace("-", "").replace("+", "")
    return text.replace("-", MINUS)


def interval(value: float, low: float, high: float) -> str:
    """``0.123 [0.101, 0.145]``; the value alone where no interval can be stated."""
    if _nothing(low) or _nothing(high):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def count(value: float) -> str:
    """Return a whole number; a dash for nothing."""
    return NOTHING if _nothing(value) else f"{int(value)}"


def seconds(value: float) -> str:
    """Return a duration: ``8 s``, ``3 min``, ``2.5 h``."""
    if _nothing(value):
        return NOTHING
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5940 else f"{value / 3600:.1f} h"


def memory(megabytes: float) -> str:
    """Return a size: ``420 MB``, ``1.6 GB``."""
    if _nothing(megabytes):
        return NOTHING
    return f"{megabytes:.0f} MB" if megabytes < 999.5 else f"{megabytes / 1000:.1f} GB"


def share(value: float) -> str:
    """Return a percentage, never rounded up to 100 %."""
    if _nothing(value):
        return NOTHING
    return f"{math.floor(value * 1000) / 10:.3g} %"


def rank(low: float, high: float) -> str:
    """Rank interval, ``1`` or ``1–3``; a dash for who is not ranked."""
    if _nothing(low):
        return NOTHING
    return count(low) if low == high else f"{count(low)}–{count(high)}"


def against_above(difference: float, verdict: str) -> str:
    """``−0.031 worse``; a dash for the first and for who is not ranked."""
    return f"{number(difference, signed=True)} {verdict}" if verdict else NOTHING


def predictable(found: float, permuted: float) -> str:
    """``123 (4)``: predictable readouts and their number under permuted labels."""
    return NOTHING if _nothing(found) else f"{count(found)} ({count(permuted)})"


def _nothing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
