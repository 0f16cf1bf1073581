"""The commit primitive: a folder appears whole, with its manifest, or not at all; many writers, no lock.

A commit writes into ``STORE/.tmp/<random>``, fsyncs every file and folder, and renames it into place. A
rename onto a folder that holds anything fails, so the first writer wins and readers see nothing unfinished.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.store import manifest as manifests
from bench.store.faults import DISK, disk, sentence
from bench.store.manifest import MANIFEST, PROVENANCE
from bench.store.names import check_folder

TEMPORARY = ".tmp"
_MARK = "store.json"
_MARK_TEXT = '{"format": "wellbench-store", "schema_version": 1}\n'


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a store: the folder, the file in it, what, and the remedy."""

    folder: str
    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.file}: {self.what}: {self.remedy}"


class Store:
    """A store on a local disk.

    Parameters
    ----------
    root
        Its folder.
    create
        Make it when it is not there; an existing folder with other content is refused.

    Raises
    ------
    StoreError
        When ``root`` is absent (and not to be created), is no store, or cannot be written.
    """

    def __init__(self, root: Path | str, *, create: bool = True) -> None:
        self.root = Path(root)
        mark = self.root / _MARK
        with disk(self.root, "open the store"):
            entries = _plain_entries(self.root)
            if mark.exists():  # looked for after the listing: another writer may be making the store just now
                _check_mark(mark)
                return
        if not create:
            msg = f"there is no store at {self.root}: name one with --store, or make one with bench run"
            raise StoreError(msg)
        if entries:
            msg = f"{self.root} is no store and holds {entries[0]}: name another folder with --store"
            raise StoreError(msg)
        with disk(self.root, "make the store"):
            self.root.mkdir(parents=True, exist_ok=True)
            temporary = self.root / f".{_MARK}.{uuid.uuid4().hex}"
            try:
                temporary.write_text(_MARK_TEXT, "ascii")
                _fsync(temporary)
                temporary.rename(mark)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            _fsync(self.root)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def commit(self, folder: str, write: Callable[[Path], None], manifest: Mapping[str, Any]) -> bool:
        """Make ``folder`` appear with the files that ``write`` puts into an empty folder it is given.

        Parameters
        ----------
        folder
            Relative, ``/``-separated; values through :func:`bench.store.escape`, e.g. ``runs/key=4f…``.
        write
            Called at most once; its files may depend neither on the path it gets nor on time.
        manifest
            Plain values. ``key_document`` (whose digest is ``key``) lets ``why`` explain a difference;
            ``provenance`` (time, versions, device, threads) goes into a file of its own that is exempt from
            determinism; everything else is content.

        Returns
        -------
        bool
            False when the folder was already committed, before or while this writer worked.

        Raises
        ------
        StoreError
            When the disk refuses or the manifest is wrong; nothing is then left behind. An error of ``write``
            itself is passed on, after the temporary folder is removed.
        """
        if self.has(folder):
            return False
        self._check_place(folder)
        content, provenance = manifests.prepare(folder, manifest)
        target = self.root / folder
        temporary = self.root / TEMPORARY / uuid.uuid4().hex
        try:
            with disk(target, "write"):
                temporary.mkdir(parents=True)
            _call(write, temporary, target)
            with disk(target, "write"):
                manifests.write(temporary, content, _synced_files(temporary), provenance)
                for name in (PROVENANCE, MANIFEST):
                    _fsync(temporary / name)
                _fsync(temporary)
                return _put_if_absent(temporary, target, self.root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def has(self, folder: str) -> bool:
        """Return whether ``folder`` is committed."""
        path = self.root / check_folder(folder) / MANIFEST
        with disk(path, "read"):
            return path.is_file()

    def path(self, folder: str) -> Path:
        """Return the path of a committed folder; raise :class:`StoreError` if it is not committed."""
        if not self.has(folder):
            msg = f"{self.root / folder} is not committed in this store: bench store ls shows what is"
            raise StoreError(msg)
        return self.root / folder

    def read_bytes(self, folder: str, name: str, manifest: Mapping[str, Any] | None = None) -> bytes:
        """Return the content of a small file of a committed folder, checked against its manifest.

        ``manifest`` spares reading it again.

        Raises
        ------
        StoreError
            When the folder is not committed, or the file is absent, unreadable or not what was committed.
        """
        path = self.path(folder) / name
        entry = (manifest or self.manifest(folder))["files"].get(name)
        with disk(path, "read"):
            content = path.read_bytes()
        if entry is None or hashlib.sha256(content).hexdigest() != entry["sha256"]:
            msg = f"{path} is damaged: restore it from a backup, or delete its folder and run again"
            raise StoreError(msg)
        return content

    def manifest(self, folder: str) -> dict[str, Any]:
        """Return the manifest of a committed folder, its ``provenance`` included.

        Raises
        ------
        StoreError
            When it is absent, corrupt, changed, misplaced or of a newer schema; the sentence names the file.
        """
        return manifests.read(self.path(folder), folder)

    def verify(self, folder: str | None = None) -> list[Problem]:
        """Return what is wrong with one committed folder, or with the whole store; reads every byte."""
        from bench.store.verify import verify

        return verify(self, folder)

    def gc(self, older_than: timedelta = timedelta(days=1)) -> list[str]:
        """Remove temporary folders and files in which nothing changed for ``older_than``; return their names.

        These are what killed writers left behind, and the checkpoints of trainings that nobody went on with.
        Committed folders are never touched, nor is a training whose lock is held; any other living writer's
        folder is spared as long as it writes something within that time.
        """
        from bench.store.gc import gc

        return gc(self, older_than)

    def list(self, prefix: str = "") -> list[str]:
        """Return the committed folders at and below ``prefix`` (a folder; "" for all), sorted."""
        top = self.root / check_folder(prefix) if prefix else self.root
        with disk(top, "list"):
            return sorted(_committed(top, prefix))

    def _check_place(self, folder: str) -> None:
        """Refuse a folder inside a committed one, or one that stands there without a manifest."""
        parts = folder.split("/")
        for i in range(1, len(parts)):
            above = "/".join(parts[:i])
            if self.has(above):
                msg = f"{folder} cannot stand inside {self.root / above}, which is committed: name another"
                raise StoreError(msg)
        target = self.root / folder
        with disk(target, "read"):
            stray = next(target.iterdir(), None) if target.is_dir() else None
        # A racing writer's folder has its manifest from the first moment on: look again before complaining.
        if stray is not None and not self.has(folder):
            msg = f"{target} holds {stray.name} without a manifest: move it away and run again"
            raise StoreError(msg)


def _call(write: Callable[[Path], None], temporary: Path, target: Path) -> None:
    """Run ``write``; a refusal of the store's disk becomes a sentence, any other error passes."""
    try:
        write(temporary)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is not None and str(refusal.filename or temporary).startswith(str(temporary)):
            raise StoreError(sentence(refusal, target, "write")) from error
        raise


def _refusal(error: Exception) -> OSError | None:
    """Return the disk's refusal behind an error of a writer, or None."""
    cause = error.__cause__ if isinstance(error, StoreError) else error
    # safetensors, written in Rust, tells the system's error number in its text only.
    told = re.search(r"\(os error (\d+)\)", str(error))
    if told is not None and not isinstance(cause, OSError):
        cause = OSError(int(told[1]), os.strerror(int(told[1])))
    return cause if isinstance(cause, OSError) and cause.errno in DISK else None


def _synced_files(temporary: Path) -> dict[str, dict[str, Any]]:
    """Fsync every file and folder below ``temporary``; return size and sha256 by relative path."""
    files = {}
    for path in sorted(temporary.rglob("*")):
        name = path.relative_to(temporary).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or name in {MANIFEST, PROVENANCE}:
            msg = f"a writer may not leave {name!r} in its folder: plain files under other names only"
            raise StoreError(msg)
        if path.is_file():
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256}
        _fsync(path)
    return files


def _put_if_absent(temporary: Path, target: Path, root: Path) -> bool:
    """Rename ``temporary`` to ``target`` durably unless that holds something; return whether it won."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST} and (target / MANIFEST).exists():
            return False
        raise
    above = target.parent
    _fsync(above)
    while above != root:
        above = above.parent
        _fsync(above)
    return True


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _committed(top: Path, folder: str) -> Iterator[str]:
    if not top.is_dir():
        return
    if (top / MANIFEST).is_file():
        yield folder
        return
    with os.scandir(top) as entries:
        below = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    for name in below:
        yield from _committed(top / name, f"{folder}/{name}" if folder else name)


def _plain_entries(root: Path) -> list[str]:
    if not root.exists():
        return []
    return sorted(p.name for p in root.iterdir() if not p.name.startswith(".") and p.name != "lost+found")


def _check_mark(mark: Path) -> None:
    if mark.read_bytes() == _MARK_TEXT.encode("ascii"):
        return
    msg = (
        f"{mark} is not of this wellbench's store format: install a newer wellbench if one wrote it, "
        f"or put back the line {_MARK_TEXT.strip()}"
    )
    raise StoreError(msg)
