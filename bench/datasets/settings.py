"""Strict reading of ``dataset.toml``: every fault is named with its key, all in one pass."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import DatasetError

FILE = "dataset.toml"
SCHEMA_VERSION = 1
_MISSING = object()
_TYPES = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    list: "a list of texts",
    dict: "a table",
}


class Section:
    """One table of a TOML file; each key is taken once, with its type, and what is left over is a fault.

    Parameters
    ----------
    values
        The parsed table.
    where
        File and table as a person would name them, e.g. ``"dataset.toml, [[layers]] 2"``.
    faults
        Shared list that faults are appended to.
    """

    def __init__(self, values: Mapping[str, Any], where: str, faults: list[str]) -> None:
        self.values, self.where, self.faults = values, where, faults
        self._known: list[str] = []

    def _take(self, key: str, kind: type, default: Any) -> Any:
        self._known.append(key)
        value = self.values.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                self.faults.append(f"{self.where}: {key} is missing; add it ({_TYPES[kind]})")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        good = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if kind is list and good:
            good = all(isinstance(v, str) for v in value)
        if not good:
            self.faults.append(f"{self.where}: {key} = {value!r} should be {_TYPES[kind]}")
            return default
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        """Take a text; an empty one counts as missing when the key is required."""
        value = self._take(key, str, default)
        if value == "" and default is _MISSING:
            self.faults.append(f"{self.where}: {key} is empty; give it a value")
        return "" if value is _MISSING else str(value)

    def choice(self, key: str, allowed: Sequence[str], default: Any = _MISSING) -> str:
        """Take one of ``allowed``."""
        value = self.text(key, default)
        if value and value not in allowed:
            self.faults.append(
                f"{self.where}: {key} = {value!r} is none of {', '.join(allowed)}{_near(value, allowed)}"
            )
        return value

    def whole(self, key: str, default: Any = _MISSING) -> int:
        """Take a whole number."""
        value = self._take(key, int, default)
        return 0 if value is _MISSING else int(value)

    def number(self, key: str) -> float | None:
        """Take an optional positive number."""
        value = self._take(key, float, None)
        if value is not None and not 0 < value < float("inf"):
            self.faults.append(f"{self.where}: {key} = {value} should be positive")
            return None
        return None if value is None else float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Take an optional list of texts."""
        return tuple(self._take(key, list, ()))

    def table(self, key: str) -> dict[str, Any]:
        """Take a table whose keys are someone else's to check."""
        return dict(self._take(key, dict, {}))

    def section(self, key: str) -> Section | None:
        """Take an optional ``[key]`` table."""
        value = self._take(key, dict, None)
        return None if value is None else Section(value, f"{self.where}, [{key}]", self.faults)

    def sections(self, key: str) -> list[Section]:
        """Take the ``[[key]]`` tables, in order."""
        self._known.append(key)
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.faults.append(f"{self.where}: write {key} as [[{key}]] tables")
            return []
        return [Section(v, f"{self.where}, [[{key}]] {i}", self.faults) for i, v in enumerate(value, 1)]

    def finish(self) -> None:
        """Report every key that nobody took."""
        for key in self.values:
            if key not in self._known:
                self.faults.append(f"{self.where}: unknown key {key!r}{_near(key, self._known)}")


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; a syntax error is one sentence with file and line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; `bench dataset new DIR` writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not valid TOML: {error}") from None


def raise_faults(faults: Sequence[str]) -> None:
    """Raise all faults as one error, one line each; do nothing when there are none."""
    if len(faults) == 1:
        raise DatasetError(faults[0])
    if faults:
        raise DatasetError("\n".join([f"{len(faults)} faults:", *(f"  {f}" for f in faults)]))


def quoted(text: str) -> str:
    """Return ``text`` as a TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False)
