"""``bench run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import ui
from bench.errors import UsageError
from bench.settings import Settings, parse_overrides, resolve

PARTIAL = 3
SHOWN_FAILURES = 10
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
        typer.Option("--featurizer", "-f", help="NAME or NAME:PRESET, or a table of profiles; repeatable."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Repeatable. [default: regression]")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="Repeatable. [default: the task's]")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Readout layers; repeatable. [default: all]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Folder. [default: ./dataset.toml, else the demo]")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Folder. [default: $WELLBENCH_STORE, else wellbench-store]")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Name or TOML file. [default: nested-cv]")
    ] = None,
    controls: Annotated[
        str | None, typer.Option("--controls", help="all, none, or names separated by commas. [default: all]")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME.KEY=VALUE, a featurizer's setting; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of training and permutations. [default: 0]")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", min=0, help="[default: all cores]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of training. [default: all cores]")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1. [default: cpu]")] = None,
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
        "dataset": dataset,
        "store": store,
        "protocol": protocol,
        "controls": controls,
        "overrides": parse_overrides(set_ or []),
        "seed": seed,
        "processes": processes,
        "threads": threads,
        "device": device,
        "plugins": _tuple(plugin),
    }
    settings = resolve(config, flags)
    if print_config:
        ui.print_text(settings.toml())
        return
    if not settings.featurizers:
        raise UsageError(
            "name at least one entrant, for example --featurizer mae; `bench featurizers` lists them"
        )
    raise typer.Exit(_dry_run(settings, json_=json_) if dry_run else _execute(settings, json_=json_))


def _execute(settings: Settings, *, json_: bool) -> int:
    """Run, print boards and what went wrong; return the exit status."""
    from bench.cli.leaderboard import show_terminal
    from bench.entries import load_entry
    from bench.session import dataset_path, start
    from leaderboard import Leaderboard
    from leaderboard.render.data import document

    if not json_ and dataset_path(settings.dataset) is None:
        ui.err().print(DEMO_BANNER, style="bold", markup=False)
    with ui.progress(quiet=json_) as tick:
        done = start(settings, tick)
        boards = Leaderboard([load_entry(done.store, run) for run in done.report.runs]).boards
    failures = [{"what": f.what, "reason": f.reason} for f in done.report.failures]
    if json_:
        ui.emit(
            {
                "dataset": {"name": done.dataset.name, "version": done.dataset.version},
                "store": str(done.store.root),
                "runs": done.report.runs,
                "unavailable": done.unavailable,
                "failures": failures,
                "boards": [document(board) for board in boards],
            }
        )
        return PARTIAL if failures else 0
    show_terminal(boards)
    ui.out().print(f"\nStored in {done.store.root}. Recompute any number: bench verify RUN", markup=False)
    err = ui.err()
    for name, reason in done.unavailable.items():
        err.print(f"Control {name} is not available: {reason}.", markup=False)
    if failures:
        err.print(f"Done in part: {len(failures)} things could not be computed.", style="bold", markup=False)
        for failure in failures[:SHOWN_FAILURES]:
            err.print(f"  {failure['what']}: {failure['reason']}", markup=False)
        if len(failures) > SHOWN_FAILURES:
            err.print(f"  and {len(failures) - SHOWN_FAILURES} more; --json lists all", markup=False)
    return PARTIAL if failures else 0


def _dry_run(settings: Settings, *, json_: bool) -> int:
    """Show what is stored, what would be computed and about how long; return the exit status."""
    from bench.forecast import forecast

    found = forecast(settings)
    if json_:
        ui.emit(found.plain())
        return 0
    for line in found.lines():
        ui.print_text(line + "\n")
    return 0


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None
