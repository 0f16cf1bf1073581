"""Read every byte of a store again and say what is not as it was committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.store.hashes import file_digest
from bench.store.manifest import MANIFEST, PROVENANCE, REMEDY, key_fault
from bench.store.parts import footer_fault
from bench.store.store import Problem, Store
from bench.store.tables import read_meta


def verify(store: Store, folder: str | None = None) -> list[Problem]:
    """Check one committed folder, or every folder and whatever stands between them.

    Checked: manifest (whole, unchanged, of a known schema, in its own folder), key document, presence, size
    and sha256 of each file, keys in the footers of features, files that no manifest names.
    """
    if folder is not None:
        store.path(folder)
        return list(_folder_problems(store, folder))
    folders = store.list()
    problems = [problem for name in folders for problem in _folder_problems(store, name)]
    return problems + list(_strays(store, folders))


def _folder_problems(store: Store, folder: str) -> Iterator[Problem]:
    target = store.root / folder
    try:
        manifest = store.manifest(folder)
    except StoreError as error:
        yield Problem(folder, MANIFEST, str(error), REMEDY)
        return
    fault = key_fault(manifest)
    if fault is not None:
        yield Problem(folder, MANIFEST, fault, REMEDY)
    for name, entry in manifest["files"].items():
        what = _file_fault(target / name, folder, manifest, entry)
        if what is not None:
            yield Problem(folder, name, what, REMEDY)
    known = {MANIFEST, PROVENANCE, *manifest["files"]}
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if not path.is_dir() and name not in known:
            yield Problem(folder, name, "no manifest names this file", "move it out of the store")


def _file_fault(path: Path, folder: str, manifest: dict[str, Any], entry: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"has {path.stat().st_size} bytes instead of {entry['bytes']}"
    try:
        if file_digest(path) != entry["sha256"]:
            return "its content has changed (sha256 differs)"
        if folder.startswith("features/"):
            return footer_fault(read_meta(path), folder, manifest)
    except StoreError as error:
        return str(error)
    return None


def _strays(store: Store, folders: list[str]) -> Iterator[Problem]:
    """Yield files that stand in no committed folder, the store's own and hidden ones at its root apart."""
    committed = {store.root / folder for folder in folders}
    for top in sorted(store.root.iterdir()):
        if not top.is_dir() or top.name.startswith(".") or top.name == "lost+found":
            continue
        for path in sorted(top.rglob("*")):
            if not path.is_dir() and committed.isdisjoint(path.parents):
                where = path.parent.relative_to(store.root).as_posix()
                yield Problem(where, path.name, "stands in no committed folder", "move it out of the store")
