"""From settings to a session: what they name is found, checked and opened; without a dataset, the demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import heads, inputs, predictors
from bench import problem as problems
from bench.configure import unknown
from bench.embed import Failure
from bench.entrants import AGGREGATIONS, entrant, known, resolve
from bench.errors import BenchError, UsageError
from bench.session import Report, Session
from bench.settings import Settings

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.entrants import Entrant
    from bench.problem import Problem
    from bench.store import Store
    from tasks.protocol import Protocol

DEMO = Path("wellbench-demo")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished session: where its runs stand, what it did and which controls could not run."""

    dataset: Dataset
    store: Store
    report: Report
    unavailable: dict[str, str]


def start(settings: Settings, tick: Ticker) -> Done:
    """Open what the settings name, make the demo if they name no dataset, and run."""
    from bench.store import Store
    from tasks.protocol import load as load_protocol

    check_names(settings)
    protocol = load_protocol(settings.protocol)
    dataset = open_dataset(settings.dataset, tick)
    entrants, unavailable = resolve(settings, dataset)
    omics = inputs.omics(settings, dataset)
    store = Store(Path(settings.store))
    posed, failures = pose(settings, dataset, store, protocol, omics, entrants)
    report = Session(settings, dataset, store, protocol, entrants, tick, omics).run(posed)
    report.failures = [*broken_plugins(settings), *failures, *report.failures]
    return Done(dataset, store, report, unavailable)


def check_names(settings: Settings) -> None:
    """Refuse unknown tasks, heads, protocols and, for the demo, entrants, before anything dear is begun."""
    from tasks.protocol import names

    heads.check(settings)
    if settings.aggregate not in AGGREGATIONS:
        raise UsageError(unknown("aggregation", settings.aggregate, list(AGGREGATIONS)))
    inputs.check(settings)
    predictors.check(settings)
    if settings.protocol not in names() and not Path(settings.protocol).is_file():
        raise UsageError(unknown("protocol", settings.protocol, names()) + ", or name a TOML file")
    if dataset_path(settings.dataset) is None:
        for word in settings.featurizers:
            entrant(word, settings, named=True)


def broken_plugins(settings: Settings) -> list[Failure]:
    """Return one failure per plugin file that the user named and that does not work."""
    if not settings.plugins:
        return []
    files = {Path(plugin).stem for plugin in settings.plugins}
    broken = [
        listing for listing in known(settings.plugins).listings("featurizers") if listing.error is not None
    ]
    return [Failure(f"plugin {b.name}", str(b.error)) for b in broken if b.name in files]


def dataset_path(named: str) -> Path | None:
    """Return the dataset's path: the one named, else ``./dataset.toml``; None means the demo screen."""
    if named:
        return Path(named)
    here = Path("dataset.toml")
    return here if here.exists() else None


def open_dataset(named: str, tick: Ticker) -> Dataset:
    """Load the dataset; without one, make the demo screen in ``wellbench-demo`` here and load that."""
    from bench.datasets import load

    path = dataset_path(named)
    if path is None:
        from bench.demo import make

        path = make(DEMO, report=tick)
    return load(path)


def pose(
    settings: Settings,
    dataset: Dataset,
    store: Store | None,
    protocol: Protocol,
    omics: inputs.Omics | None = None,
    entrants: Sequence[Entrant] = (),
) -> tuple[list[tuple[str, Problem]], list[Failure]]:
    """Join every layer that a task takes to the wells, draw its folds and, given a store, commit them.

    What a task asks of the wells alone is posed too, unless layers are named. A task that none of the heads
    fits, and a layer that cannot be scored, is a failure; when nothing can be, the first reason is raised.
    """
    names = [layer.name for layer in dataset.layers]
    for wanted in settings.layers:
        if wanted not in names:
            raise UsageError(f"dataset {dataset.name!r}: {unknown('readout layer', wanted, names)}")
    posed: list[tuple[str, Problem]] = []
    headless = heads.without(settings, entrants)
    failures = [Failure(f"task {name}", reason) for name, reason in headless.items()]
    first: Exception | None = None
    for name in settings.tasks:
        if name in headless:
            continue
        task = known(settings.plugins).get("tasks", name)()
        block = omics if inputs.asked(settings, type(task)) != (inputs.IMAGE,) else None
        own = partial(problems.make_from_wells, store, dataset, task, task.rules(protocol), settings.labels)
        asked: list[tuple[str, Callable[[], list[Problem]]]] = [] if settings.layers else [("the wells", own)]
        for layer in [dataset.layer(named) for named in settings.layers] or dataset.layers:
            if layer.kind in task.layer_kinds:
                pose_layer = partial(problems.make, store, dataset, layer, task, task.rules(protocol), block)
                asked.append((f"layer {layer.name}", pose_layer))
        for what, make in asked:
            try:
                posed += [(name, problem) for problem in make()]
            except (BenchError, ValueError) as error:
                first = first or error
                failures.append(Failure(f"{name} on {what}", str(error)))
    if not posed:
        if first is not None:
            raise first
        kinds = ", ".join(sorted({layer.kind for layer in dataset.layers})) or "none"
        raise BenchError(
            f"dataset {dataset.name!r} has no readout layer for {', '.join(settings.tasks)} "
            f"(its layers are of kind: {kinds}); `bench dataset show` lists them"
        )
    return posed, failures
