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
    table: Annotated[str, typer.Argument(help="CSV, TSV (also .gz), Parquet or .h5ad; one row per well.")],
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import a table of profiles: Metadata_ columns describe the wells, all others are features."""
    from bench.datasets.importing import import_profiles
    from bench.datasets.platemap import pairs

    done = import_profiles(
        table,
        name=name,
        root=dataset,
        store=store,
        rename=pairs(rename or [], "--rename"),
        nonfinite=nonfinite,
    )
    if as_json:
        ui.emit(done)
        return
    from bench.datasets.tables import shorten

    say = ui.out().print
    where = f"{count(done['wells'], 'well')} on {count(done['plates'], 'plate')}"
    size = f"{where} × {count(done['features'], 'feature')}"
    say(f"{size} as {name!r} in {store}", markup=False)
    if done["dropped"]:
        say(f"left out for NaN or infinite values: {shorten(done['dropped'])}", markup=False)
    for sentence in done["unmatched"]:
        say(sentence, markup=False)
    if not done["written"]:
        say("these very profiles were in the store already")
    say(f"next: bench run --dataset {dataset} --featurizer {name}", markup=False)
