"""``bench sensitivity``: does the winner change with the protocol?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import ui
from bench.settings import resolve

if TYPE_CHECKING:
    from bench.sensitivity import Row, Sensitivity

PARTIAL = 3


def sensitivity(
    a: Annotated[
        str, typer.Argument(metavar="A", help="An entrant: NAME, NAME:PRESET or a table of profiles.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    task: Annotated[str, typer.Option("--task", "-t")] = "regression",
    over: Annotated[
        str, typer.Option("--over", help="What to vary, separated by commas.")
    ] = "normalisation,selection,pca,penalty,head",
    head: Annotated[
        list[str] | None, typer.Option("--head", help="Heads to vary; repeatable. \\[default: quick ones]")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Readout layers; repeatable. \\[default: all]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Folder. \\[default: ./dataset.toml, else the demo]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Folder. \\[default: $WELLBENCH_STORE, else wellbench-store]"),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="The one to vary: name or TOML file. \\[default: nested-cv]"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", min=0, help="\\[default: all usable cores]")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda. \\[default: cpu]")] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with entrants; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; no progress.")] = False,
) -> None:
    """Compare two entrants under every choice of the protocol.

    Each choice is varied by itself; every run is stored and found again. One that learns inside the folds is
    refitted for every choice. Exit status: 0 done; 1 an error; 2 wrong usage; 3 done in part.
    """
    from bench.sensitivity import sensitivity as vary

    flags = {
        "featurizers": (a, b),
        "tasks": (task,),
        "heads": tuple(head) if head else None,
        "layers": tuple(layer) if layer else None,
        "dataset": dataset,
        "store": store,
        "protocol": protocol,
        "processes": processes,
        "device": device,
        "plugins": tuple(plugin) if plugin else None,
    }
    axes = tuple(dict.fromkeys(word.strip() for word in over.split(",") if word.strip()))
    with ui.progress(quiet=json_) as tick:
        found = vary(resolve(None, flags), axes, tick)
    if json_:
        ui.emit(found.plain())
    else:
        _show(found)
    raise typer.Exit(PARTIAL if found.failures else 0)


def _show(found: Sensitivity) -> None:
    """Print a table per layer with its conclusion, then what was left out."""
    from rich.table import Table

    console = ui.out()
    for number, layer in enumerate(found.layers()):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, title=f"{layer} · {found.task}", title_justify="left")
        for name, justify in (
            ("varied", "left"), ("choice", "left"), ("A", "right"), ("B", "right"), ("A − B", "right"),
            ("95 % interval", "right"), ("verdict", "left"),
        ):  # fmt: skip
            table.add_column(name, justify=justify, no_wrap=name not in ("choice", "verdict"))  # type: ignore[arg-type]
        for row in found.rows:
            if row.layer == layer:
                table.add_row(*_cells(row))
        console.print(table)
        console.print(f"A = {found.a}, B = {found.b}", markup=False)
        console.print(found.conclusion(layer), markup=False)
    for line in found.left_out:
        ui.err().print(f"Left out: {line}.", markup=False)
    for failure in found.failures:
        ui.err().print(f"Failed: {failure.what}: {failure.reason}", markup=False)


def _cells(row: Row) -> tuple[str, ...]:
    interval = "–" if math.isnan(row.low) else f"{_number(row.low)} to {_number(row.high)}"
    words = {"better": "A is better", "worse": "B is better", "tied": "tied", "undecided": "no verdict"}
    figures = (f"{row.a:.3f}".replace("-", "−"), f"{row.b:.3f}".replace("-", "−"), _number(row.difference))
    return (row.axis, row.value, *figures, interval, words[row.verdict])


def _number(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
