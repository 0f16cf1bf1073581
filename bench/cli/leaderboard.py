"""``bench leaderboard`` and ``bench verify``: boards of stored runs, and the proof of their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.cli import ui
from bench.errors import BenchError, UsageError
from bench.settings import default_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bench.boards import Boards
    from bench.entries import Record
    from bench.store import Store
    from leaderboard.rules import Families
    from leaderboard.sheet import Sheet

PARTIAL = 3
By = Literal["layer", "dose", "location", "pathway", "activity"]
Format = Literal["terminal", "markdown", "csv", "json"]
StoreOption = Annotated[
    str,
    typer.Option("--store", help="Folder of the store.", default_factory=default_store, show_default=False),
]


def leaderboard(
    store: StoreOption,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Name of a dataset.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t")] = None,
    layer: Annotated[str | None, typer.Option("--layer")] = None,
    head: Annotated[str | None, typer.Option("--head")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = "terminal",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File instead of standard output.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Older runs of the same name and head too.")] = False,
    families: Annotated[
        Literal["entrants", "readouts"],
        typer.Option(
            "--families", help="What readouts are tested over: each entrant alone, or hierarchically."
        ),
    ] = "entrants",
    by: Annotated[
        By | None, typer.Option("--by", help="Mean score in parts: readouts by annotation, or perturbations.")
    ] = None,
    annotation: Annotated[
        Path | None,
        typer.Option(
            "--annotation",
            help="For --by: a table of locations, a GMT file, or a table with perturbation and activity "
            "(without one, activity is measured by stored features).",
        ),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", help="An archive of `bench submit export` to merge first; repeatable."),
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="For --add: a Python file with tasks; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Print the boards of the runs in a store.

    Runs of an archive are scored here from their predictions, and stand in the store marked as imported.
    """
    if by is None and annotation is not None:
        raise UsageError("--annotation is for --by location, pathway or activity: say which")
    from bench import entries
    from bench.boards import Boards
    from bench.store import Store
    from leaderboard import Rules

    opened = Store(Path(store), create=False)
    refused = _merge(opened, add or [], tuple(plugin or ()))
    wanted = {"dataset": dataset, "task": task, "layer": layer, "head": head, "protocol": protocol}
    chosen = entries.records(opened, wanted)
    if not chosen:
        given = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        raise BenchError(
            f"{opened.root} has no finished run{f' with {given}' if given else ''}; `bench run` makes them"
        )
    current = chosen if all_ else entries.newest(chosen)
    if len(current) < len(chosen):
        ui.err().print(f"Older runs left out: {len(chosen) - len(current)}; --all shows them.", markup=False)
    chosen = current
    kind: Format = "json" if json_ else format_
    with ui.progress(quiet=out is None and kind != "terminal") as tick:
        if by is not None:
            show_parts(_in_parts(opened, chosen, families, by, annotation, tick), kind, out)
        else:
            show(Boards(opened, chosen, Rules(families=families), tick), kind, out)
    if refused:
        raise typer.Exit(PARTIAL)


def _merge(store: Store, archives: list[Path], plugins: tuple[str, ...]) -> bool:
    """Merge archives and say what became of their runs; return whether any was refused."""
    if not archives:
        return False
    from bench.sharing.merge import merge

    refused = False
    for path in archives:
        done = merge(store, path, plugins)
        told = f"{path}: {len(done.runs)} merged, {len(done.refused)} refused"
        ui.err().print(told, markup=False, soft_wrap=True)
        for sentence in done.refused:
            ui.err().print(f"Refused: {sentence}.", markup=False, soft_wrap=True)
        if not done.runs:
            raise BenchError(f"{path}: none of its runs belongs on a board of {store.root}")
        refused = refused or bool(done.refused)
    return refused


def _in_parts(
    store: Store, records: list[Record], families: Families, by: By, annotation: Path | None, tick: ui.Ticker
) -> pd.DataFrame:
    """Return the boards in parts, from the errors of all of their runs."""
    from bench import entries
    from bench.parts import parts
    from leaderboard import Leaderboard, Rules

    loaded = entries.load_entries(store, records, tick)
    ranked = Leaderboard(loaded, Rules(families=families))
    return parts(store, records, ranked, by, annotation)


def show(boards: Boards, format_: Format, out: Path | None = None) -> None:
    """Print or write every board, and why runs stand on different ones."""
    from bench.boards import printed
    from leaderboard.apart import separations

    if format_ == "terminal" and out is None:
        console = ui.out()
        texts = [printed(boards, group, console) for group in boards.groups]
        ui.print_text("\n".join(texts))
        for sentence in separations([group.heading for group in boards.groups]):
            ui.err().print(sentence, markup=False)
        return
    write_text(as_text(boards.sheets(), format_), out)


def show_parts(frame: pd.DataFrame, format_: Format, out: Path | None) -> None:
    """Print or write boards in parts."""
    from leaderboard.render import parts as render

    if format_ == "terminal":
        if out is None:
            ui.out().print(render.terminal_parts(frame), soft_wrap=False)
            return
        write_text(ui.as_text(render.terminal_parts(frame)), out)
        return
    texts = {"markdown": render.markdown_parts, "csv": render.csv_parts, "json": render.json_parts}
    write_text(texts[format_](frame), out)


def write_text(text: str, out: Path | None) -> None:
    """Print a text, or write it to a file."""
    if out is None:
        ui.print_text(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(
            f"{out}: cannot be written ({error.strerror}); name another file with --out"
        ) from error


def show_terminal(boards: Sequence[Sheet]) -> None:
    """Print boards as tables as wide as the terminal."""
    from leaderboard import render

    console = ui.out()
    for number, board in enumerate(boards):
        if number:
            console.print()
        console.print(render.terminal(board, console.width), soft_wrap=False)


def as_text(boards: Sequence[Sheet], format_: Format) -> str:
    """Return the boards as one text: Markdown and CSV one after the other, JSON as one list."""
    from leaderboard import render

    if format_ == "json":
        return "[\n" + ",\n".join(render.json(board).rstrip() for board in boards) + "\n]\n"
    if format_ == "csv":
        tables = [render.csv(board) for board in boards]
        return tables[0] + "".join(table.partition("\n")[2] for table in tables[1:])
    if format_ == "markdown":
        return "\n".join(render.markdown(board) for board in boards)
    return ui.as_text(*(render.terminal(board, 120) for board in boards))


def verify(
    run: Annotated[str, typer.Argument(help="Identifier of a run, or its beginning; `all` for every run.")],
    store: StoreOption,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A Python file with tasks.")] = None,
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Recompute a run's scores from its stored predictions.

    Checks the checksums of its predictions, scores and record, computes scores, summands and coverage anew
    and compares them bit by bit. The features behind the predictions are checked by `bench store verify`.
    """
    from bench import entries
    from bench.store import Store

    opened = Store(Path(store), create=False)
    chosen = entries.run_identifiers(opened) if run == "all" else [run]
    if not chosen:
        raise BenchError(f"{opened.root} has no finished run; `bench run` makes them")
    verified, wrong = [], []
    with ui.progress(quiet=json_) as tick:
        for done, identifier in enumerate(chosen, start=1):
            try:
                verified.append(entries.verify(opened, identifier, tuple(plugin or ())))
            except BenchError as error:
                wrong.append(error)
            tick("verifying", done, len(chosen))
    if json_:
        ui.emit(verified)
    for one in [] if json_ else verified:
        ui.print_text(
            "{run}  {label}: {readouts} readouts × {perturbations} perturbations over {folds} folds "
            "recomputed from predictions, every number equal\n".format(**one)
        )
    if wrong:
        more = f" (and {len(wrong) - 1} more runs)" if len(wrong) > 1 else ""
        raise BenchError(f"{wrong[0]}{more}")
