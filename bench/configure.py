"""Settings of an entrant from words: a preset by name, then ``key=value`` overrides by the field's type."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bench.errors import UsageError

NOTHING = "none"
"""The word for None on the command line."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence about a name that does not exist: did-you-mean, then all there are."""
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" did you mean {near[0]!r}?" if near else ""
    return f"no {what} {name!r};{guess} there are: {', '.join(names) or 'none'}"


def configure(cls: type[Any], preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Any:
    """Return the config of a featurizer or predictor.

    Parameters
    ----------
    cls
        A class with ``card``, ``Config`` and ``presets``.
    preset
        Name of a preset; None takes ``default``.
    overrides
        Config field to value. A text is read by the field's type: numbers, names out of a Literal, tuples
        as ``a,b`` (the empty text is the empty tuple), ``none`` for None where the field allows it.
        Other values (from a TOML file) are checked against the type; a list stands for a tuple.

    Raises
    ------
    UsageError
        When the preset or a field is unknown (with did-you-mean), a value cannot be read, or the config
        itself refuses it.
    """
    name = cls.card.name
    chosen = "default" if preset is None else preset
    if chosen not in cls.presets:
        raise UsageError(f"{name}: " + unknown("preset", chosen, cls.presets))
    hints = get_type_hints(cls.Config)
    fields = [f.name for f in dataclasses.fields(cls.Config) if f.init]
    values = {}
    for key, value in (overrides or {}).items():
        if key not in fields:
            raise UsageError(f"{name}: " + unknown("setting", key, fields))
        try:
            values[key] = _read(value, hints[key])
        except ValueError as error:
            raise UsageError(f"{name}: setting {key}={value!r} {error}") from error
    try:
        return dataclasses.replace(cls.presets[chosen], **values)
    except ValueError as error:
        raise UsageError(str(error)) from error


def type_name(hint: Any) -> str:
    """Return a type as a reader of ``--help`` would write it: ``a | b``, ``int, …``, ``float or none``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(NOTHING if a is type(None) else type_name(a) for a in arguments)
    if origin is tuple:
        inner = [a for a in arguments if a is not Ellipsis]
        words = ", ".join(f"({type_name(a)})" if get_origin(a) is Literal else type_name(a) for a in inner)
        return f"{words}, …" if Ellipsis in arguments else words
    return getattr(hint, "__name__", str(hint))


def _read(value: Any, hint: Any) -> Any:
    """Return ``value`` as ``hint`` asks; ValueError says what is wanted."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(value, arguments)
    if origin is Literal:
        for choice in arguments:
            if value == choice or value == str(choice):
                return choice
        near = get_close_matches(str(value), [str(a) for a in arguments], n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"is not one of {', '.join(map(str, arguments))}{guess}")
    if origin is tuple:
        return _read_tuple(value, arguments)
    if hint is Any:
        return value
    return _read_scalar(value, hint)


def _read_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    if type(None) in arguments and (value is None or value == NOTHING):
        return None
    reasons = []
    for hint in arguments:
        if hint is not type(None):
            try:
                return _read(value, hint)
            except ValueError as error:
                reasons.append(str(error))
    raise ValueError(" and ".join(reasons))


def _read_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        items: list[Any] = [part.strip() for part in value.split(",")] if value else []
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        raise ValueError("is not a list of values such as a,b")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_read(item, arguments[0]) for item in items)
    if len(items) != len(arguments):
        raise ValueError(f"has {len(items)} values where {len(arguments)} are wanted")
    return tuple(_read(item, hint) for item, hint in zip(items, arguments, strict=True))


def _read_scalar(value: Any, hint: Any) -> Any:
    if hint is str:
        if isinstance(value, str):
            return value
        raise ValueError("is not text")
    if hint is bool:
        words = {"true": True, "false": False}
        if isinstance(value, bool):
            return value
        if value in words:
            return words[value]
        raise ValueError("is neither true nor false")
    if hint in (int, float):
        if isinstance(value, bool) or (hint is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError(f"is not {'a whole' if hint is int else 'a'} number")
        try:
            return hint(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"is not {'a whole' if hint is int else 'a'} number") from error
    raise ValueError(f"cannot be set from text, its type is {type_name(hint)}")
