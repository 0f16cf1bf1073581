"""Two stored runs: found by identifier or label, compared, and gated for a model builder's tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import entries
from bench.configure import unknown
from bench.entries import Record
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.store import Store
    from leaderboard.render.pair import Pair

LEAST_COVERAGE = 0.95
"""Share of the units that a run must have predicted to pass a gate, as to be ranked."""
DROPPED, HELD, UNDECIDED = "dropped", "held", "undecided"

Board = tuple[str, ...]


def choose(store: Store, a: str, b: str, wanted: Mapping[str, Any]) -> tuple[Record, Record]:
    """Return the records that two words mean: identifiers of runs, their beginnings, or labels.

    A label (or an entrant's name) means its newest run on the newest board that holds both; where no board
    does, its newest run, so that the comparison says what keeps the two apart.

    Parameters
    ----------
    store
        Where the runs stand.
    a, b
        The words.
    wanted
        Field of a record to its value, None for any: tells labels apart, see :func:`bench.entries.records`.

    Raises
    ------
    BenchError
        When a word means no run, or several that only an option can tell apart.
    """
    every = entries.records(store, {})
    if not every:
        raise BenchError(f"{store.root} has no finished run; `bench run` makes them")
    chosen = entries.records(store, wanted)
    left, right = (_meant(store, word, every, chosen) for word in (a, b))
    boards = {board_of(r) for r in left} & {board_of(r) for r in right}
    if boards:
        newest = max(boards, key=lambda board: min(_last(left, board), _last(right, board)))
        left, right = ([r for r in own if board_of(r) == newest] for own in (left, right))
        heads = {r["head"] for r in left} & {r["head"] for r in right}
        if len(left) > 1 and len(right) > 1 and len(heads) > 1:
            raise UsageError(
                f"{a} and {b} stand on {newest[3]} with the heads {', '.join(sorted(heads))}: name one with "
                "--head, or the runs themselves"
            )
        if heads:  # one head is compared with itself where both have it
            left, right = ([r for r in own if r["head"] in heads] for own in (left, right))
        for word, own in ((a, left), (b, right)):
            if len({r["head"] for r in own}) > 1:
                listed = ", ".join(sorted({r["head"] for r in own}))
                raise UsageError(f"{word} stands on {newest[3]} with the heads {listed}: name one run")
    return max(left, key=_time), max(right, key=_time)


def board_of(record: Record) -> Board:
    """Return what two runs must share to be compared."""
    dataset, protocol = record["dataset"], record["protocol"]
    own = (dataset["name"], dataset["version"], record["task"], record["layer"])
    return (*own, protocol["hash"], record["folds_hash"])


def compared(store: Store, a: Record, b: Record) -> Pair:
    """Compare two recorded runs.

    Raises
    ------
    leaderboard.BoardError
        When they stand on different boards, with the reason.
    """
    from leaderboard import Rules, compare
    from leaderboard.render.pair import Pair

    left, right, rules = entries.load_entry(store, a), entries.load_entry(store, b), Rules()
    return Pair(left, right, compare(left, right, rules), rules)


def _meant(store: Store, word: str, every: Sequence[Record], chosen: Sequence[Record]) -> list[Record]:
    """Return the runs that a word can mean: one identifier, else those of one label or name."""
    by_run = [r for r in every if r["run"] == word] or [
        r for r in every if word and r["run"].startswith(word)
    ]
    if len(by_run) == 1:
        return by_run
    by_label = [r for r in chosen if r["label"] == word]
    by_label = by_label or [r for r in chosen if r["name"] == word and r["role"] != "permuted"]
    if by_label:
        several = sorted({r["label"] for r in by_label})
        if len(several) > 1:
            raise UsageError(f"{word!r} means several entrants: {'; '.join(several)}; give one label in full")
        return by_label
    if by_run:
        listed = ", ".join(r["run"] for r in by_run[:5])
        raise UsageError(f"{len(by_run)} runs begin with {word!r} ({listed}): give more of it")
    labels = [r["label"] for r in chosen] or [r["label"] for r in every]
    given = "" if len(chosen) == len(every) else " among the runs that the options leave"
    raise BenchError(f"{store.root}: {unknown('run or label', word, labels)}{given}")


def _last(records: Sequence[Record], board: Board) -> tuple[str, str]:
    return max(_time(r) for r in records if board_of(r) == board)


def _time(record: Record) -> tuple[str, str]:
    return str(record["spent"]["time"]), record["run"]


@dataclass(frozen=True, eq=False)
class Gate:
    """Whether a candidate lost more than it may against a baseline.

    With D = score of the candidate - score of the baseline and its interval [low, high] (D2), the outcome is
    ``dropped`` where high < -max_drop, ``held`` where low >= -max_drop, and ``undecided`` between, or where
    no interval can be stated. A true drop of at most max_drop thus fails in about 2.5 % of screens.

    Parameters
    ----------
    pair
        Candidate (A) against baseline (B).
    max_drop
        Largest loss of mean score that is tolerated, at least 0.
    """

    pair: Pair
    max_drop: float

    @property
    def outcome(self) -> str:
        """``dropped``, ``held`` or ``undecided``."""
        own = self.pair.found.overall
        if math.isnan(own.low) or math.isnan(own.high):
            return UNDECIDED
        if own.high < -self.max_drop:
            return DROPPED
        return HELD if own.low >= -self.max_drop else UNDECIDED

    def sentence(self) -> str:
        """Say what was decided and on what ground."""
        from leaderboard.render.cells import interval, number

        own = self.pair.found.overall
        candidate, baseline = self.pair.names
        told = (
            f"{candidate} \u2212 {baseline}: {interval(own.difference, own.low, own.high)} mean "
            f"{self.pair.a.metric}"
        )
        if self.outcome == DROPPED:
            return f"{told}. FAILED: a drop of more than {self.max_drop:g} is resolved."
        if self.outcome == HELD:
            return f"{told}. Passed: a drop of more than {self.max_drop:g} is excluded."
        if math.isnan(own.low):
            return (
                f"{told}. Passed, UNDECIDED: this protocol's error rates are unknown, so no drop is resolved."
            )
        return (
            f"{told}. Passed, UNDECIDED: a drop of more than {self.max_drop:g} is neither resolved nor "
            f"excluded (a true difference of {number(own.mdd80)} is found in 4 of 5 such screens)."
        )

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values."""
        from leaderboard.render.pair import document_pair

        document = document_pair(self.pair)
        del document["readouts"]
        return {
            "outcome": self.outcome,
            "max_drop": self.max_drop,
            "sentence": self.sentence(),
            "candidate": document.pop("a"),
            "baseline": document.pop("b"),
            **{name: document[name] for name in ("board", "metric", "overall", "counts", "remarks")},
        }


def gate(store: Store, baseline: str, candidate: str | None, max_drop: float) -> Gate:
    """Compare a candidate with a baseline.

    Parameters
    ----------
    store
        Where the runs stand.
    baseline
        Identifier of a run, its beginning, or a label.
    candidate
        The same; None takes the newest run of an entrant that was recorded on the baseline's board with its
        head, not before it.
    max_drop
        Largest tolerated loss of mean score.

    Raises
    ------
    BenchError
        When a run is not there, or the candidate left out predictions or readouts that the baseline has.
    leaderboard.BoardError
        When they stand on different boards.
    """
    if not max_drop >= 0 or math.isinf(max_drop):
        raise UsageError(f"--max-drop is {max_drop}; give a finite number of at least 0, such as 0.01")
    if candidate is None:
        first = choose(store, baseline, baseline, {})[1]
        second = _successor(store, first)
    else:
        second, first = choose(store, candidate, baseline, {})
    pair = compared(store, second, first)
    _complete(pair)
    return Gate(pair, max_drop)


def _successor(store: Store, baseline: Record) -> Record:
    """Return the newest run that may be meant as the candidate."""
    found = [
        r
        for r in entries.records(store, {"role": "entrant", "head": baseline["head"]})
        if r["run"] != baseline["run"]
        and board_of(r) == board_of(baseline)
        and _time(r)[0] >= _time(baseline)[0]
    ]
    if not found:
        raise BenchError(
            f"no run of an entrant with head {baseline['head']} was recorded on the board of "
            f"{baseline['label']} after it; `bench run` makes one, or name the candidate"
        )
    return max(found, key=_time)


def _complete(pair: Pair) -> None:
    """Refuse a candidate that predicted less than the baseline: the hard part may be what is missing."""
    candidate, baseline = pair.a, pair.b
    if math.isnan(pair.found.overall.difference):
        raise BenchError(
            f"{candidate.label} and {baseline.label} have no readout with a defined score in both"
        )
    lacking = len(set(baseline.readouts) - set(candidate.readouts))
    if lacking:
        raise BenchError(
            f"{candidate.label} lacks {lacking} of the baseline's {len(baseline.readouts)} readouts"
        )
    if candidate.coverage < min(LEAST_COVERAGE, baseline.coverage):
        raise BenchError(
            f"{candidate.label} predicted {100 * candidate.coverage:.3g} % of what is asked, the baseline "
            f"{100 * baseline.coverage:.3g} %; finish its run with `bench run`"
        )
