"""Many screens of many designs over processes; what is done is kept in a file and not done again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.execute import Executor, Unit
from bench.selfcheck.examine import examine

if TYPE_CHECKING:
    from bench.selfcheck.designs import Design
    from bench.selfcheck.examine import Record

VERSION = 1
"""Raised when a record would say something else; kept screens of another version are done again."""

BLOCK = 10
"""Screens per unit of work: a few seconds."""

Tick = Callable[[str, int, int], None]


def code() -> str:
    """Digest of the code whose rates these are: simulation, cross-validation and decisions."""
    import leaderboard.adjust
    import leaderboard.decide
    import leaderboard.folded
    import leaderboard.predictable
    import leaderboard.ranks
    import leaderboard.summands
    import tasks.classification
    import tasks.evaluate
    import tasks.heads.ridge
    import tasks.normalise
    import tasks.regression
    from bench.selfcheck import examine as examining
    from bench.selfcheck import screens
    from bench.store import code_digest, digest

    ours = (examining, screens, tasks.evaluate, tasks.normalise, tasks.regression, tasks.classification)
    theirs = (leaderboard.decide, leaderboard.folded, leaderboard.predictable, leaderboard.summands)
    rest = (tasks.heads.ridge, leaderboard.adjust, leaderboard.ranks)
    return digest([code_digest(module) for module in (*ours, *theirs, *rest)])[:16]


def block(design: Design, seeds: Sequence[int]) -> list[Record]:
    """Examine several screens: one unit of work."""
    return [examine(design, seed) for seed in seeds]


def screening(
    designs: Sequence[Design],
    screens: int,
    *,
    first: int = 0,
    processes: int = 0,
    keep: Path | None = None,
    tick: Tick | None = None,
) -> dict[str, list[Record]]:
    """Examine ``screens`` screens of every design.

    Parameters
    ----------
    designs, screens, first
        What is simulated, and the seeds first, first + 1, ...
    processes
        Worker processes; they change no number. 0 stays in this one.
    keep
        File of finished screens, a line of JSON each, with the digest of the code that made it: those of the
        same :data:`VERSION` and design are taken from it, new ones are appended as they finish.
    tick
        Told of progress.

    Returns
    -------
    dict
        Records by design, in order of seed.

    Raises
    ------
    BenchError
        When a screen fails, or the file cannot be read.
    """
    wanted = range(first, first + screens)
    made_by = code() if keep is not None else ""
    before = kept(keep, designs) if keep is not None and keep.exists() else {}
    done: dict[str, dict[int, Record]] = {
        design.name: {int(r["seed"]): r for r in before.get(design.name, ()) if r["seed"] in wanted}
        for design in designs
    }
    units = []
    for design in designs:
        missing = [seed for seed in wanted if seed not in done[design.name]]
        for start in range(0, len(missing), BLOCK):
            seeds = missing[start : start + BLOCK]
            units.append(Unit(f"{design.name}/{seeds[0]}", block, (design, seeds)))
    ready, total = sum(map(len, done.values())), screens * len(designs)
    with Executor(processes) as executor:
        for outcome in executor.map(units):
            if outcome.reason is not None:
                raise BenchError(f"selfcheck {outcome.unit.name}: {outcome.reason}")
            name = outcome.unit.arguments[0].name
            done[name] |= {int(record["seed"]): record for record in outcome.value}
            if keep is not None:
                mark = {"design": name, **_mark(outcome.unit.arguments[0]), "code": made_by}
                _append(keep, [mark | {"record": record} for record in outcome.value])
            ready += len(outcome.value)
            if tick is not None:
                tick("simulated screens", ready, total)
    return {name: [own[seed] for seed in sorted(own)] for name, own in done.items()}


def kept(path: Path, designs: Sequence[Design]) -> dict[str, list[Record]]:
    """Return the finished screens of a file by design, in order of seed."""
    marks = {design.name: _mark(design) for design in designs}
    found: dict[str, dict[int, Record]] = {design.name: {} for design in designs}
    for line in read(path):
        name = str(line["design"])
        if name in found and _same(line, marks[name]):
            record: Record = line["record"]
            found[name][int(record["seed"])] = record
    return {name: [own[seed] for seed in sorted(own)] for name, own in found.items()}


def codes(path: Path) -> list[str]:
    """Return the digests of the code that made the screens of a file."""
    return sorted({str(line["code"]) for line in read(path)})


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of finished screens; a last line that a kill cut short is left out.

    Raises
    ------
    BenchError
        Naming the file and the line that is no record.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise BenchError(
                f"{path}, line {number}: not a record of `bench selfcheck` ({error.msg}); name another file"
            ) from error
    return found


def _mark(design: Design) -> dict[str, Any]:
    """Return what makes a kept screen one of this design; what is claimed of it does not."""
    settings = dataclasses.asdict(design)
    return {
        "version": VERSION,
        "settings": {k: v for k, v in settings.items() if k not in ("about", "claimed")},
    }


def _same(line: Mapping[str, Any], mark: Mapping[str, Any]) -> bool:
    # Through JSON, as the line has been: tuples are lists there.
    return bool({key: line.get(key) for key in mark} == json.loads(json.dumps(mark)))


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    if path.exists() and (whole := path.read_bytes()) and not whole.endswith(b"\n"):
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])  # what a kill cut short
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
