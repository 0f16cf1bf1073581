"""``bench features``: ready-made profiles enter the store as features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui
from bench.settings import default_store
from bench.words import count

app = typer.Typer(no_args_is_help=True, help="Import ready-made profiles.")


@app.callback()
def _top() -> None:
    """Import ready-made profiles."""


@app.command("import")
def import_(
    table: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="One row per well: CSV, TSV (also .gz), Parquet or .h5ad. Or CellProfiler's single cells: a "
            "folder of its CSV files, a SQLite database, CytoTable's Parquet.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name on the board, e.g. cellprofiler.")],
    store: Annotated[
        Path,
        typer.Option(
            "--store", help="Folder of the store.", default_factory=default_store, show_default=False
        ),
    ],
    dataset: Annotated[Path, typer.Option("--dataset", help="Folder with dataset.toml.")] = Path(),
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", help="OLD=NEW column, e.g. broad_id=Metadata_Compound; repeatable."),
    ] = None,
    nonfinite: Annotated[
        str, typer.Option("--nonfinite", help="NaN and infinite features: refuse, or drop-columns.")
    ] = "refuse",
    aggregate: Annotated[
        str, typer.Option("--aggregate", help="From single cells to wells: median (default) or mean.")
    ] = "",
    compartments: Annotated[
        str, typer.Option("--compartments", help="Objects of single cells to take.")
    ] = "Nuclei,Cells,Cytoplasm",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import profiles: Metadata_ columns describe the wells, all others are features.

    Of single cells, a well at a time is read; their profiles stand in the dataset's profiles/NAME.parquet.
    """
    from bench.datasets.importing import import_profiles
    from bench.datasets.platemap import pairs

    with ui.progress(quiet=as_json) as tick:
        done = import_profiles(
            table,
            name=name,
            root=dataset,
            store=store,
            rename=pairs(rename or [], "--rename"),
            nonfinite=nonfinite,
            aggregate=aggregate,
            compartments=[c.strip() for c in compartments.split(",") if c.strip()],
            report=lambda n, total: tick("wells", n, total),
        )
    if as_json:
        ui.emit(done)
        return
    from bench.datasets.tables import shorten

    say = ui.out().print
    where = f"{count(done['wells'], 'well')} on {count(done['plates'], 'plate')}"
    size = f"{where} × {count(done['features'], 'feature')}"
    say(f"{size} as {name!r} in {store}", markup=False)
    if "cells" in done:
        cells = count(done["cells"], "cell")
        say(f"{done['aggregate']} of each well's cells, {cells} in all, from {done['layout']}", markup=False)
        if done["empty"]:
            say(f"wells without a cell, left out: {shorten(done['empty'])}", markup=False)
        if done["orphans"]:
            say(f"{count(done['orphans'], 'object')} without a partner in another compartment left out")
    if done["dropped"]:
        say(f"left out for NaN or infinite values: {shorten(done['dropped'])}", markup=False)
    for sentence in done["unmatched"]:
        say(sentence, markup=False)
    if not done["written"]:
        say("these very profiles were in the store already")
    say(f"next: bench run --dataset {dataset} --featurizer {name}", markup=False)
