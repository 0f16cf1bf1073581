"""``bench run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import ui
from bench.errors import UsageError
from bench.settings import Settings, parse_overrides, resolve

if TYPE_CHECKING:
    from bench.start import Done

PARTIAL = 3
SHOWN = 10
DEMO_BANNER = (
    "No --dataset and no dataset.toml here: this is the demo screen, simulated images and readouts "
    "in ./wellbench-demo."
)


def run(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file of settings; flags win over it.", show_default=False)
    ] = None,
    featurizer: Annotated[
        list[str] | None,
        typer.Option(
            "--featurizer",
            "-f",
            help="NAME or NAME:PRESET of a featurizer or predictor, or a table of profiles; repeatable.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Repeatable. \\[default: regression]")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            help="Repeatable; each is run on the tasks it fits, and the others are named. "
            "\\[default: the task's]",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Readout layers; repeatable. \\[default: all]")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            help="What is predicted from: image, omics, image+omics; repeatable. \\[default: image]",
        ),
    ] = None,
    omics: Annotated[
        str | None,
        typer.Option("--omics", help="Abundance layer put in, or learned from. \\[default: the only one]"),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels", help="Wells column of labels to retrieve; repeatable. \\[default: Metadata_MOA]"
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Folder. \\[default: ./dataset.toml, else the demo]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Folder. \\[default: $WELLBENCH_STORE, else wellbench-store]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Name or TOML file. \\[default: nested-cv]")
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option("--controls", help="all, none, or names separated by commas. \\[default: all]"),
    ] = None,
    permuted: Annotated[
        str | None,
        typer.Option(
            "--permuted",
            help="Who is run on permuted labels too: heads, predictors, all, none. \\[default: heads]",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME.KEY=VALUE, a featurizer's setting; repeatable.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", help="FILE, or NAME=FILE with several entrants: weights to use; repeatable."
        ),
    ] = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            "--aggregate", help="Cells to wells: field-mean, cell-mean, cell-median. \\[default: field-mean]"
        ),
    ] = None,
    keep_cells: Annotated[
        bool | None, typer.Option("--keep-cells", help="Keep a row per cell beside each well's row.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of training and permutations. \\[default: 0]")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-j", min=0, help="Of one thread each. \\[default: all usable cores]"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            help="Of a training, beside which no other process computes. \\[default: all usable cores]",
        ),
    ] = None,
    training_processes: Annotated[
        int | None,
        typer.Option(
            "--training-processes",
            min=1,
            help="That train one entrant together and share its threads, e.g. one per GPU.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1. \\[default: cpu]")
    ] = None,
    logs: Annotated[
        str | None, typer.Option("--logs", help="Folder for metrics of trainings. \\[default: in the store]")
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with entrants; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is cached and what would be computed.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved settings as TOML.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print boards and failures as JSON; no progress.")
    ] = False,
) -> None:
    """Compute what is missing, score it, print the leaderboard.

    Exit status: 0 done; 1 an error; 2 wrong usage; 3 done in part, with the reasons.
    """
    flags: dict[str, Any] = {
        "featurizers": _tuple(featurizer),
        "tasks": _tuple(task),
        "heads": _tuple(head),
        "layers": _tuple(layer),
        "inputs": _tuple(inputs),
        "omics": omics,
        "labels": _tuple(labels),
        "dataset": dataset,
        "store": store,
        "protocol": protocol,
        "controls": controls,
        "permuted": permuted,
        "overrides": parse_overrides(set_ or []),
        "aggregate": aggregate,
        "keep_cells": keep_cells,
        "seed": seed,
        "processes": processes,
        "threads": threads,
        "training_processes": training_processes,
        "logs": logs,
        "device": device,
        "plugins": _tuple(plugin),
    }
    settings = resolve(config, flags)
    if weights:
        from bench.given import with_weights

        settings = with_weights(settings, weights)
    if print_config:
        ui.print_text(settings.toml())
        return
    if not settings.featurizers and settings.inputs != ("omics",):
        raise UsageError(
            "name at least one entrant, for example --featurizer mae; `bench featurizers` lists them"
        )
    raise typer.Exit(_dry_run(settings, json_=json_) if dry_run else _execute(settings, json_=json_))


def _execute(settings: Settings, *, json_: bool) -> int:
    """Run, print boards and what went wrong; return the exit status."""
    from bench import entries, heads
    from bench.boards import Boards
    from bench.cli.leaderboard import show_terminal
    from bench.start import dataset_path, start
    from leaderboard import Rules
    from leaderboard.render.data import document

    if not json_ and dataset_path(settings.dataset) is None:
        ui.err().print(DEMO_BANNER, style="bold", markup=False)
    for line in heads.remarks(settings) if not json_ else ():
        ui.err().print(line, markup=False)
    with ui.progress(quiet=json_) as tick:
        done = start(settings, tick)
        boards = Boards(done.store, entries.named(done.store, done.report.runs), Rules(), tick).sheets()
    if json_:
        ui.emit(
            {
                "dataset": {"name": done.dataset.name, "version": done.dataset.version},
                "store": str(done.store.root),
                "runs": done.report.runs,
                "unavailable": done.unavailable,
                "empty_wells": done.report.empty,
                "skipped": heads.skipped(settings),
                "failures": [{"what": f.what, "reason": f.reason} for f in done.report.failures],
                "boards": [document(board) for board in boards],
            }
        )
    else:
        show_terminal(boards)
        if done.report.runs:
            ui.out().print(f"\nStored in {done.store.root}. Recompute scores: bench verify RUN", markup=False)
        for line in _remarks(done):
            ui.err().print(line, markup=False)
    return PARTIAL if done.report.failures else 0


def _remarks(done: Done) -> list[str]:
    """Return what went wrong or is missing, equal reasons once."""
    lines = [f"Control {name} is not available: {reason}." for name, reason in done.unavailable.items()]
    for label, wells in done.report.empty.items():
        named = ", ".join(wells[:SHOWN]) + (" …" if len(wells) > SHOWN else "")
        lines.append(f"{label} has no row for {len(wells)} well{'s' * (len(wells) > 1)}: {named}")
    reasons: dict[str, list[str]] = {}
    for failure in done.report.failures:
        reasons.setdefault(failure.reason, []).append(failure.what)
    if reasons:
        lines.append("Done in part. What could not be computed:")
    for reason, what in list(reasons.items())[:SHOWN]:
        more = f" and {len(what) - 1} more" if len(what) > 1 else ""
        lines.append(f"  {what[0]}{more}: {reason}")
    if len(reasons) > SHOWN:
        lines.append(f"  and {len(reasons) - SHOWN} further reasons; --json lists all")
    return lines


def _dry_run(settings: Settings, *, json_: bool) -> int:
    """Show what is stored, what would be computed and about how long; return the exit status."""
    from bench.forecast import forecast
    from bench.heads import remarks

    found = forecast(settings)
    if json_:
        ui.emit(found.plain())
        return 0
    for line in [*found.lines(), *remarks(settings)]:
        ui.print_text(ui.wrapped(line) + "\n")
    return 0


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None
