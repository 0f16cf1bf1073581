"""Names of strategies that several learned entrants share, and checks of their configs. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from featurizers.base import FeaturizerError

Standardise = Literal["dataset", "field", "crop-inside-mask"]
Warmup = Literal["linear", "cosine"]
Precision = Literal["float32", "bfloat16"]
Optimiser = Literal["lion", "adamw"]
ClipRule = Literal["global-norm", "per-tensor"]
Compile = Literal["none", "default"]


LARGEST_NUMBER = 3.4e38
"""Beyond it a float32 is infinite, and torch refuses a number in words of its own."""

LARGEST_COUNT = 2**31 - 1

LARGEST_FACTOR = 64.0
"""Of sizes: a larger one is a typing error that would end in memory."""

LARGEST_EDGE = 1024
"""Of the square lattice of pixels of a field: that of blocks of 2 × 2 pixels of a camera of 2,048 × 2,048."""


def check(
    name: str,
    config: Any,
    *,
    positive: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    below_one: Iterable[str] = (),
    at_most_one: Iterable[str] = (),
    rates: Iterable[str] = (),
    factors: Iterable[str] = (),
) -> None:
    """Refuse a value outside its menu, what is no number, and a number outside its range.

    Parameters
    ----------
    name
        The entrant, for messages.
    config
        A dataclass; fields whose type is a ``Literal`` have a menu, those of ``int`` and ``float`` are
        numbers, and no number may be infinite or NaN.
    positive, not_negative, below_one, at_most_one
        Fields in (0, ∞), [0, ∞), [0, 1) and [0, 1].
    rates
        Learning rates, in (0, 1]: Adam and Lion move a weight by about as much in one step.
    factors
        What sizes are multiplied with, in (0, 64].

    Raises
    ------
    FeaturizerError
        Naming the first field that is wrong, its value, and what it may be.
    """
    for key, hint in _hints(config.__class__).items():
        wanted = _wanted(getattr(config, key), hint)
        if wanted:
            msg = f"{name}: {key} is {getattr(config, key)!r}; {wanted}"
            raise FeaturizerError(msg)
    ranges: tuple[tuple[Iterable[str], Callable[[float], bool], str], ...] = (
        (positive, lambda x: x > 0, "be positive"),
        (not_negative, lambda x: x >= 0, "be 0 or more"),
        (below_one, lambda x: 0 <= x < 1, "lie in [0, 1)"),
        (at_most_one, lambda x: 0 <= x <= 1, "lie in [0, 1]"),
        (rates, lambda x: 0 < x <= 1, "be positive and at most 1, about what a weight moves in one step"),
        (factors, lambda x: 0 < x <= LARGEST_FACTOR, f"be positive and at most {LARGEST_FACTOR:.0f}"),
    )
    for keys, fits, range_ in ranges:
        for key in keys:
            if not fits(getattr(config, key)):
                msg = f"{name}: {key} is {getattr(config, key)}; it must {range_}"
                raise FeaturizerError(msg)


@lru_cache  # of a handful of classes, each asked for whenever a config is made
def _hints(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def _wanted(value: Any, hint: Any) -> str:
    """Return what a field of this type may be, if ``value`` is not that."""
    if get_origin(hint) is Literal and value not in get_args(hint):
        return f"choose one of {', '.join(map(str, get_args(hint)))}"
    if hint is int and not (isinstance(value, int) and abs(value) <= LARGEST_COUNT):
        return f"it must be a whole number up to {LARGEST_COUNT:,}"
    if hint is float and not (isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER):
        return f"it must be a number up to {LARGEST_NUMBER:g}"
    return ""


def check_lattice(name: str, pixels: int) -> None:
    """Refuse a number of pixels per field that no square lattice has, or that no memory holds; 0 is all.

    Raises
    ------
    FeaturizerError
        Names the bound or the two nearest square numbers.
    """
    edge = math.isqrt(pixels)
    if pixels > LARGEST_EDGE**2:
        msg = (
            f"{name}: pixels is {pixels:,}; it must be at most {LARGEST_EDGE**2:,} ({LARGEST_EDGE:,} × "
            f"{LARGEST_EDGE:,}), because a training holds so many of every field in memory"
        )
        raise FeaturizerError(msg)
    if edge**2 != pixels:
        msg = (
            f"{name}: pixels is {pixels:,}, no square number, and they are taken on a square lattice; "
            f"set {edge**2:,} or {(edge + 1) ** 2:,}"
        )
        raise FeaturizerError(msg)
