"""``bench demo``: make the simulated Cell Painting screen."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui


def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("wellbench-demo"),
    plates: Annotated[int, typer.Option(help="384-well plates.")] = 2,
    compounds: Annotated[int, typer.Option(help="Compounds, each at every dose on every plate.")] = 80,
    doses: Annotated[int, typer.Option(help="Concentrations per compound.")] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes; default: one per processor. They change no byte.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the simulated Cell Painting screen: images, readouts, and the truth of both.

    An existing screen of the same settings is reused; anything else in the folder is left alone.
    """
    from bench.datasets import load
    from bench.demo import make

    with ui.progress(quiet=as_json) as tick:
        folder = make(
            out,
            plates=plates,
            compounds=compounds,
            doses=doses,
            seed=seed,
            processes=processes,
            report=tick,
        )
    dataset = load(folder)
    truth = dataset.truth
    readouts = {
        layer.name: 0 if truth is None else int((truth["layer"] == layer.name).sum())
        for layer in dataset.layers
    }
    nulls = (
        0
        if truth is None
        else int((truth["null"] & (truth["layer"].isin(["transcripts", "proteins"]))).sum())
    )
    summary = {
        "folder": str(folder),
        "version": dataset.version,
        "wells": len(dataset.wells),
        "images": 0 if dataset.images is None else len(dataset.images),
        "readouts": readouts,
        "null_abundances": nulls,
    }
    if as_json:
        ui.emit(summary)
        return
    layers = ", ".join(f"{n} {name}" for name, n in readouts.items())
    console = ui.out()
    console.print(f"demo screen {dataset.version} in {folder}", markup=False)
    console.print(f"{summary['wells']} wells, {summary['images']} images; readouts: {layers}", markup=False)
    console.print(f"{nulls} of the transcripts and proteins have no link to the images", markup=False)
    console.print(
        f"Next: bench run --dataset {shlex.quote(str(folder))} --featurizer mae --task regression",
        markup=False,
    )
