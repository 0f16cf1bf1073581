"""``bench store``: look into a store, check it, ask it."""

from __future__ import annotations

import csv
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bench.cli import ui
from bench.errors import StoreError, UsageError
from bench.store import Store
from bench.words import count

app = typer.Typer(help="Look into the feature store, check it, query it.", no_args_is_help=True)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="WELLBENCH_STORE", help="Folder of the store.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_DEFAULT = Path("wellbench-store")


@app.command("ls")
def list_folders(
    prefix: Annotated[str, typer.Argument(help="Only at and below this folder, e.g. features.")] = "",
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
) -> None:
    """List committed folders with their size."""
    opened = Store(store, create=False)
    rows = []
    for folder in opened.list(prefix):
        try:
            manifest = opened.manifest(folder)
        except StoreError as error:
            ui.err().print(Text(f"left out: {error}"))
            continue
        sizes = [entry["bytes"] for entry in manifest["files"].values()]
        rows.append(
            {"folder": folder, "files": len(sizes), "bytes": sum(sizes), "rows": manifest.get("rows")}
        )
    if json:
        ui.emit(rows)
        return
    _print_table(
        ["folder", "files", "bytes", "rows"],
        [(_short(row["folder"]), *list(row.values())[1:]) for row in rows],
    )


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="A folder, a key, or the start of one.", metavar="FOLDER_OR_KEY")
    ],
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
) -> None:
    """Show the manifests of a folder or a key."""
    from bench.store.why import find

    opened = Store(store, create=False)
    found = [opened.manifest(folder) for folder in find(opened, what)]
    if json:
        ui.emit(found)
        return
    for manifest in found:
        rows = list(_flat("", {name: value for name, value in manifest.items() if name != "folder"}))
        ui.out().print(Text(manifest["folder"], style="bold"))
        _print_table(["entry", "value"], rows)


@app.command()
def verify(
    folder: Annotated[str | None, typer.Argument(help="Only this folder, key, or start of one.")] = None,
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
) -> None:
    """Read every byte again; exit code 1 when anything is not as it was committed."""
    from bench.store.why import find

    opened = Store(store, create=False)
    if folder is None:
        problems = opened.verify()
    else:
        problems = [problem for found in find(opened, folder) for problem in opened.verify(found)]
    if json:
        ui.emit([{"folder": p.folder, "file": p.file, "what": p.what, "remedy": p.remedy} for p in problems])
    else:
        for problem in problems:
            ui.out().print(Text(str(problem)))
        ui.err().print(count(len(problems), "problem") if problems else "the store is as it was committed")
    if problems:
        raise typer.Exit(1)


@app.command()
def why(
    a: Annotated[str, typer.Argument(help="A key, the start of one, or a folder.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
) -> None:
    """Say what differs between two keys."""
    from bench.store.why import why as differences

    found = differences(Store(store, create=False), a, b)
    if json:
        ui.emit([{"path": d.path, "a": d.a, "b": d.b} for d in found])
    elif found:
        _print_table(["entry", "A", "B"], [(d.path, d.a, d.b) for d in found])
    else:
        ui.err().print("nothing differs")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over features, scores, summands, manifests ...")],
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Query the store with SQL (DuckDB, read-only); SHOW TABLES lists what there is."""
    from bench.store.views import confine, connect, select

    if json and as_csv:
        msg = "--json and --csv exclude each other: give one"
        raise UsageError(msg)
    opened = Store(store, create=False)
    with connect(opened) as connection:
        confine(connection, opened)
        names, rows = select(connection, query)
    if json:
        ui.emit([dict(zip(names, row, strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        _print_table(names, rows)


@app.command()
def gc(
    store: StoreOption = _DEFAULT,
    json: JsonOption = False,
    older_than_days: Annotated[float, typer.Option(min=0, help="Spare anything younger.")] = 1.0,
) -> None:
    """Remove what killed writers and abandoned trainings left; committed folders are never touched."""
    removed = Store(store, create=False).gc(timedelta(days=older_than_days))
    if json:
        ui.emit(removed)
    else:
        ui.err().print(f"{count(len(removed), 'leftover')} removed")


def _print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print rows as a table, folded to a terminal's width; values are data, so nothing in them is markup."""
    table = Table(box=None, header_style="bold")
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console = ui.out()
    if not console.is_terminal:
        unbounded = console.options.update(max_width=1_000_000)
        console.width = Measurement.get(console, unbounded, table).maximum
    console.print(table)


def _short(folder: str) -> str:
    """Return ``folder`` with its key cut short; ``show`` takes such a start of a key."""
    return re.sub(r"(?<=key=)([0-9a-f]{12})[0-9a-f]{52}", r"\1", folder)


def _flat(path: str, value: Any) -> list[tuple[str, Any]]:
    """Return the leaves of nested dicts with their dotted paths."""
    if isinstance(value, dict) and value:
        return [
            leaf for name, inner in value.items() for leaf in _flat(f"{path}.{name}" if path else name, inner)
        ]
    return [(path, value)]
