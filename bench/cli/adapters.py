"""``bench dataset from``: datasets from files as they are; options that all share stand here once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from bench.cli import ui
from bench.words import count

if TYPE_CHECKING:
    from bench.datasets.writer import Found

app = typer.Typer(no_args_is_help=True, help="Make a dataset from files as they are.")

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Folder or file; a path or e.g. s3://…")]
Channels = Annotated[str, typer.Option("--channels", help="DNA,Actin,…: names of all channels, in order.")]
Projection = Annotated[
    str, typer.Option("--projection", help="Rule for z-stacks: max, mean or none:Z (plane Z alone).")
]
Rebase = Annotated[
    list[str] | None,
    typer.Option("--rebase", help="OLD=NEW start of the index's paths, repeatable."),
]
Timepoint = Annotated[str, typer.Option("--timepoint", help="Which, where there are several.")]


def _common(
    out: Annotated[Path, typer.Option("--out", help="New folder for the dataset.")],
    name: Annotated[str, typer.Option("--name", help="Name of the dataset; default: the folder's.")] = "",
    wells: Annotated[str, typer.Option("--wells", help="Platemap, CSV or TSV, one row per well.")] = "",
    barcodes: Annotated[
        str, typer.Option("--barcodes", help="barcode_platemap.csv with platemap/ beside it.")
    ] = "",
    annotate: Annotated[
        list[str] | None,
        typer.Option("--annotate", help="Table of compounds, genes or controls, joined by name; repeatable."),
    ] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help="OLD=NEW column, repeatable.")] = None,
    perturbation: Annotated[
        str, typer.Option("--perturbation", help="Column of the platemap.")
    ] = "Metadata_Compound",
    negative: Annotated[
        str, typer.Option("--negative", help="Perturbations that are negative controls.")
    ] = "",
    well_rule: Annotated[str, typer.Option("--wells-as", help="rowcol (B01) or colrow (01B).")] = "rowcol",
    plate: Annotated[str, typer.Option("--plate", help="Plate, where nothing names it.")] = "plate-1",
    nucleus: Annotated[str, typer.Option("--nucleus", help="Channel that segmentation starts from.")] = "",
    imaging: Annotated[
        str, typer.Option("--imaging", help="Segmentation, e.g. otsu-log or foreground.")
    ] = "",
    readouts: Annotated[Path | None, typer.Option("--readouts", help="Table of readouts.")] = None,
    layer: Annotated[str, typer.Option("--layer", help="Name of that layer.")] = "readouts",
    kind: Annotated[str, typer.Option("--kind", help="abundance, regulation or target.")] = "abundance",
    scale: Annotated[str, typer.Option("--scale", help="counts, log, ratio or z.")] = "z",
    key: Annotated[str, typer.Option("--key", help="Its key columns.")] = "Metadata_Plate,Metadata_Well",
    join: Annotated[str, typer.Option("--join", help="aggregate or broadcast.")] = "aggregate",
    exclude: Annotated[str, typer.Option("--exclude", help="Columns that are no readouts.")] = "",
) -> dict[str, Any]:
    """Return the fields of :class:`bench.datasets.platemap.About`."""
    from bench.datasets.platemap import ReadoutTable, pairs

    table = (
        ()
        if readouts is None
        else (ReadoutTable(readouts, layer, kind, scale, tuple(_words(key)), join, tuple(_words(exclude))),)
    )
    return {
        "name": name or out.absolute().name,
        "wells": wells or None,
        "barcodes": barcodes or None,
        "annotate": tuple(annotate or ()),
        "rename": pairs(mapping or [], "--map"),
        "perturbation": perturbation,
        "negative": tuple(_words(negative)),
        "well_rule": well_rule,
        "plate": plate,
        "nucleus": nucleus,
        "imaging": imaging,
        "readouts": table,
    }


def _adapter(command: Callable[..., Any]) -> Callable[..., None]:
    """Return ``command(out, about, …)`` with the shared options added, which reports what it found.

    Typer reads options from a signature; this one is the command's own followed by :func:`_common`'s.
    """
    shared = inspect.signature(_common).parameters
    own = [p for n, p in inspect.signature(command).parameters.items() if n not in ("out", "about")]
    hints = get_type_hints(command, include_extras=True) | get_type_hints(_common, include_extras=True)
    json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False)
    hints["as_json"] = Annotated[bool, typer.Option("--json", help="Print JSON.")]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        as_json = values.pop("as_json")
        about = _common(
            **{n: values.pop(n) for n in list(values) if n in shared and n != "out"} | {"out": values["out"]}
        )
        found = command(about=about, **values)
        _report(found, as_json=as_json)

    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
        for p in (*own, *shared.values(), json)
    ]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@app.command("regex")
@_adapter
def from_regex(
    source: Source,
    out: Path,
    about: dict[str, Any],
    pattern: Annotated[
        str,
        typer.Option(
            "--pattern",
            help="Groups plate, well or row and col, site, channel, plane; e.g. (?P<well>[A-H]\\d\\d)",
        ),
    ],
    channels: Annotated[str, typer.Option("--channels", help="DNA,Actin; in plane order if files hold all.")],
    bit_depth: Annotated[int, typer.Option("--bit-depth", help="Significant bits per grey level.")] = 16,
) -> Any:
    """Make a dataset from images by their file names, with a platemap and readouts."""
    from bench.datasets.regex import Source as Regex
    from bench.datasets.regex import from_regex as make

    names = tuple(_words(channels))
    return make(Regex(folder=source, pattern=pattern, channels=names, bit_depth=bit_depth, **about), out)


@app.command("harmony")
@_adapter
def from_harmony(
    source: Source,
    out: Path,
    about: dict[str, Any],
    channels: Channels = "",
    projection: Projection = "",
    timepoint: Timepoint = "",
    illumination: Annotated[
        str,
        typer.Option("--illumination", help="none, or harmony: the flat fields in the index."),
    ] = "none",
) -> Any:
    """Make a dataset from a Harmony export (Operetta, Opera Phenix): Index.idx.xml or Index.xml."""
    from bench.datasets.harmony import Harmony
    from bench.datasets.harmony import from_harmony as make

    about |= {"projection": projection, "timepoint": timepoint, "illumination": illumination}
    return make(Harmony(index=source, channels=tuple(_words(channels)), **about), out)


@app.command("imagexpress")
@_adapter
def from_imagexpress(
    source: Source,
    out: Path,
    about: dict[str, Any],
    channels: Channels = "",
    projection: Annotated[
        str,
        typer.Option(
            "--projection",
            help="Rule for z-stacks: max, mean, none:Z (plane Z alone), or instrument (its own projections).",
        ),
    ] = "",
    timepoint: Timepoint = "",
) -> Any:
    """Make a dataset from the folders of an ImageXpress."""
    from bench.datasets.imagexpress import ImageXpress
    from bench.datasets.imagexpress import from_imagexpress as make

    names = tuple(_words(channels))
    return make(
        ImageXpress(folder=source, channels=names, projection=projection, timepoint=timepoint, **about), out
    )


@app.command("jump")
@_adapter
def from_jump(
    source: Source,
    out: Path,
    about: dict[str, Any],
    channels: Channels = "",
    rebase: Rebase = None,
) -> Any:
    """Make a dataset from CellProfiler's load_data.csv or a folder of them, with illumination functions."""
    from bench.datasets.jump import LoadData
    from bench.datasets.jump import from_jump as make
    from bench.datasets.platemap import pairs

    moved = pairs(rebase or [], "--rebase")
    return make(LoadData(index=source, channels=tuple(_words(channels)), rebase=moved, **about), out)


@app.command("ome-zarr")
@_adapter
def from_ome_zarr(
    source: Source,
    out: Path,
    about: dict[str, Any],
    channels: Channels = "",
    projection: Projection = "",
    timepoint: Timepoint = "",
    acquisition: Annotated[str, typer.Option("--acquisition", help="Which, where there are several.")] = "",
) -> Any:
    """Make a dataset from OME-Zarr plates, 0.4 or 0.5."""
    from bench.datasets.ome_zarr import OmeZarr
    from bench.datasets.ome_zarr import from_ome_zarr as make

    about |= {"projection": projection, "timepoint": timepoint, "acquisition": acquisition}
    return make(OmeZarr(folder=source, channels=tuple(_words(channels)), **about), out)


@app.command("spatial")
@_adapter
def from_spatial(
    source: Source,
    out: Path,
    about: dict[str, Any],
    images: Annotated[
        str, typer.Option("--images", help="Image of a section, below SOURCE.")
    ] = "images/{section}.jpg",
    spots: Annotated[
        str, typer.Option("--spots", help="Its spots: x, y, pixel_x, pixel_y.")
    ] = "spots/{section}_selection.tsv",
    counts: Annotated[
        str, typer.Option("--counts", help="Its counts: a row per spot, named {x}x{y}.")
    ] = "counts/{section}.tsv.gz",
    channels: Channels = "R,G,B",
    patch: Annotated[int, typer.Option("--patch", help="Edge of the square around a spot, pixels.")] = 224,
    patient: Annotated[
        str,
        typer.Option("--patient", help="Pattern whose one group is the patient in a section's name."),
    ] = "",
    genes: Annotated[
        str, typer.Option("--genes", help="shared by all sections, or all (absent is 0).")
    ] = "shared",
) -> Any:
    """Make a dataset from spatial transcriptomics: an image per section, spots, counts per spot."""
    from bench.datasets.spatial import SECTION, Spatial
    from bench.datasets.spatial import from_spatial as make

    about |= {"images": images, "spots": spots, "counts": counts, "patch": patch, "patient": patient}
    about |= {"genes": genes, "channels": tuple(_words(channels))}
    if about["perturbation"] == "Metadata_Compound":
        about["perturbation"] = SECTION
    about["imaging"] = about["imaging"] or "whole"
    return make(Spatial(folder=source, **about), out)


def _report(found: Found, *, as_json: bool) -> None:
    if as_json:
        ui.emit(vars(found))
        return
    from bench.datasets.tables import shorten

    say = ui.out().print
    say(
        f"{count(found.images, 'image plane')} and {count(found.wells, 'well')} in {found.folder}",
        markup=False,
    )
    if found.unmatched:
        say(f"left aside: {len(found.unmatched)}: {shorten(found.unmatched, 5)}", markup=False)
    if found.absent:
        say(f"named but absent: {len(found.absent)}: {shorten(found.absent, 3)}", markup=False)
    if found.wells_without_row:
        lonely = found.wells_without_row
        say(f"{count(len(lonely), 'well', 'are')} not in the platemap: {shorten(lonely)}", markup=False)
    say(f"next: bench dataset check {found.folder}", markup=False)


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]
