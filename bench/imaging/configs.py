"""From a table of ``dataset.toml`` to a typed, frozen config; what is wrong is said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from bench.errors import DatasetError

C = TypeVar("C")

TABLE = "dataset.toml [imaging]"


def fill(kind: type[C], given: Mapping[str, Any], name: str) -> C:
    """Return ``kind`` with the given settings, each of the type and range of its default.

    Text is text, a choice is one of its literals, a whole number is at least 1 and a real number finite and
    at least 0.

    Parameters
    ----------
    kind
        A frozen dataclass whose fields all have defaults of plain values.
    given
        Settings by name.
    name
        What the settings belong to, for the message.

    Raises
    ------
    DatasetError
        For an unknown setting or a wrong value.
    """
    known = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values = {}
    for key, value in given.items():
        if key not in known:
            raise DatasetError(f"{TABLE}: {name} has no setting {key!r}; it has: {', '.join(known)}")
        values[key] = _typed(key, value, known[key], hints[key])
    return kind(**values)


def choose(value: Any, kinds: Mapping[str, type[C]], name: str) -> C | None:
    """Return the config of a named strategy: ``"none"``, its name alone, or a table with ``method``.

    Raises
    ------
    DatasetError
        For a name that is none of ``kinds``, or wrong settings.
    """
    table = {"method": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise DatasetError(f"{TABLE}: {name} is a method's name or a table with method, not {value!r}")
    settings = dict(table)
    method = settings.pop("method", next(iter(kinds)))
    if method == "none" and not settings:
        return None
    if method not in kinds:
        raise DatasetError(f"{TABLE}: unknown {name} {method!r}; known: none, {', '.join(kinds)}")
    return fill(kinds[method], settings, f"{name} {method}")


def _typed(name: str, value: Any, default: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise DatasetError(f"{TABLE}: {name} is one of {', '.join(get_args(hint))}, not {value!r}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, str):
        right, kind = isinstance(value, str), "text"
    elif isinstance(default, int):
        right, kind = number and float(value).is_integer() and value >= 1, "a number of at least 1"
    else:
        right, kind = number and 0.0 <= float(value) < float("inf"), "a number of at least 0"
    if not right:
        raise DatasetError(f"{TABLE}: {name} is {kind}, not {value!r}")
    return type(default)(value)
