"""``bench look``: a plate or a well as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import ui

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets import Dataset


def look(
    what: Annotated[str, typer.Argument(help="A PLATE, a WELL (of the only plate), or PLATE/WELL.")],
    column: Annotated[
        str,
        typer.Option(
            "--column",
            help="Draw a heat map of this: a Metadata_ column, n_cells, qc_flagged, qc_focus_DNA …, "
            "LAYER:READOUT or FEATURIZER:FEATURE. Without it, a contact sheet.",
        ),
    ] = "",
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Folder with dataset.toml.")] = "",
    store: Annotated[
        Path, typer.Option("--store", envvar="WELLBENCH_STORE", help="Folder of the store.")
    ] = Path("wellbench-store"),
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; else named after WHAT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw a plate (contact sheet, or heat map of a column) or a well (sites, channels, masks) as PNG."""
    from bench.errors import BenchError, UsageError
    from bench.start import open_dataset

    with ui.progress(quiet=as_json) as tick:
        screen = open_dataset(dataset, tick)
        plate, well = find(screen, what)
        parts = [plate, well, column]
        name = "-".join("".join(c if c.isalnum() or c in "._-" else "_" for c in p) for p in parts if p)
        path = out or Path(f"{name}.png")
        failures: list[str] = []
        if path.suffix.lower() != ".png":
            raise UsageError(f"--out {path} does not end in .png; pictures are PNG")
        if well and column:
            raise UsageError(
                f"--column {column!r} is drawn over a whole plate; name {plate} without the well"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if well:
                _well(screen, plate, well, path, failures)
            elif column:
                _heatmap(screen, plate, column, store, path)
            else:
                _sheet(screen, plate, path, failures, tick)
        except OSError as error:
            raise BenchError(
                f"{path} cannot be written ({error.strerror or error}); choose another --out"
            ) from error
    if as_json:
        ui.emit({"file": str(path), "plate": plate, "well": well or None, "failures": failures})
    else:
        ui.out().print(str(path), markup=False)
        for failure in failures:
            ui.err().print(failure, markup=False)
    if failures:
        raise typer.Exit(3)


def find(dataset: Dataset, what: str) -> tuple[str, str]:
    """Return the plate and the well (empty: the whole plate) that ``what`` names.

    Raises
    ------
    UsageError
        For a name that is neither, with what there is, and for a well that several plates have.
    """
    from bench.datasets.tables import PLATE, WELL, natural, normalise_well, shorten
    from bench.errors import UsageError

    wells = dataset.wells
    plates = sorted(set(wells[PLATE]), key=natural)
    if what in plates:
        return what, ""
    plate, slash, name = what.rpartition("/")
    well = normalise_well(name)
    holders = sorted(set(wells.loc[wells[WELL] == well, PLATE]), key=natural)
    if slash and plate in holders:
        return plate, well
    if slash or not holders:
        raise UsageError(
            f"{what!r} is no plate and no well of {dataset.name!r}; plates: {shorten(plates)}; a well is "
            f"written as {wells[WELL].iloc[0]} or {wells[PLATE].iloc[0]}/{wells[WELL].iloc[0]}"
        )
    if len(holders) > 1:
        raise UsageError(f"well {well} is on plates {shorten(holders)}; name one, as {holders[0]}/{well}")
    return holders[0], well


def _heatmap(dataset: Dataset, plate: str, column: str, store: Path, path: Path) -> None:
    from bench.imaging.plates import negative_controls
    from bench.look import heatmap, is_section, section, values
    from bench.store import Store

    found = values(dataset, plate, column, Store(store, create=False) if store.exists() else None)
    if is_section(dataset, plate):
        section(dataset, plate, path, title=f"{dataset.name} · {plate}", values=found, label=column)
        return
    controls = [well for of_plate, well in negative_controls(dataset) if of_plate == plate]
    heatmap(found, path, title=f"{dataset.name} · {plate}", label=column, controls=controls)


def _sheet(dataset: Dataset, plate: str, path: Path, failures: list[str], tick: ui.Ticker) -> None:
    from bench.imaging import field_source
    from bench.look import is_section, plate_sheet, section
    from bench.look.sheet import thumbnail

    if is_section(dataset, plate):
        section(dataset, plate, path, title=f"{dataset.name} · {plate}", values=None, label="")
        return
    wells = dataset.wells[dataset.wells["Metadata_Plate"] == plate]
    names = sorted(set(wells["Metadata_Well"]))
    fields = dict.fromkeys(names)
    for done, well in enumerate(names, start=1):
        source = field_source(
            dataset, wells[wells["Metadata_Well"] == well], ("pixels",), lambda _, why: failures.append(why)
        )
        first = next(iter(source), None)
        fields[well] = None if first is None else thumbnail(first)
        tick("wells", done, len(names))
    plate_sheet(fields, path, title=f"{dataset.name} · {plate}")


def _well(dataset: Dataset, plate: str, well: str, path: Path, failures: list[str]) -> None:
    from bench.errors import DatasetError
    from bench.imaging import field_source
    from bench.look import well_sheet

    wells = dataset.wells
    row = wells[(wells["Metadata_Plate"] == plate) & (wells["Metadata_Well"] == well)].iloc[:1]
    try:
        source = field_source(dataset, row, ("pixels", "objects"), lambda _, why: failures.append(why))
    except DatasetError as error:
        failures.append(f"without masks: {error}")
        source = field_source(dataset, row, ("pixels",), lambda _, why: failures.append(why))
    title = " · ".join(part for part in (dataset.name, plate, well, _treatment(row, dataset)) if part)
    well_sheet(list(source), path, title=title)


def _treatment(row: pd.DataFrame, dataset: Dataset) -> str:
    """Return what is in the well: the perturbation, and its dose if it has one above 0."""
    name = str(row[dataset.perturbation].iloc[0])
    dose = float(row["Metadata_Concentration"].iloc[0]) if "Metadata_Concentration" in row else 0.0
    unit = str(row["Metadata_Concentration_unit"].iloc[0]) if "Metadata_Concentration_unit" in row else ""
    return f"{name} {dose:g} {unit}".strip() if dose > 0 else name
