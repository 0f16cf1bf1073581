"""Content hashes of files, and a cache of them so that a terabyte of images is not read twice."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.store.faults import disk

_VERSION = 1
_SETTLED_NS = 2_000_000_000


def file_digest(path: Path | str) -> str:
    """Return the sha256 of the bytes of the file ``path`` in hexadecimal.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    path = Path(path)
    with disk(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """Content hashes indexed by absolute path, size and modification time.

    The cache file only saves time: a missing, corrupt or unwritable one costs reading the files again.
    Use as a context manager, or call :meth:`save`.

    Parameters
    ----------
    path
        The cache's own file, e.g. ``STORE/.hashes.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._known = self._read()
        self._fresh: dict[str, tuple[int, int, str]] = {}

    def peek(self, path: Path | str) -> str | None:
        """Return the file's hash if it is known without reading the file, else None."""
        path = Path(path)
        with disk(path, "read"):
            stat = path.stat()
            name = str(path.resolve())
        entry = self._fresh.get(name) or self._known.get(name)
        return entry[2] if entry is not None and entry[:2] == (stat.st_size, stat.st_mtime_ns) else None

    def digest(self, path: Path | str) -> str:
        """Return the sha256 of the file, reading it only if its path, size or time is new.

        Raises
        ------
        StoreError
            When the file cannot be read.
        """
        known = self.peek(path)
        if known is not None:
            return known
        path = Path(path)
        with disk(path, "read"):
            before = path.stat()
        value = file_digest(path)
        with disk(path, "read"):
            after = path.stat()
        unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        # A file changed within the clock's tick after hashing would look unchanged: trust settled times only.
        if unchanged and time.time_ns() - after.st_mtime_ns > _SETTLED_NS:
            self._fresh[str(path.resolve())] = (after.st_size, after.st_mtime_ns, value)
        return value

    def save(self) -> None:
        """Write what is known, together with what other processes have saved meanwhile."""
        if not self._fresh:
            return
        self._known = self._read() | self._fresh
        self._fresh = {}
        temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_text(json.dumps({"schema_version": _VERSION, "files": self._known}), "ascii")
            os.replace(temporary, self._path)  # noqa: PTH105  (one atomic step, as its name in POSIX)
        except OSError:
            temporary.unlink(missing_ok=True)

    def __enter__(self) -> HashCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def _read(self) -> dict[str, tuple[int, int, str]]:
        try:
            document = json.loads(self._path.read_bytes())
            if document["schema_version"] != _VERSION:
                return {}
            return {str(name): _entry(value) for name, value in document["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def _entry(value: Any) -> tuple[int, int, str]:
    size, mtime_ns, sha256 = value
    if not (isinstance(sha256, str) and len(sha256) == 64):
        msg = "not a sha256"
        raise ValueError(msg)
    return int(size), int(mtime_ns), sha256
