"""The two small files of a committed folder: what it holds, and how it came about.

``manifest.json`` is the content side and deterministic: schema_version, folder, key, the size and sha256 of
every file, whatever the writer adds, and a sha256 over all of this. ``provenance.json`` beside it (time,
versions, device, threads) is exempt from "same inputs, same bytes".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.store.faults import disk
from bench.store.keys import canonical, digest, readable_json
from bench.store.names import partitions

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
REMEDY = "restore it from a backup, or delete its folder and run again"
RESERVED = frozenset({"schema_version", "folder", "files", "sha256"})


def prepare(folder: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content and the provenance that ``given`` holds, in plain values, before files are written.

    Raises
    ------
    StoreError
        When ``given`` uses a reserved name or values without a plain form, or its key disagrees with its key
        document or its folder.
    """
    plain: dict[str, Any] = canonical(given)
    provenance = plain.pop("provenance", {})
    taken = sorted(RESERVED & plain.keys())
    if taken:
        msg = f"the manifest of {folder} may not set {taken[0]!r}: the store writes it"
        raise StoreError(msg)
    named = partitions(folder).get("key")
    if "key_document" in plain:
        plain.setdefault("key", digest(plain["key_document"]))
    if named is not None:
        plain.setdefault("key", named)
    content = plain | {"schema_version": SCHEMA_VERSION, "folder": folder}
    wrong = key_fault(content)
    if wrong is not None:
        msg = f"the manifest of {folder} cannot be written: {wrong}"
        raise StoreError(msg)
    return content, provenance


def key_fault(content: Mapping[str, Any]) -> str | None:
    """Return how key, key document and folder disagree, or None."""
    key = content.get("key")
    named = partitions(content["folder"]).get("key")
    if named is not None and named != key:
        return f"its folder says key={named} and its manifest {key}"
    if "key_document" in content and digest(content["key_document"]) != key:
        return f"its key {key} is not the digest of its key document"
    return None


def write(
    target: Path, content: Mapping[str, Any], files: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write both files into the folder ``target``, the manifest with its files and its seal."""
    named = {**content, "files": files}
    (target / PROVENANCE).write_bytes(readable_json(provenance))
    (target / MANIFEST).write_bytes(readable_json(named | {"sha256": _seal(named)}))


def read(target: Path, folder: str) -> dict[str, Any]:
    """Return the manifest in ``target``, with ``provenance`` filled in, in today's shape.

    Raises
    ------
    StoreError
        When it is absent, corrupt, of a newer schema, or belongs to another folder.
    """
    path = target / MANIFEST
    content = _json(path)
    version = content.get("schema_version")
    reader = _READERS.get(version) if isinstance(version, int) else None
    if reader is None:
        if isinstance(version, int) and version > SCHEMA_VERSION:
            msg = (
                f"{path} has schema version {version} and this wellbench reads up to {SCHEMA_VERSION}: "
                "install a newer wellbench"
            )
        else:
            msg = (
                f"{path} has no schema version: restore it from a backup, or delete its folder and run again"
            )
        raise StoreError(msg)
    result = reader(content, path)
    if result["folder"] != folder:
        msg = f"{path} belongs to {result['folder']}: move it back there, or delete {target} and run again"
        raise StoreError(msg)
    result["provenance"] = _json(target / PROVENANCE) if (target / PROVENANCE).exists() else {}
    return result


def _read_v1(content: dict[str, Any], path: Path) -> dict[str, Any]:
    if content.get("sha256") != _seal(content):
        msg = f"{path} was changed after it was written: {REMEDY}"
        raise StoreError(msg)
    return content


_READERS: dict[int, Callable[[dict[str, Any], Path], dict[str, Any]]] = {1: _read_v1}


def _seal(content: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in content.items() if name != "sha256"})


def _json(path: Path) -> dict[str, Any]:
    with disk(path, "read"):
        raw = path.read_bytes()
    try:
        document = json.loads(raw)
    except ValueError as error:
        document = error
    if not isinstance(document, dict):
        msg = f"{path} ({len(raw)} bytes) is truncated or corrupt: {REMEDY}"
        raise StoreError(msg)
    return document
