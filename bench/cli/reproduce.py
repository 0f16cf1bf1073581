"""``bench reproduce``: make a stored run again and say whether it is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import ui
from bench.cli.leaderboard import StoreOption

if TYPE_CHECKING:
    from bench.reproduce import Reproduction

SHOWN = 12


def reproduce(
    run: Annotated[str, typer.Argument(help="Identifier of a run, or its beginning.")],
    store: StoreOption,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Folder. \\[default: where it was]")
    ] = None,
    store_out: Annotated[
        Path | None,
        typer.Option("--store-out", help="Keep the rerun in this empty store. \\[default: a temporary one]"),
    ] = None,
    rtol: Annotated[
        float,
        typer.Option(
            "--rtol",
            min=0.0,
            help="Relative tolerance of predictions where versions, device or code differ; else 0.",
        ),
    ] = 1e-4,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda. \\[default: as recorded]")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", min=0, help="They change no result.")
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with entrants; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; no progress.")] = False,
) -> None:
    """Make a run again from the images, with its recorded settings, and compare it with what was stored.

    Predictions and scores must be the same bit by bit if versions, machine, code and images are, and within
    --rtol if not; what differs is listed. Exit status: 0 the same, 1 not.
    """
    from bench.reproduce import DIFFERENT, Other
    from bench.reproduce import reproduce as again
    from bench.store import Store

    opened = Store(Path(store), create=False)
    other = Other(dataset, tuple(plugin or ()), device, processes)
    with tempfile.TemporaryDirectory(prefix="wellbench-") as temporary:
        out = Store(store_out or Path(temporary) / "store")
        with ui.progress(quiet=json_) as tick:
            found = again(opened, run, out, tick, other, rtol)
    if json_:
        ui.emit(found.plain())
    else:
        _show(found)
    raise typer.Exit(1 if found.outcome == DIFFERENT else 0)


def _show(found: Reproduction) -> None:
    from bench.reproduce import EQUAL

    first = f"{found.run}  {found.label}: {found.outcome}"
    if found.outcome == EQUAL:
        told = f"every prediction of {found.folds} folds and every score is the same bit by bit"
    else:
        told = (
            f"largest relative difference of a prediction {found.largest:.2g} (tolerance "
            f"{found.tolerance:g}), mean {found.metric} {found.skill:.6f} then and "
            f"{found.skill_again:.6f} now"
        )
    ui.print_text(f"{first}; {told}\n")
    for heading, lines in (("Environment", found.environment), ("Behind the keys", found.keys)):
        for line in lines[:SHOWN]:
            ui.print_text(f"  {heading}: {line}\n")
        if len(lines) > SHOWN:
            ui.print_text(f"  {heading}: and {len(lines) - SHOWN} more; --json lists all\n")
