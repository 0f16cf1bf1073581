"""Files below a place, local or remote (any fsspec URI), by one set of functions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.datasets.tables import is_remote, locate, natural
from bench.errors import DatasetError
from bench.imaging.readers import opened
from bench.imaging.remote import said


def absolute(place: str | Path) -> str:
    """Return a path as absolute; a URI stays as it is, but for a slash at its end."""
    text = str(place)
    return text.rstrip("/") if is_remote(text) else locate(Path.cwd(), text)


def below(place: str, name: str) -> str:
    """Return ``name`` (``/`` between folders) below an absolute place; a URI or absolute name stays."""
    if is_remote(name) or not name:
        return name or place
    return f"{place}/{name}" if is_remote(place) else os.path.normpath(Path(place) / name)


def folder_of(uri: str) -> str:
    """Return the folder that holds a file."""
    return uri.rpartition("/")[0] if is_remote(uri) else str(Path(uri).parent)


def walk(place: str) -> list[str]:
    """Return the names of all files below a folder, hidden ones left out, in natural order.

    Raises
    ------
    DatasetError
        When there is no such folder or it may not be listed.
    """
    if not is_remote(place):
        root = Path(place)
        if not root.is_dir():
            raise DatasetError(f"{place}: no such folder")
        found = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    else:
        system, path = _system(place)
        with said(place):
            path = path.rstrip("/")
            found = [str(name)[len(path) :].lstrip("/") for name in system.find(path)]
    return sorted((n for n in found if not n.rpartition("/")[2].startswith(".")), key=natural)


def names(place: str) -> list[str]:
    """Return what stands directly in a folder, in natural order; empty where there is no such folder."""
    if not is_remote(place):
        return sorted(os.listdir(place), key=natural) if Path(place).is_dir() else []  # noqa: PTH208
    system, path = _system(place)
    with said(place):
        if not system.isdir(path):
            return []
        return sorted(
            (str(n).rstrip("/").rpartition("/")[2] for n in system.ls(path, detail=False)), key=natural
        )


def is_file(uri: str) -> bool:
    """Whether there is a file that may be read.

    A bucket that may not be listed answers 403 for what is not there, so that the two are one. fsspec's own
    ``isfile`` takes lost credentials and networks for an absent file too; those are said.
    """
    if not is_remote(uri):
        return Path(uri).is_file()
    system, path = _system(uri)
    with said(uri):
        try:
            return bool(system.info(path)["type"] == "file")
        except (FileNotFoundError, PermissionError):
            return False


def content(uri: str) -> bytes:
    """Return a small file whole: an index, never pixels."""
    with opened(uri) as handle:
        return handle.read()


def _system(uri: str) -> tuple[Any, str]:
    import fsspec

    with said(uri):
        system, path = fsspec.core.url_to_fs(uri)
        return system, str(path)
