"""Fitted heads as files: arrays as safetensors, everything else as JSON; nothing in them is executed.

A head names in ``saved`` the attributes that ``predict`` reads. An attribute is an array, a dict of arrays, a
number, a text, a list of texts, or a dict of texts by number. What is read back must have exactly those
names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.base import Head

ARRAYS, PLAIN = "head.safetensors", "head.json"


def save(head: Head, folder: Path) -> None:
    """Write a fitted head into an existing folder.

    Raises
    ------
    TaskError
        When the head does not say what its predictions rest on.
    """
    from safetensors.numpy import save as as_bytes

    if not head.saved:
        raise TaskError(
            f"head {head.name!r} cannot be saved: name the attributes that predict reads in its class "
            "attribute 'saved'"
        )
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name in head.saved:
        value = getattr(head, name)
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[name] = np.ascontiguousarray(value)
        elif isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values()) and value:
            arrays |= {f"{name}.{key}": np.ascontiguousarray(v) for key, v in value.items()}
        elif isinstance(value, dict):
            plain[name] = {str(key): v for key, v in value.items()}
        else:
            plain[name] = value.tolist() if isinstance(value, np.ndarray) else value
    (folder / ARRAYS).write_bytes(as_bytes(arrays))
    document = {"schema_version": 1, "head": head.name, "version": head.version, "values": plain}
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / PLAIN).write_text(text + "\n", encoding="utf-8")


def load(cls: type[Head], folder: Path) -> Head:
    """Read a head that :func:`save` wrote; it can predict, and nothing else.

    Raises
    ------
    TaskError
        When a file is missing or damaged, is of another head or version, or has other names than the head.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        document = json.loads((folder / PLAIN).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
        raise TaskError(f"{folder}: the head cannot be read ({error}); fit the model again") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise TaskError(f"{folder / PLAIN}: not a head that this version reads; fit the model again")
    if (document.get("head"), document.get("version")) != (cls.name, cls.version):
        raise TaskError(
            f"{folder / PLAIN} is of head {document.get('head')!r} version {document.get('version')!r}, this "
            f"is {cls.name!r} version {cls.version!r}; fit the model again"
        )
    values: dict[str, Any] = dict(document["values"])
    for name, array in arrays.items():
        attribute, dot, key = name.partition(".")
        if dot:
            values.setdefault(attribute, {})[key] = array
        else:
            values[attribute] = array
    if set(values) != set(cls.saved):
        odd = ", ".join(sorted(set(values) ^ set(cls.saved)))
        raise TaskError(f"{folder}: {odd} missing or unknown in a head {cls.name!r}; fit the model again")
    head = cls()
    for name, value in values.items():
        setattr(head, name, value)
    head.restored()
    return head
