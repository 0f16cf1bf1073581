"""``bench cellprofiler``: real CellProfiler in an environment of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui
from bench.words import count

app = typer.Typer(
    no_args_is_help=True,
    help="Real CellProfiler in an environment of its own. (The featurizer 'cellprofiler' does not need it.)",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("setup")
def setup(
    python: Annotated[
        str | None, typer.Option("--python", help="A Python 3.9; default: python3.9 on PATH, else pyenv's.")
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", help="Folder; default: $WELLBENCH_CELLPROFILER, else the user's cache."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Install CellProfiler 4.2.8 in its own environment (a few minutes, 1 GB); needs Python 3.9 and a JDK.

    What is done already is not done again: an interrupted setup goes on where it was.
    """
    from bench.sidecar.install import setup as make
    from bench.sidecar.places import VARIABLE, environment

    folder = environment(into)
    say = ui.out().print
    with ui.progress(quiet=as_json) as tick:

        def report(name: str, number: int, total: int) -> None:
            tick("installing CellProfiler", number, total)
            if not as_json and number < total:
                ui.err().print(f"{number + 1}/{total} {name}", markup=False)

        if not as_json:
            ui.err().print(f"environment: {folder}", markup=False)
        interpreter, version, ran = make(python, into, report)
    if as_json:
        ui.emit({"environment": str(folder), "python": str(interpreter), "version": version, "ran": ran})
        return
    what = "is installed" if ran else "was there already"
    say(f"CellProfiler {version} {what}: {interpreter}", markup=False)
    if folder != environment():
        say(f"to use it: export {VARIABLE}={shlex.quote(str(folder))}", markup=False)
    say("next: bench cellprofiler run PIPELINE.cppipe --data-file load_data.csv -o OUT", markup=False)


@app.command("run")
def run(
    pipeline: Annotated[Path, typer.Argument(help="CellProfiler pipeline, .cppipe or .cpproj.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for its output.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images, for the pipeline's Images module.")
    ] = None,
    data_file: Annotated[
        Path | None, typer.Option("--data-file", help="CSV of image sets, for its LoadData module.")
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=1, help="First image set.")] = None,
    last: Annotated[int | None, typer.Option("--last", min=1, help="Last image set.")] = None,
    as_json: Json = False,
) -> None:
    """Run a pipeline without a screen; its log is OUT/cellprofiler.log."""
    from bench.sidecar.run import run_pipeline

    with ui.progress(quiet=as_json) as tick:
        tick("image sets", 0, 1)
        done = run_pipeline(
            pipeline,
            out,
            images=images,
            data_file=data_file,
            first=first,
            last=last,
            report=lambda n, total: tick("image sets", n, total or n + 1),
        )
    if as_json:
        ui.emit(
            {
                "out": str(done.out),
                "files": list(done.files),
                "image_sets": done.image_sets,
                "seconds": done.seconds,
            }
        )
        return
    from bench.datasets.tables import shorten

    say = ui.out().print
    seconds = sum(done.seconds.values())
    say(f"{count(done.image_sets, 'image set')} in {seconds:.1f} s; wrote to {done.out}:", markup=False)
    say(shorten(done.files), markup=False)
    slow = sorted(done.seconds.items(), key=lambda item: -item[1])[:3]
    if slow:
        told = ", ".join(f"{name.partition(':')[2]} {s:.1f} s" for name, s in slow)
        say(f"slowest modules: {told}", markup=False)
    say(f"next: bench features import {shlex.quote(str(done.out))} --name cellprofiler-real", markup=False)
