"""``bench report``: the boards of a store, their figures and all readouts, as one HTML file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui
from bench.cli.leaderboard import StoreOption


def report(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Name of a dataset.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="As on its board, such as transcripts.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol")] = None,
    readout: Annotated[
        list[str] | None, typer.Option("--readout", help="Keep its folds and predictions; repeatable.")
    ] = None,
    locations: Annotated[
        Path | None,
        typer.Option(
            "--locations", help="Table of locations: the Human Protein Atlas's, or readout, location."
        ),
    ] = None,
    pathways: Annotated[Path | None, typer.Option("--pathways", help="Gene sets, a GMT file.")] = None,
    umap: Annotated[
        bool, typer.Option("--umap/--no-umap", help="Draw the map of wells, which takes half a minute.")
    ] = True,
    attribution: Annotated[
        bool,
        typer.Option(
            "--attribution/--no-attribution", help="Draw where in example cells a prediction comes from."
        ),
    ] = True,
    all_: Annotated[bool, typer.Option("--all", help="Older runs of the same name and head too.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write one HTML file with every board, its figures, and a search over all readouts.

    The file needs no network and no other file. What cannot be drawn is listed in it with the reason.
    """
    from bench.report import Request, collect
    from bench.store import Store
    from leaderboard.report import write

    request = Request(
        wanted={"dataset": dataset, "task": task, "layer": layer, "head": head, "protocol": protocol},
        command=shlex.join(["bench", *sys.argv[1:]]),
        readouts=tuple(readout or ()),
        locations=locations,
        pathways=pathways,
        maps=umap,
        gradients=attribution,
        older=all_,
    )
    with ui.progress(quiet=json_) as tick:
        ranked, material = collect(Store(Path(store), create=False), request, tick)
        written = write(ranked, out, material)
    if json_:
        ui.emit(
            {
                "path": str(written.path),
                "bytes": written.size,
                "boards": written.boards,
                "figures": written.figures,
                "tables": written.tables,
                "absent": [{"title": a.title, "reason": a.reason} for a in written.absent],
            }
        )
        return
    boards = f"{written.boards} board{'s' * (written.boards != 1)}"
    ui.print_text(
        f"{written.path}: {boards}, {written.figures} figures, {written.tables} tables, "
        f"{written.size / 1e6:.1f} MB\n"
    )
    reasons = dict.fromkeys((a.title.partition(":")[0], a.reason) for a in written.absent)
    for title, reason in reasons:
        ui.err().print(f"Not drawn: {title}: {reason}.", markup=False)
