"""Does the winner of a pair change with the protocol? Every choice is varied by itself, the rest as it is.

A derived protocol is the base protocol with one setting changed; it has a hash of its own, and its runs are
ordinary runs in the store. Choices that need what the dataset lacks are left out with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.configure import unknown
from bench.embed import Failure
from bench.entrants import known, resolve
from bench.errors import BenchError, UsageError
from bench.session import Session
from bench.start import check_names, open_dataset, pose
from bench.words import count

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.plans import Planned
    from bench.settings import Settings
    from bench.store import Store
    from leaderboard import Entry
    from tasks.protocol import Protocol

AXES = ("normalisation", "selection", "pca", "penalty", "head")
NORMALISATIONS = ("none", "fold", "plate-standardise", "plate-mad", "plate-spherise", "tvn")
PROJECTIONS = ("none", "components-50", "variance-0.9")
PENALTIES = (0.01, 1.0, 100.0)
"""Multipliers at which a linear head's penalty is held for every readout (or infinite, the mean)."""

OPERATIONS = ("variance_threshold", "correlation_threshold", "drop_na_columns", "drop_outliers")
"""The operations that are commonly used together; see ``docs/protocols.md``."""

HEADS = ("ridge", "knn", "linear", "logistic")
"""Heads that are varied unless heads are named: those that take seconds."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to score: what differs from the base protocol (``axis``, ``value``), the protocol, the head."""

    axis: str
    value: str
    protocol: Protocol
    head: str


@dataclass(frozen=True, slots=True)
class Row:
    """The pair under one choice on one layer; the difference is A − B.

    ``a`` and ``b`` are scores, ``low`` and ``high`` the interval of the difference, ``verdict`` that on A.
    """

    layer: str
    axis: str
    value: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    mdd80: float
    verdict: str
    protocol_hash: str
    head: str
    run_a: str
    run_b: str


@dataclass(slots=True)
class Sensitivity:
    """The table, what was left out, what failed, and who A and B are."""

    a: str
    b: str
    task: str
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def layers(self) -> list[str]:
        """Return the boards in the order in which they were met."""
        return list(dict.fromkeys(row.layer for row in self.rows))

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "a": self.a,
            "b": self.b,
            "task": self.task,
            "rows": [asdict(row) for row in self.rows],
            "conclusions": {layer: self.conclusion(layer) for layer in self.layers()},
            "left_out": self.left_out,
            "failures": [{"what": f.what, "reason": f.reason} for f in self.failures],
        }

    def conclusion(self, layer: str) -> str:
        """Say in words whether the winner depends on the choice."""
        own = [row for row in self.rows if row.layer == layer]
        verdicts = {name: [r for r in own if r.verdict == name] for name in ("better", "worse", "tied")}
        won, lost, tied = (len(verdicts[name]) for name in ("better", "worse", "tied"))
        if not won + lost + tied:
            leads = sum(row.difference > 0 for row in own)
            return (
                f"No verdicts, because error rates under this protocol have not been measured: {self.a} has "
                f"the larger score under {leads} of {count(len(own), 'choice')}."
            )
        told = f"{self.a} is better under {won}, {self.b} under {lost}, neither under {tied}"
        if won and lost:
            listed = "; ".join(
                f"{who} with {_named(verdicts[how])}" for who, how in ((self.a, "better"), (self.b, "worse"))
            )
            return f"The winner depends on the choice ({told} of {len(own)}): {listed}."
        if not won + lost:
            return f"No winner under any of {count(len(own), 'choice')}."
        winner, how = (self.a, "better") if won else (self.b, "worse")
        if not tied:
            return f"{winner} is better under every one of {count(len(own), 'choice')}."
        few, rest = (verdicts["tied"], "not") if tied <= len(own) / 2 else (verdicts[how], "only")
        return (
            f"Only {winner} ever wins, but whether it does depends on the choice ({told} of {len(own)}): "
            f"{rest} with {_named(few)}."
        )


def sensitivity(settings: Settings, over: Sequence[str], tick: Ticker) -> Sensitivity:
    """Run the two entrants of ``settings`` under the base protocol and under each choice; compare them.

    Raises
    ------
    UsageError
        For an unknown axis, or anything but two entrants and one task.
    BenchError
        When the base protocol itself cannot be run.
    """
    from bench.store import Store
    from tasks.protocol import load as load_protocol

    for axis in over:
        if axis not in AXES:
            raise UsageError(unknown("choice to vary", axis, AXES))
    if len(set(settings.featurizers)) != 2 or len(settings.tasks) != 1:
        raise UsageError("sensitivity compares two different entrants on one task")
    check_names(settings)
    task = settings.tasks[0]
    about = known(settings.plugins).get("tasks", task)
    if not about.needs_head:
        raise UsageError(f"task {task!r} scores features as they are: there is no protocol to vary")
    dataset = open_dataset(settings.dataset, tick)
    settings = replace(settings, controls="none")
    entrants, _ = resolve(settings, dataset)
    store = Store(Path(settings.store))
    base, left_out = load_protocol(settings.protocol), []
    heads = settings.heads or tuple(h for h in HEADS if h != "logistic" or about.default_head == h)
    found = Sensitivity(entrants[0].label, entrants[1].label, task)
    choices = list(_choices(base, about.default_head, heads, over))
    if not _has_controls(dataset):
        kept = [c for c in choices if c.axis != "normalisation" or c.value in ("none", "fold")]
        names = [c.value for c in choices if c not in kept]
        if names:
            left_out.append(f"{', '.join(names)}: the dataset has no negative controls")
        choices = kept
    found.left_out = left_out
    for done, choice in enumerate(choices):
        tick("choices", done, len(choices))
        try:
            _add(found, choice, replace(settings, heads=(choice.head,)), dataset, store, entrants, tick)
        except (BenchError, ValueError) as error:
            if done == 0:
                raise
            found.failures.append(Failure(f"{choice.axis} {choice.value}", str(error)))
    tick("choices", len(choices), len(choices))
    if not found.rows:
        why = "; ".join(f"{f.what}: {f.reason}" for f in found.failures) or "no run of both was finished"
        raise BenchError(f"{found.a} and {found.b} could not be compared: {why}")
    return found


def _add(
    found: Sensitivity,
    choice: Choice,
    settings: Settings,
    dataset: Dataset,
    store: Store,
    entrants: Sequence[Any],
    tick: Ticker,
) -> None:
    """Run one choice and add its rows."""
    from bench.entries import load_entry
    from leaderboard import compare

    posed, failures = pose(settings, dataset, store, choice.protocol)

    def measured(plan: Planned) -> bool:
        return plan.permute_seed is None  # a comparison of two entrants asks for no permuted labels

    report = Session(settings, dataset, store, choice.protocol, entrants, tick, only=measured).run(posed)
    what = f"{choice.axis} {choice.value}"
    found.failures += [Failure(f"{what}: {f.what}", f.reason) for f in (*failures, *report.failures)]
    pairs: dict[str, dict[str, Entry]] = {}
    for run in report.runs:
        entry = load_entry(store, run)
        pairs.setdefault(entry.layer, {})[entry.label] = entry
    for layer, own in pairs.items():
        if found.a not in own or found.b not in own:
            continue
        a, b = own[found.a], own[found.b]
        got = compare(a, b)
        decided = got.overall
        found.rows.append(
            Row(
                layer=layer,
                axis=choice.axis,
                value=choice.value,
                a=got.skill_a,
                b=got.skill_b,
                difference=decided.difference,
                low=decided.low,
                high=decided.high,
                mdd80=decided.mdd80,
                verdict=decided.verdict,
                protocol_hash=choice.protocol.hash,
                head=choice.head,
                run_a=a.run,
                run_b=b.run,
            )
        )


def _choices(
    base: Protocol, default_head: str, heads: Sequence[str], over: Sequence[str]
) -> Iterator[Choice]:
    """Yield the base protocol, then every change of one setting that differs from it."""
    from tasks.protocol import LogGrid, Selection

    changes: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "normalisation": [(name, {"normalisation": (name,)}) for name in NORMALISATIONS],
        "selection": [
            ("none", {"selection": Selection()}),
            ("pycytominer", {"selection": Selection(operations=OPERATIONS)}),
        ],
        "pca": [(name, {"pca": (name,)}) for name in PROJECTIONS],
        "penalty": [(f"fixed at {x:g}", {"penalties": LogGrid(x, x, 1)}) for x in PENALTIES],
    }
    yield Choice("protocol", base.name, base, default_head)
    for axis in over:
        for value, changed in changes.get(axis, []):
            name = f"{base.name}, {axis} {value}"
            derived = base.with_settings(**changed)
            if derived != base:
                yield Choice(axis, value, derived.with_settings(name=name), default_head)
        if axis == "head":
            for head in heads:
                if head != default_head:
                    yield Choice(axis, head, base, head)


def _has_controls(dataset: Dataset) -> bool:
    from bench.datasets.identity import NEGATIVE
    from bench.datasets.tables import PERT_TYPE

    return bool((dataset.wells[PERT_TYPE] == NEGATIVE).any())


def _named(rows: Sequence[Row]) -> str:
    return ", ".join(f"{r.axis} {r.value}" for r in rows)
