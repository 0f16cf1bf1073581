"""One ``bench run``: from settings to recorded runs; whatever it computes, the next one finds again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import inputs, plans, predictors, runs
from bench.embed import Failure
from bench.entrants import known
from bench.execute import Executor
from bench.leakage import Audit
from bench.runs import RunSpec
from bench.specs import Specs
from bench.supply import Supply

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.entrants import Entrant
    from bench.inputs import Omics
    from bench.plans import Planned
    from bench.problem import Problem
    from bench.settings import Settings
    from bench.store import Store
    from bench.supply import Features
    from tasks.protocol import Protocol


@dataclass(slots=True)
class Report:
    """What a session did: the runs asked for in order, what failed, and wells without a row by label."""

    runs: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    empty: dict[str, list[str]] = field(default_factory=dict)


class Session:
    """Compute what is missing for these settings.

    Parameters
    ----------
    settings
        What was asked for.
    entrants
        Who takes part, controls included.
    tick
        Told of progress.
    omics
        The layer that is put in where the settings ask for it.
    only
        Says of a planned run whether it is to be made; by default every one is.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        store: Store,
        protocol: Protocol,
        entrants: Sequence[Entrant],
        tick: Ticker,
        omics: Omics | None = None,
        only: Callable[[Planned], bool] = lambda _: True,
    ) -> None:
        self.settings = settings
        self.dataset = dataset
        self.store = store
        self.protocol = protocol
        self.entrants = list(entrants)
        self.tick = tick
        self.omics = omics
        self.only = only

    def run(self, posed: Sequence[tuple[str, Problem]]) -> Report:
        """Run every entrant with every head on every problem (task name, problem); return what was done."""
        if self.omics is not None:
            inputs.ensure(self.store, self.omics)
        with Executor(self.settings.processes) as executor:
            supply = Supply(self.settings, self.dataset, self.store, executor, self.tick)
            features = supply.of(self.entrants, posed)
            todo = self._audited(posed, features)
            fits = predictors.Fits(self.store, self.dataset, self.settings, self.tick)
            finished = runs.execute(self.store, todo, executor, self.tick, fits.run_fold)
        report = Report(failures=supply.failures, empty=supply.empty)
        for spec, facts in todo:
            done = finished[spec.run]
            report.runs += [spec.run] if done.record is not None else []
            wrong = [*done.failures, *done.lost]
            report.failures += [Failure(f"{facts['label']}, {what}", why) for what, why in wrong]
        return report

    def _audited(
        self, posed: Sequence[tuple[str, Problem]], features: Mapping[tuple[str, str], Features]
    ) -> list[tuple[RunSpec, Mapping[str, Any]]]:
        """Return the runs to be made, each entrant audited once per problem before any of them is."""
        specs = Specs(self.settings, self.dataset, self.store, self.protocol)
        audit = Audit(self.dataset, self.store)
        todo = []
        for task, problem in posed:
            rules = known(self.settings.plugins).get("tasks", task)().rules(self.protocol)
            found: dict[str, list[dict[str, Any]]] = {}
            for plan in plans.planned(self.settings, self.entrants, self.omics, task, problem, features):
                if not self.only(plan):
                    continue
                label, own = plan.entrant.label, plan.features
                if own is not None and label not in found:
                    found[label] = audit.findings(rules, problem, plan.entrant, own)
                todo.append(specs.of(task, problem, plan, found.get(label, [])))
        return todo
