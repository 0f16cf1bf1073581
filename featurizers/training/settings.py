"""Names of strategies that several learned entrants share, and checks of their configs. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from featurizers.base import FeaturizerError

Standardise = Literal["dataset", "field", "crop-inside-mask"]
Warmup = Literal["linear", "cosine"]
Precision = Literal["float32", "bfloat16"]
Optimiser = Literal["lion", "adamw"]
ClipRule = Literal["global-norm", "per-tensor"]
Compile = Literal["none", "default"]


def check(name: str, config: Any, *, positive: Iterable[str] = (), not_negative: Iterable[str] = ()) -> None:
    """Refuse a value outside its menu, and a number outside its range.

    Parameters
    ----------
    name
        The entrant, for messages.
    config
        A dataclass; fields whose type is a ``Literal`` have a menu.

    Raises
    ------
    FeaturizerError
        Naming the first field that is wrong, and what it may be.
    """
    for key, hint in get_type_hints(type(config)).items():
        value = getattr(config, key)
        if get_origin(hint) is Literal and value not in get_args(hint):
            msg = f"{name}: {key} is {value!r}; choose one of {', '.join(map(str, get_args(hint)))}"
            raise FeaturizerError(msg)
    for key in positive:
        if not 0 < getattr(config, key) < float("inf"):
            msg = f"{name}: {key} is {getattr(config, key)}; it must be positive"
            raise FeaturizerError(msg)
    for key in not_negative:
        if not 0 <= getattr(config, key) < float("inf"):
            msg = f"{name}: {key} is {getattr(config, key)}; it must be 0 or more"
            raise FeaturizerError(msg)
