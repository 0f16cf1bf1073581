"""``bench dataset``: make, check and show datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import adapters, ui
from bench.words import count

if TYPE_CHECKING:
    from bench.datasets import Dataset, Finding

app = typer.Typer(no_args_is_help=True, help="Make, check and show datasets.")
app.add_typer(adapters.app, name="from")

Folder = Annotated[
    Path | None, typer.Argument(help="Folder with dataset.toml; default: this one, else the demo.")
]
Option = Annotated[Path | None, typer.Option("--dataset", "-d", help="The same, as an option.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Write a commented dataset.toml and empty tables with their headers."""
    from bench.datasets.scaffold import new as scaffold

    for path in scaffold(folder):
        ui.out().print(f"wrote {path}", markup=False)
    ui.out().print(f"next: fill in the tables, then bench dataset check {folder}", markup=False)


@app.command()
def check(
    folder: Folder = None,
    dataset: Option = None,
    no_pixels: Annotated[bool, typer.Option("--no-pixels", help="Do not read the images.")] = False,
    as_json: Json = False,
) -> None:
    """Find everything that is wrong with a dataset, in one pass; exit 1 on errors."""
    from bench.datasets import check as find

    opened = _open(folder, dataset)
    with ui.progress(quiet=as_json) as tick:
        findings = find(opened, "skip" if no_pixels else "read", tick)
    errors = sum(f.severity == "error" for f in findings)
    if as_json:
        ui.emit({"dataset": opened.name, "errors": errors, "findings": [_plain(f) for f in findings]})
    else:
        _print(findings)
        warnings = len(findings) - errors
        said = f"{count(errors, 'error')}, {count(warnings, 'warning')}" if findings else "nothing wrong"
        ui.out().print(f"{opened.name} {opened.version}: {said}", markup=False)
    if errors:
        raise typer.Exit(1)


@app.command()
def show(folder: Folder = None, dataset: Option = None, as_json: Json = False) -> None:
    """Show what a dataset holds: plates, channels, perturbations, layers."""
    facts = _facts(_open(folder, dataset))
    if as_json:
        ui.emit(facts)
        return
    say = ui.out().print
    for key in ("name", "version", "folder", "plates", "wells", "perturbations", "controls", "images"):
        say(f"{key:<14}{facts[key]}", markup=False)
    say(f"{'channels':<14}{', '.join(facts['channels']) or 'none'}", markup=False)
    from rich.table import Table

    if facts["layers"]:
        table = Table("layer", "kind", "scale", "key", "join", "units", "readouts", box=None)
        for layer in facts["layers"]:
            cells = (layer[c] for c in ("name", "kind", "scale", "key", "join", "units", "readouts"))
            table.add_row(*(_escape(c) for c in cells))
        say(table)
        for layer in facts["layers"]:
            for sentence in layer["notes"]:
                say(f"{layer['name']}: {sentence}", markup=False)
    for name in facts["features"]:
        say(f"profiles: {name}", markup=False)


def _open(folder: Path | None, dataset: Path | None) -> Dataset:
    """Load the dataset that is named, else the one here, else the demo, and say so if it is the demo."""
    from bench.start import DEMO, dataset_path, open_dataset

    named = str(folder or dataset or "")
    if dataset_path(named) is None:
        ui.err().print(f"no dataset named and no dataset.toml here: the demo screen in {DEMO}", markup=False)
    with ui.progress() as tick:
        return open_dataset(named, tick)


def _plain(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "where": finding.where}


def _print(findings: list[Finding]) -> None:
    from rich.table import Table

    if not findings:
        return
    table = Table("", "where", "what", "remedy", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for column, ratio in zip(table.columns[1:], (2, 4, 2), strict=True):
        column.ratio, column.overflow = ratio, "fold"
    for f in findings:
        colour = "red" if f.severity == "error" else "yellow"
        table.add_row(f"[{colour}]{f.severity}[/]", *(_escape(t) for t in (f.where, f.what, f.remedy)))
    console = ui.out()
    console.soft_wrap = False
    console.print(table)


def _escape(text: Any) -> str:
    """Return text in which a name like ``[bold]`` is only a name."""
    from rich.markup import escape

    return escape(str(text))


def _facts(dataset: Dataset) -> dict[str, Any]:
    from bench.datasets import join_with_report
    from bench.errors import DatasetError

    negative = dataset.wells["Metadata_pert_type"] == "negcon"
    layers = []
    for layer in dataset.layers:
        units, readouts = 0, 0
        try:
            data, report = join_with_report(dataset, layer, dataset.wells)
            units, readouts, said = report.units, len(data.readouts), report.sentences()[1:]
        except DatasetError as error:
            said = [str(error)]
        layers.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "scale": layer.scale,
                "key": " + ".join(c.removeprefix("Metadata_") for c in layer.key),
                "join": f"{layer.join}, {layer.dose_rule}",
                "units": units,
                "readouts": readouts,
                "notes": said,
            }
        )
    return {
        "name": dataset.name,
        "version": dataset.version,
        "folder": str(dataset.root),
        "plates": dataset.wells["Metadata_Plate"].nunique(),
        "wells": len(dataset.wells),
        "perturbations": len(set(dataset.identities(dataset.wells[~negative])) - {""}),
        "controls": int(negative.sum()),
        "images": 0 if dataset.images is None else len(dataset.images),
        "channels": [f"{c.name} ({c.stain})" if c.stain else c.name for c in dataset.channels],
        "layers": layers,
        "features": [t.name for t in dataset.features],
    }
