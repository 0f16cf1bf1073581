"""Boards of stored runs, each computed once: what is printed of a board is kept in the store as a cache.

A kept board stands under a key of all that it follows from: the records and costs of its runs, the checksums
of their scores and summands, the rules, the source of the statistics and the versions of the libraries they
use. Another run, other code or a changed file is another key, and the board is computed anew. The cache only
saves time: a missing, damaged or unwritable one costs computing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import entries
from bench.entries import Record
from bench.store.gc import KEPT
from bench.store.manifest import MANIFEST
from leaderboard.apart import Heading

if TYPE_CHECKING:
    from bench.store import Store
    from leaderboard.rules import Rules
    from leaderboard.sheet import Sheet

VERSION = 1
LIBRARIES = ("numpy", "scipy", "pandas", "rich")


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one board, in the order they were given, and the key of the board."""

    heading: Heading
    records: tuple[Record, ...]
    key: str


class Boards:
    """The boards of some runs, computed when they are asked for and kept in the store.

    Parameters
    ----------
    store
        Where the runs stand.
    records
        Of the runs, as :func:`bench.entries.records` gives them.
    rules
        Levels and Monte-Carlo settings.
    tick
        Told of progress: stage, runs read, runs in all.
    """

    def __init__(
        self,
        store: Store,
        records: Sequence[Record],
        rules: Rules,
        tick: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._store, self._rules, self._tick = store, rules, tick
        self._done, self._total = 0, len(records)
        groups: dict[tuple[str, ...], list[Record]] = {}
        for record in records:
            groups.setdefault(heading(record).key, []).append(record)
        self.groups = [Group(heading(own[0]), tuple(own), _key(store, own, rules)) for own in groups.values()]

    def sheets(self) -> list[Sheet]:
        """Return what is printed of every board, in order of first appearance."""
        return [self.sheet(group) for group in self.groups]

    def sheet(self, group: Group) -> Sheet:
        """Return what is printed of a board: as kept, or computed from its runs."""
        from leaderboard.sheet import Sheet

        text = self.text(group, "sheet", lambda: json.dumps(self._computed(group).plain()))
        return Sheet.from_plain(json.loads(text))

    def text(self, group: Group, kind: str, make: Callable[[], str]) -> str:
        """Return a text that follows from a board, as kept, or made and then kept.

        Parameters
        ----------
        group
            The board.
        kind
            What the text is: all that it follows from beside the board.
        make
            Called where none is kept.
        """
        path = self._store.root / KEPT / group.key / hashlib.sha256(kind.encode()).hexdigest()[:16]
        found = _read(path)
        if found is None:
            found = make()
            _write(path, found)
        return found

    def _computed(self, group: Group) -> Sheet:
        from leaderboard import Leaderboard

        loaded = []
        for record in group.records:
            loaded.append(entries.load_entry(self._store, record))
            self._done += 1
            if self._tick is not None:
                self._tick("reading runs", self._done, self._total)
        return Leaderboard(loaded, self._rules).boards[0]


def heading(record: Record) -> Heading:
    """Return the heading of the board that a recorded run stands on."""
    dataset, protocol = record["dataset"], record["protocol"]
    return Heading(
        dataset=str(dataset["name"]),
        dataset_version=str(dataset["version"]),
        layer=str(record["layer"]),
        task=str(record["task"]),
        protocol=str(protocol["name"]),
        protocol_hash=str(protocol["hash"]),
        folds_hash=str(record["folds_hash"]),
        label=str(record["label"]),
    )


def printed(boards: Boards, group: Group, console: Any) -> str:
    """Return a board as a console shows it: the same bytes for the same console."""
    how = [console.width, console.color_system, console.encoding, console.no_color, console.is_terminal]

    def make() -> str:
        from leaderboard import render

        with console.capture() as captured:
            console.print(render.terminal(boards.sheet(group), console.width), soft_wrap=False)
        return str(captured.get())

    return boards.text(group, f"terminal {how}", make)


def _key(store: Store, records: Sequence[Record], rules: Rules) -> str:
    """Digest of all that a board follows from."""
    digest = hashlib.sha256(_statistics().encode())
    digest.update(json.dumps(asdict(rules), sort_keys=True).encode())
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
        for family in ("scores", "summands"):  # manifests hold the sha256 of every file
            folder = store.path(f"{family}/run={record['run']}")
            digest.update((folder / MANIFEST).read_bytes())
            with os.scandir(folder) as found:  # what was written over since is seen by its time and size
                own = sorted((file.name, *_written(file)) for file in found)
            digest.update(repr(own).encode())
    return digest.hexdigest()[:32]


def _written(file: os.DirEntry[str]) -> tuple[int, int]:
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns


@functools.cache
def _statistics() -> str:
    """Digest of the source that turns runs into boards, and of the libraries it uses."""
    digest = hashlib.sha256(str(VERSION).encode())
    for name in LIBRARIES:
        digest.update(f"{name} {version(name)}\n".encode())
    package = Path(str(files("leaderboard")))
    for path in [*sorted(package.rglob("*.py")), Path(entries.__file__), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> str | None:
    """Return a kept text; None where there is none, or it is not what was written."""
    try:
        seal, _, text = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return text.decode() if hashlib.sha256(text).hexdigest().encode() == seal else None


def _write(path: Path, text: str) -> None:
    """Keep a text under its checksum, in one step; nothing where the disk refuses."""
    content = text.encode()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        os.replace(temporary, path)  # noqa: PTH105  (one atomic step, as its name in POSIX)
    except OSError:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            return
