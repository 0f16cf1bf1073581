"""``bench crops``: single-cell crops on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import words
from bench.cli import ui

app = typer.Typer(no_args_is_help=True, help="Cut single-cell crops for training loops.")


@app.callback()
def _top() -> None:
    """Cut single-cell crops for training loops."""


@app.command("make")
def make(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Folder with dataset.toml.")] = "",
    store: Annotated[
        Path, typer.Option("--store", envvar="WELLBENCH_STORE", help="Folder of the store.")
    ] = Path("wellbench-store"),
    size: Annotated[int, typer.Option("--size", help="Edge of a crop, pixels.")] = 128,
    scale: Annotated[float, typer.Option("--scale", help="Crop pixels per field pixel.")] = 1.0,
    mask: Annotated[
        str, typer.Option("--mask", help="outermost, cells, objects, nuclei or none.")
    ] = "outermost",
    background: Annotated[str, typer.Option("--background", help="keep, or zero outside the cell.")] = "keep",
    border: Annotated[str, typer.Option("--border", help="drop cells at the border, or pad.")] = "drop",
    processes: Annotated[int, typer.Option("--processes", help="Plates at the same time.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Cut the crops of every plate into the store; what is there already is left as it is."""
    from bench.crops import CropCache, CropConfig, ensure
    from bench.execute import Executor
    from bench.start import open_dataset
    from bench.store import Store

    config = CropConfig(size, scale, mask, background, border)  # type: ignore[arg-type]
    with ui.progress(quiet=as_json) as tick:
        screen = open_dataset(dataset, tick)
        place = Store(store)
        with Executor(processes) as executor:
            folders, failures = ensure(place, screen, config, executor, tick)
    count = len(CropCache(place, folders)) if folders else 0
    if as_json:
        ui.emit({"crops": count, "folders": folders, "failures": failures})
    else:
        said = (
            f"{words.count(count, 'crop')} of {size} x {size} pixels in {words.count(len(folders), 'plate')}"
        )
        ui.out().print(said, markup=False)
        for folder in folders:
            ui.out().print(str(store / folder), markup=False)
        for failure in failures:
            ui.err().print(failure, markup=False)
    if failures:
        raise typer.Exit(3)
