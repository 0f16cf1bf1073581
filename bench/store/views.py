"""DuckDB as the lens: an in-memory connection with one view per family of committed tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.store.names import partitions
from bench.store.store import Store
from bench.store.tables import column_names

if TYPE_CHECKING:
    import duckdb


def connect(store: Store) -> duckdb.DuckDBPyConnection:
    """Return a new in-memory connection that sees every committed folder of now.

    Views: one per family (``features``, ``scores`` …) over its main table, which is ``part.parquet``, the
    file named as the family, or the only kind of file there is; further tables as ``family_file``
    (``features_cells``). The ``name=value`` segments of folders are text columns. The table ``manifests`` has
    one row per committed folder: family, folder, key, and the manifest as JSON. A family without tables
    has no view.

    Raises
    ------
    StoreError
        When a manifest or a table's footer cannot be read.
    """
    import duckdb

    folders = store.list()
    rows = []
    tables: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        manifest = store.manifest(folder)
        family = folder.split("/")[0]
        rows.append((family, folder, manifest.get("key"), json.dumps(manifest, sort_keys=True)))
        for name in manifest["files"]:
            if name.endswith(".parquet"):
                tables.setdefault((family, name.removesuffix(".parquet")), []).append(folder)
    connection = duckdb.connect()
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("CREATE TABLE manifests (family VARCHAR, folder VARCHAR, key VARCHAR, manifest JSON)")
    if rows:
        connection.executemany("INSERT INTO manifests VALUES (?, ?, ?, ?)", rows)
    for (family, stem), holders in sorted(tables.items()):
        alone = [other for other in tables if other[0] == family] == [(family, stem)]
        view = family if alone or stem in {"part", family} else f"{family}_{stem}"
        file = f"{stem}.parquet"
        # DuckDB refuses a file without columns, which a head that chooses nothing may leave.
        holders = [folder for folder in holders if column_names(store.root / folder / file)]
        if holders:
            _make_view(connection, view, store.root, file, holders)
    return connection


def confine(connection: duckdb.DuckDBPyConnection, store: Store) -> None:
    """Let ``connection`` read the store's files and no others, for good: a query may come from anywhere."""
    base = str(store.root.resolve())
    # DuckDB compares a path as the view spells it, its own marks escaped.
    directories = ", ".join(_literal(path) for path in dict.fromkeys((base, _without_globs(base))))
    connection.execute(f"SET allowed_directories = [{directories}]")
    connection.execute("SET enable_external_access = false")


def select(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one reading statement; return column names and rows.

    Raises
    ------
    StoreError
        When the query is wrong, is not one statement, or would change anything.
    """
    import duckdb

    try:
        statements = connection.extract_statements(query)
        reading = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
        if len(statements) != 1 or statements[0].type not in reading:
            msg = "a query of the store must be one SELECT (or DESCRIBE, SHOW, EXPLAIN): nothing else is run"
            raise StoreError(msg)
        result = connection.execute(statements[0])
        return [column[0] for column in result.description or []], result.fetchall()
    except duckdb.Error as error:
        msg = f"the query was refused: {error}"
        raise StoreError(msg) from error


def _make_view(
    connection: duckdb.DuckDBPyConnection, view: str, root: Path, file: str, folders: Iterable[str]
) -> None:
    """Create ``view`` over ``file`` of all folders, appending by name where partition names differ."""
    import duckdb

    base = root.resolve()
    foreign = [name for name, equals, _ in (part.partition("=") for part in base.parts) if equals]
    groups: dict[tuple[str, ...], list[str]] = {}
    for folder in folders:
        groups.setdefault(tuple(partitions(folder)), []).append(folder)
    selects = []
    for names, members in sorted(groups.items()):
        paths = ", ".join(_literal(_without_globs(str(base / folder / file))) for folder in members)
        extra = ", ".join(_identifier(name) for name in dict.fromkeys(foreign) if name not in names)
        exclude = f"EXCLUDE ({extra}) " if extra else ""
        options = "hive_partitioning = true, hive_types_autocast = false, union_by_name = true"
        selects.append(f"SELECT * {exclude}FROM read_parquet([{paths}], {options})")
    body = " UNION ALL BY NAME ".join(selects)
    try:
        connection.execute(f"CREATE VIEW {_identifier(view)} AS {body}")
    except duckdb.Error as error:
        msg = f"the table {file} of a folder in {root} cannot be read ({error}): bench store verify names it"
        raise StoreError(msg) from error


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _without_globs(path: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
