"""Remove what is no longer written: leftovers of killed writers, checkpoints of abandoned trainings."""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bench.store.faults import disk
from bench.store.store import TEMPORARY, Store

WORK = ".work"
"""Folder of trainings that may be continued, ``.work/<key>/{lock,work}``; who trains holds the lock."""

KEPT = ".cache/boards"
"""Folder of what is computed again when it is missing, one folder per key."""

_HALF_FILE = re.compile(r"\..+\.[0-9a-f]{32}")


def gc(store: Store, older_than: timedelta) -> list[str]:
    """Remove what :meth:`bench.store.Store.gc` says; return the names of what was removed."""
    removed = []
    limit = time.time() - older_than.total_seconds()
    with disk(store.root, "clean"):
        halves = [p for p in store.root.iterdir() if _HALF_FILE.fullmatch(p.name)]
        folders = [leftover for name in (TEMPORARY, WORK, KEPT) for leftover in _inside(store.root / name)]
        for leftover in sorted([*halves, *folders]):
            try:
                if max(p.lstat().st_mtime for p in (leftover, *leftover.rglob("*"))) > limit:
                    continue
                with _held(leftover / "lock") as free:
                    if not free:
                        continue
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            except FileNotFoundError:  # its writer has just committed it
                continue
            removed.append(leftover.name)
    return removed


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold ``lock`` if nobody does, and say so; what has no lock is free."""
    if not lock.is_file():
        yield True
        return
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
