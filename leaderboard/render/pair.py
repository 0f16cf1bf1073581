"""Two runs side by side as text: the overall decision, counts over readouts, and the readouts themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leaderboard import notes
from leaderboard.render.cells import interval, number
from leaderboard.render.data import plain_records
from leaderboard.render.markdown import escape
from leaderboard.rules import Rules

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group, RenderableType

    from leaderboard.comparison import Comparison
    from leaderboard.schema import Entry

SHOWN = 5
"""Readouts shown each way in the terminal."""
VERDICTS = ("better", "worse", "tied", "undecided")


@dataclass(frozen=True, eq=False)
class Pair:
    """A comparison with the runs it is of.

    Parameters
    ----------
    a, b
        The runs.
    found
        What :func:`leaderboard.comparison.compare` says of them.
    rules
        The levels it used.
    """

    a: Entry
    b: Entry
    found: Comparison
    rules: Rules

    @property
    def names(self) -> tuple[str, str]:
        """What the two are called: the label, with the head and then the run where labels are the same."""
        if self.a.label != self.b.label:
            return self.a.label, self.b.label
        by_head = tuple(f"{entry.label} ({entry.head})" for entry in (self.a, self.b))
        if by_head[0] != by_head[1]:
            return by_head[0], by_head[1]
        return f"{by_head[0]} {self.a.run[:8]}", f"{by_head[1]} {self.b.run[:8]}"

    def counts(self) -> dict[str, int]:
        """Return how many readouts A predicts better, worse, tied at level q, or without a test."""
        verdicts = self.found.readouts["verdict"]
        return {name: int((verdicts == name).sum()) for name in VERDICTS}

    def leading(self, verdict: str) -> pd.DataFrame:
        """Return the readouts with this verdict, those with the smallest q and largest difference first."""
        own = self.found.readouts[self.found.readouts["verdict"] == verdict]
        order = own.assign(size=-own["difference"].abs()).sort_values(["q", "size", "readout"]).index
        return own.loc[order]

    def conclusion(self) -> str:
        """Say in one sentence what the overall decision allows."""
        own = self.found.overall
        a, b = self.names
        if own.verdict == "undecided":
            if math.isnan(own.difference):
                return "No readout has a defined score in both: nothing can be concluded."
            return "No verdict: the error rates of decisions under this protocol have not been measured."
        if own.verdict != "tied":
            first, second = (a, b) if own.verdict == "better" else (b, a)
            return f"{first} is better than {second}, beyond the margin of {self.a.margin:g}."
        if math.isnan(own.mdd80):
            return f"{a} and {b} made the same errors: there is nothing to tell apart."
        if abs(own.difference) <= own.high - own.difference:
            return (
                f"{a} and {b} are not told apart; a true difference of {number(own.mdd80)} would be found in "
                "4 of 5 such screens."
            )
        return f"The difference is resolved but within the margin of {self.a.margin:g}: tied."

    def remarks(self) -> list[str]:
        """Return what else a reader must know: an optimistic protocol, few effective perturbations, gaps."""
        told = [text] if (text := notes.banner((self.a, self.b))) else []
        effective = self.found.overall.effective_number
        if self.a.fold_values is None and effective < self.rules.effective_minimum:
            told.append(
                f"Effective number of perturbations {effective:.0f}: below "
                f"{self.rules.effective_minimum:.0f} no test has much power."
            )
        for entry, name in zip((self.a, self.b), self.names, strict=True):
            if len(self.found.readouts) < len(entry.readouts):
                both = len(self.found.readouts)
                told.append(f"{name} has {len(entry.readouts)} readouts; compared over {both} of both.")
            if entry.coverage < 1:
                told.append(
                    f"{name} was partly run ({100 * entry.coverage:.3g} % of what is asked); compared over "
                    "what both predicted."
                )
        if len(self.a.folds) != len(self.b.folds):
            told.append(
                f"Compared over the first {min(len(self.a.folds), len(self.b.folds))} repeats, which both "
                "have."
            )
        return told


def facts(pair: Pair) -> list[tuple[str, str]]:
    """Return the overall decision as label and text: what terminal and Markdown print."""
    own, (a, b) = pair.found.overall, pair.names
    metric = pair.a.metric
    counts = pair.counts()
    chances = "not stated"
    if not math.isnan(own.p_same):
        chances = f"{own.p_worse:.3f} / {own.p_same:.3f} / {own.p_better:.3f}"
    return [
        (f"A  {a}", f"mean {metric} {number(pair.found.skill_a)}"),
        (f"B  {b}", f"mean {metric} {number(pair.found.skill_b)}"),
        (
            f"A \u2212 B [{100 * (1 - pair.rules.level):g} % interval]",
            interval(own.difference, own.low, own.high),
        ),
        ("Smallest resolvable (MDD80)", number(own.mdd80)),
        ("P(A worse / same / better)", chances),
        (
            f"Readouts, q < {pair.rules.q:g}",
            f"A better {counts['better']}, worse {counts['worse']}, tied {counts['tied']}"
            + (f", untested {counts['undecided']}" if counts["undecided"] else ""),
        ),
    ]


def title(pair: Pair) -> str:
    """One line that names the board both stand on."""
    a = pair.a
    return f"{a.dataset} {a.dataset_version} · {a.layer} · {a.task} · {a.protocol}"


def terminal_pair(pair: Pair, width: int = 120) -> Group:
    """Return the comparison as a rich renderable for a console of ``width`` columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, text in facts(pair):
        grid.add_row(Text(label), Text(text))
    parts: list[RenderableType] = [Text(title(pair), style="bold"), grid, Text(pair.conclusion(), "bold")]
    for verdict, heading in (("better", "A better"), ("worse", "B better")):
        own = pair.leading(verdict)
        if own.empty:
            continue
        more = f", first {SHOWN} of {len(own)}" if len(own) > SHOWN else ""
        table = Table(box=None, pad_edge=False, title=f"\n{heading}{more}", title_justify="left")
        table.add_column("readout", overflow="fold", max_width=max(16, width - 44))
        for name in ("A", "B", "A \u2212 B", "q"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in own.head(SHOWN).itertuples(index=False):
            table.add_row(Text(str(row.readout)), *_figures(row))
        parts.append(table)
    parts += [Text(text, style="dim") for text in pair.remarks()]
    return Group(*parts)


def markdown_pair(pair: Pair) -> str:
    """Return the comparison as Markdown: the decision, then every readout with a verdict."""
    lines = [f"### {escape(title(pair))}", "", "| | |", "| --- | --- |"]
    lines += [f"| {escape(label)} | {escape(text)} |" for label, text in facts(pair)]
    lines += ["", escape(pair.conclusion()), ""]
    for verdict, heading in (("better", "A better"), ("worse", "B better")):
        own = pair.leading(verdict)
        if own.empty:
            continue
        lines += [f"#### {heading}", "", "| readout | A | B | A \u2212 B | q |", "| --- |" + " ---: |" * 4]
        for row in own.itertuples(index=False):
            lines.append(f"| {escape(str(row.readout))} | " + " | ".join(_figures(row)) + " |")
        lines.append("")
    lines += [f"- {escape(text)}" for text in pair.remarks()]
    return "\n".join(lines).rstrip() + "\n"


def csv_pair(pair: Pair) -> str:
    """Return one row per shared readout in full precision, with the two runs in the first columns."""
    frame = pair.found.readouts.copy()
    frame.insert(0, "run_a", pair.a.run)
    frame.insert(1, "run_b", pair.b.run)
    return frame.to_csv(index=False, lineterminator="\n")


def document_pair(pair: Pair) -> dict[str, Any]:
    """Return the comparison as plain objects (NaN is null)."""
    from leaderboard.apart import BOARD_KEY

    return {
        "schema_version": 1,
        "board": {name: str(getattr(pair.a, name)) for name in (*BOARD_KEY, "protocol")},
        "metric": pair.a.metric,
        "a": _run(pair.a, pair.found.skill_a),
        "b": _run(pair.b, pair.found.skill_b),
        "overall": asdict(pair.found.overall),
        "margin": pair.a.margin,
        "rules": asdict(pair.rules),
        "counts": pair.counts(),
        "conclusion": pair.conclusion(),
        "remarks": pair.remarks(),
        "readouts": plain_records(pair.found.readouts),
    }


def _run(entry: Entry, skill: float) -> dict[str, Any]:
    return {"run": entry.run, "label": entry.label, "head": entry.head, "role": entry.role, "skill": skill}


def _figures(row: Any) -> tuple[str, str, str, str]:
    q = "< 0.0001" if row.q < 0.0001 else f"{row.q:.2g}"
    return number(row.skill_a), number(row.skill_b), number(row.difference, signed=True), q
