"""Content keys: one canonical JSON text per value, and its sha256.

``digest(x) == sha256(canonical_json(x))``; two values have one key exactly when their canonical texts agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from bench.errors import StoreError
from bench.store.hashes import HashCache, file_digest
from bench.store.source import code_digest

__all__ = ["HashCache", "canonical", "canonical_json", "code_digest", "digest", "file_digest"]


def canonical(obj: Any) -> Any:
    """Return ``obj`` in the plain values of JSON.

    Mappings and dataclasses become dicts with text keys, tuples lists, numpy scalars and enumeration members
    Python's values. 1 and 1.0 stay different, as do 0.0 and -0.0.

    Raises
    ------
    StoreError
        For NaN, infinities, sets, keys that are not text and types without one obvious text, with the place.
    """
    return _plain(obj, "")


def canonical_json(obj: Any) -> bytes:
    """Return :func:`canonical` of ``obj`` as JSON: sorted keys, no spaces, ASCII, floats by ``repr``."""
    return _dump(canonical(obj))


def digest(obj: Any) -> str:
    """Return the sha256 of :func:`canonical_json` in hexadecimal."""
    return hashlib.sha256(canonical_json(obj)).hexdigest()


def readable_json(obj: Any) -> bytes:
    """Return :func:`canonical` JSON with one entry per line, for files that people open; as deterministic."""
    return json.dumps(canonical(obj), sort_keys=True, indent=1, allow_nan=False).encode("ascii") + b"\n"


def _dump(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _plain(obj: Any, where: str) -> Any:
    if isinstance(obj, Enum):
        obj = obj.value
    elif type(obj).__module__ == "numpy" and getattr(obj, "shape", None) == ():
        obj = obj.item()
    # Exact types of the result: a subclass of str or int may print itself otherwise.
    if obj is None or isinstance(obj, bool):
        return obj
    if isinstance(obj, str):
        return str.__str__(obj)
    if isinstance(obj, int):
        return int(obj)
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise _refusal(where, f"{obj!r} has no place in JSON; leave it out or use null")
        return float(obj)
    if isinstance(obj, list | tuple):
        return [_plain(value, f"{where}[{i}]") for i, value in enumerate(obj)]
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        obj = {f.name: getattr(obj, f.name) for f in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        for name in obj:
            if not isinstance(name, str):
                raise _refusal(where, f"the key {name!r} is not text; write str({name!r})")
        return {str.__str__(name): _plain(value, f"{where}.{name}") for name, value in obj.items()}
    if isinstance(obj, set | frozenset):
        raise _refusal(where, "a set has no order; use sorted(...)")
    raise _refusal(
        where, f"a {type(obj).__module__}.{type(obj).__qualname__} has no canonical text; use plain values"
    )


def _refusal(where: str, why: str) -> StoreError:
    return StoreError(f"a key document cannot hold {where.lstrip('.') or 'this value'}: {why}")
