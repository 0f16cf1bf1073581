"""``bench plugin new`` and ``bench plugin test``: from nothing to a featurizer that keeps the contract."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import ui
from bench.errors import UsageError
from bench.registry import Registry, configure

if TYPE_CHECKING:
    from featurizers.base import Channel
    from featurizers.conformance import CheckResult

app = typer.Typer(no_args_is_help=True, help="Scaffold a plugin and test it for conformance.")


@app.command("new")
def new(
    kind: Annotated[str, typer.Argument(help="What to make: featurizer, predictor.")],
    name: Annotated[str, typer.Argument(help="Its name on the command line and on the board.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to make; default ./wellbench-NAME.", show_default=False),
    ] = None,
) -> None:
    """Write a small package with a working featurizer or predictor, its entry point and its test."""
    from bench.plugins.scaffold import KINDS, scaffold

    registry = Registry()
    for taken in ("featurizers", "predictors"):
        if kind in KINDS and name in {entry.name for entry in registry.listings(taken)}:
            raise UsageError(f"{taken[:-1]} {name!r} exists already; choose another name")
    folder = out or Path(f"wellbench-{name}")
    written = scaffold(kind, name, folder)
    console = ui.out()
    for path in written:
        console.print(f"wrote {path}", markup=False)
    module = written[1]
    console.print(f"try it:      bench plugin test {module}", markup=False)
    console.print(f"compare it:  bench run --featurizer {name} --plugin {module}", markup=False)
    console.print(f"install it:  pip install -e {folder}", markup=False)


@app.command("test")
def check(
    target: Annotated[
        str, typer.Argument(help="Name of a featurizer or predictor, or a Python file with some.")
    ],
    preset: Annotated[str | None, typer.Option(help="Preset to test.", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting as NAME.KEY=VALUE; repeatable.", show_default=False),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="File of weights to test it with.", show_default=False)
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="Python file whose classes are added; repeatable.", show_default=False),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Number of channels, for one that takes no other.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a featurizer or predictor keeps the contract; exit code 1 when it does not."""
    from bench.settings import parse_overrides

    files = list(plugin or ())
    is_file = target.endswith(".py")
    registry = Registry([*files, Path(target)] if is_file else files)
    names = _defined_in(registry, Path(target)) if is_file else [target]
    overrides = parse_overrides(set_ or [])
    for stranger in overrides.keys() - set(names):
        raise UsageError(f"--set {stranger}: that is not what is tested, which is {', '.join(names)}")
    for name in names if weights else ():
        overrides.setdefault(name, {})["weights"] = weights
    results = {name: _results(registry, name, preset, overrides.get(name, {}), channels) for name in names}
    if json:
        ui.emit({name: [dataclasses.asdict(r) for r in found] for name, found in results.items()})
    else:
        for name, found in results.items():
            _print(name, found)
    if any(r.status == "failed" for found in results.values() for r in found):
        raise typer.Exit(1)


def _defined_in(registry: Registry, path: Path) -> list[str]:
    """Return the names of the featurizers and predictors of a plugin file."""
    from bench.plugins.files import file_origin

    listed = [*registry.listings("featurizers"), *registry.listings("predictors")]
    names = [entry.name for entry in listed if entry.origin == file_origin(path)]
    if not names:
        raise UsageError(
            f"{path} defines no featurizer or predictor, and only those have a conformance suite"
        )
    return names


def _results(
    registry: Registry, name: str, preset: str | None, overrides: dict[str, Any], channels: int | None
) -> list[CheckResult]:
    from bench.entrants import kind_of
    from featurizers.conformance import check_featurizer, check_predictor

    kind = kind_of(registry, name)
    cls: type[Any] = registry.get(kind, name)
    config = configure(cls, preset, overrides)
    check = check_predictor if kind == "predictors" else check_featurizer
    return check(lambda: cls(config), channels=_channels(channels))


def _channels(count: int | None) -> tuple[Channel, ...] | None:
    """Return that many channels: those of Cell Painting, then numbered ones; None for None."""
    from featurizers.base import Channel
    from featurizers.synthetic import PAINTING

    if count is None:
        return None
    return (*PAINTING, *(Channel(f"Ch{i + 1}") for i in range(len(PAINTING), count)))[:count]


def _print(name: str, found: list[CheckResult]) -> None:
    """Print one line per check and a count."""
    from rich.table import Table
    from rich.text import Text

    console = ui.out()
    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for result in found:
        grid.add_row(Text(result.status, colours[result.status]), result.name, Text(result.message))
    console.print(grid, soft_wrap=False)
    counts = [f"{sum(r.status == s for r in found)} {s}" for s in colours]
    console.print(f"{name}: {', '.join(counts)}", markup=False)
