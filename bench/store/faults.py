"""What a disk may say no to, as a sentence with the path and the remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
DISK = _FULL | _DENIED | {errno.EROFS, errno.EIO}
"""Errors that a disk gives for any file on it, whatever the program does right."""


def sentence(error: OSError, path: Path, doing: str) -> str:
    """Return what went wrong with ``path`` while ``doing`` it, and what to do."""
    if error.errno in _FULL:
        return (
            f"no space left on the disk of {path} to {doing}: free some space and run the same command "
            "again; nothing half-written was kept"
        )
    if error.errno == errno.EROFS:
        return f"cannot {doing} {path}: it is on a read-only disk; mount it writable or name another --store"
    if error.errno in _DENIED:
        return f"cannot {doing} {path}: permission denied; change its owner or mode, or name another --store"
    if error.errno == errno.ENAMETOOLONG:
        return f"cannot {doing} {path}: a name in it is longer than the disk allows; shorten the plate's name"
    if error.errno == errno.EIO:
        return f"cannot {doing} {path}: the disk reports an input/output error; check the disk and run again"
    if error.errno == errno.ENOENT:
        return f"cannot {doing} {path}: it does not exist; check the path, or restore it from a backup"
    return f"cannot {doing} {path}: {os.strerror(error.errno) if error.errno else error}"


@contextmanager
def disk(path: Path, doing: str) -> Iterator[None]:
    """Turn an :class:`OSError` of the block into a :class:`StoreError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise StoreError(sentence(error, path, doing)) from error
