"""CellProfiler's SQLite databases: ExportToDatabase in both forms, and cytominer-database (JUMP)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.datasets.cells.model import (
    COMPARTMENTS,
    IMAGE,
    Block,
    Objects,
    base_of,
    check_columns,
    find_wells,
    in_lockstep,
    is_feature,
    is_image_feature,
    join,
)
from bench.datasets.tables import shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".sqlite", ".sqlite3", ".db", ".db3")
ROWS = 2000


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of objects: its SQL name, key columns, and (column, output name) of its features."""

    name: str
    key: tuple[str, ...]
    number: str
    parents: Mapping[str, str]
    features: tuple[tuple[str, str], ...]


class SqliteReader:
    """A database, opened read-only; see :class:`~.model.Reader`.

    Tables are ``Image``, ``Cells``, … (cytominer-database), ``PREFIXPer_Image``, ``PREFIXPer_Cells``, … (one
    per compartment) or ``PREFIXPer_Object`` (one for all, whose objects belong together by their number).
    """

    layout = "cellprofiler-sqlite"

    def __init__(
        self, path: Path, compartments: Sequence[str] = COMPARTMENTS, rename: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.compartments = path, tuple(compartments)
        with self._connect() as connection:
            image, self._together, tables = self._find(connection)
            self._tables = {c: self._object_table(connection, c, t) for c, t in tables.items()}
            self._read_images(connection, image, rename)
        self.columns = tuple(out for table in self._tables.values() for _, out in table.features)
        check_columns(self.columns, str(path))

    def _connect(self) -> _Closing:
        return _Closing(self.path)

    def _find(self, connection: sqlite3.Connection) -> tuple[str, bool, dict[str, str]]:
        """Return the image table, whether one table has all objects, and each compartment's table."""
        names = [
            n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        ]
        image = next((n for n in names if n == IMAGE or n.endswith("Per_Image")), None)
        if image is None:
            raise DatasetError(
                f"{self.path}: no table of images (Image or …Per_Image); it has "
                f"{shorten(sorted(names)) or 'none'}: is this of ExportToDatabase or cytominer-database?"
            )
        prefix = image.removesuffix(IMAGE)
        if f"{prefix}Object" in names:
            return image, True, dict.fromkeys(self.compartments, f"{prefix}Object")
        missing = [c for c in self.compartments if f"{prefix}{c}" not in names]
        if missing:
            raise DatasetError(
                f"{self.path}: no table of {shorten(missing)}; it has {shorten(sorted(names))}: export it, "
                "or say what to import with --compartments, e.g. Nuclei,Cells"
            )
        return image, False, {c: f"{prefix}{c}" for c in self.compartments}

    def _object_table(self, connection: sqlite3.Connection, compartment: str, name: str) -> _Table:
        columns = _columns(connection, name)
        key = tuple(c for c in ("TableNumber", "ImageNumber") if c in columns)
        own = f"{compartment}_"
        number = "ObjectNumber" if "ObjectNumber" in columns else f"{own}Number_Object_Number"
        if "ImageNumber" not in key or number not in columns:
            raise DatasetError(
                f"{self.path}: table {name} has no ImageNumber or object number; is it CellProfiler's?"
            )
        features = tuple((c, c) for c in columns if c.startswith(own) and is_feature(c.removeprefix(own)))
        if not features:
            raise DatasetError(
                f"{self.path}: table {name} has no measurement of {compartment}; "
                "say what to import with --compartments"
            )
        parents = {c: f"{own}Parent_{c}" for c in self.compartments if f"{own}Parent_{c}" in columns}
        return _Table(name, key, number, parents, features)

    def _read_images(
        self, connection: sqlite3.Connection, table: str, rename: Mapping[str, str] | None
    ) -> None:
        columns = _columns(connection, table)
        self._key = next(iter(self._tables.values())).key
        absent = [c for c in self._key if c not in columns]
        if absent:
            raise DatasetError(f"{self.path}: table {table} has no {shorten(absent)}; is it CellProfiler's?")
        metadata = [
            c for c in columns if c.removeprefix("Image_").startswith("Metadata_") or c in (rename or {})
        ]
        features = [
            c for c in columns if c.startswith("Image_") and is_image_feature(c.removeprefix("Image_"))
        ]
        order = ", ".join(_quoted(c) for c in self._key)
        rows = _select(connection, table, [*self._key, *metadata, *features], f"ORDER BY {order}").fetchall()
        frame = pd.DataFrame(rows, columns=[*self._key, *metadata, *features])
        self._keys = [tuple(int(v) for v in key) for key in frame[list(self._key)].itertuples(index=False)]
        if len(set(self._keys)) < len(self._keys):
            raise DatasetError(f"{self.path}: an image occurs twice in {table}; export it again")
        self.image_columns = tuple(features)
        self._image_values = _numbers(frame[features].to_numpy(object), f"{self.path}, table {table}")
        self.wells, self._well = find_wells(frame[metadata], f"{self.path}, {table}", rename)
        self.blocks = self.sites = np.bincount(self._well, minlength=len(self.wells))

    def read(self) -> Iterator[Block]:
        """Yield one block per image."""
        base = (
            self.compartments[0]
            if self._together
            else base_of({c: list(t.parents) for c, t in self._tables.items()}, str(self.path))
        )
        counts = {
            c: self._image_values[:, self.image_columns.index(f"Image_Count_{c}")]
            for c in self.compartments
            if f"Image_Count_{c}" in self.image_columns
        }
        places = {key: i for i, key in enumerate(self._keys)}

        def take(key: tuple[int, ...], found: Mapping[str, Objects]) -> Block:
            row = places[key]
            where = f"{self.path}, image {'/'.join(map(str, key))}"
            for name, wanted in counts.items():
                has = len(found[name].numbers) if name in found else 0
                if not self._together and not np.isnan(wanted[row]) and has != int(wanted[row]):
                    raise DatasetError(
                        f"{where}: {name} has {has} rows and the image counts {int(wanted[row])}; the "
                        "database is incomplete: export it again"
                    )
            objects = {c: found.get(c, self._none(c)) for c in self.compartments}
            if self._together:
                links = {c: o.numbers for c, o in objects.items()}
                objects = {c: Objects(o.numbers, o.values, links) for c, o in objects.items()}
            cells, orphans = join(objects, base, where)
            return Block(int(self._well[row]), cells, {row: self._image_values[row]}, orphans)

        with self._connect() as connection:
            streams = {c: self._stream(connection, t) for c, t in self._tables.items()}
            yield from in_lockstep(streams, self._keys, take, str(self.path))

    def _none(self, compartment: str) -> Objects:
        others = {c: np.zeros(0, np.int64) for c in self.compartments}
        return Objects(np.zeros(0, np.int64), np.zeros((0, len(self._tables[compartment].features))), others)

    def _stream(
        self, connection: sqlite3.Connection, table: _Table
    ) -> Iterator[tuple[tuple[int, ...], Objects]]:
        """Yield (image, objects), an image at a time; SQLite sorts, by its index where it has one."""
        n_key, parents = len(table.key), list(table.parents)
        names = [*table.key, table.number, *table.parents.values(), *(c for c, _ in table.features)]
        order = ", ".join(_quoted(c) for c in (*table.key, table.number))
        cursor = _select(connection, table.name, names, f"ORDER BY {order}")
        where = f"{self.path}, table {table.name}"
        rest: NDArray[np.float64] | None = None

        def objects(rows: NDArray[np.float64]) -> tuple[tuple[int, ...], Objects]:
            keys = rows[:, : n_key + 1 + len(parents)]
            if np.isnan(keys[:, : n_key + 1]).any():
                raise DatasetError(f"{where}: an image or object number is empty; export it again")
            links = np.nan_to_num(keys[:, n_key + 1 :]).astype(np.int64)
            found = {name: links[:, i] for i, name in enumerate(parents)}
            values = rows[:, n_key + 1 + len(parents) :]
            return tuple(keys[0, :n_key].astype(int).tolist()), Objects(
                keys[:, n_key].astype(np.int64), values, found
            )

        while rows := cursor.fetchmany(ROWS):
            chunk = _numbers(np.array(rows, dtype=object), where)
            chunk = chunk if rest is None else np.concatenate([rest, chunk])
            changes = (np.diff(chunk[:, :n_key], axis=0) != 0).any(axis=1)
            starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
            for first, last in pairwise(starts):
                yield objects(chunk[first:last])
            rest = chunk[starts[-1] :]
        if rest is not None:
            yield objects(rest)


class _Closing:
    """A read-only connection that is closed at the end and whose errors name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise DatasetError(f"{self.path}: no such file")
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            self.connection = sqlite3.connect(uri, uri=True)
            self.connection.execute("SELECT name FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise self._sentence(error) from error
        return self.connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.connection.close()
        if isinstance(error, sqlite3.Error):
            raise self._sentence(error) from error

    def _sentence(self, error: sqlite3.Error) -> DatasetError:
        return DatasetError(
            f"{self.path}: cannot be read as SQLite ({error}); is it a database, and copied to its end?"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(table)})")]


def _select(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rest: str = ""
) -> sqlite3.Cursor:
    names = ", ".join(_quoted(c) for c in columns)
    return connection.execute(f"SELECT {names} FROM {_quoted(table)} {rest}")


def _numbers(rows: NDArray[Any], where: str) -> NDArray[np.float64]:
    """Return cells of a table as float64; NULL is NaN."""
    try:
        return rows.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: a measurement is no number ({error}); export it again") from error
