"""The runs of a store to boards and to the material of their report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import entries
from bench import problem as problems
from bench.errors import BenchError
from bench.report import facts, images, values

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import Store
    from leaderboard import Board, Leaderboard
    from leaderboard.report import BoardMaterial, Material

Tick = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a report is to hold.

    Parameters
    ----------
    wanted
        Field of a run's record to its value; None for any.
    command
        The command line that asked for it.
    readouts
        Named readouts whose folds and predictions can be opened.
    locations, pathways
        Files of annotation, as :mod:`leaderboard.explain.annotation` reads them.
    maps
        Whether UMAP is computed.
    gradients
        Whether attribution maps are.
    older
        Whether older runs of the same name and head are shown too.
    """

    wanted: Mapping[str, str | None] = field(default_factory=dict)
    command: str = "bench report"
    readouts: tuple[str, ...] = ()
    locations: Path | None = None
    pathways: Path | None = None
    maps: bool = True
    gradients: bool = True
    older: bool = False


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is known of readouts from files."""

    locations: pd.DataFrame | None
    pathways: Mapping[str, frozenset[str]] | None


def collect(store: Store, request: Request, tick: Tick) -> tuple[Leaderboard, Material]:
    """Read runs, rank them, and gather what their report shows.

    Raises
    ------
    BenchError
        When the store has no such run, or a file of annotation is wrong.
    """
    from leaderboard import Leaderboard
    from leaderboard.report import Material

    annotation = _annotation(request)
    chosen = entries.records(store, request.wanted)
    if not chosen:
        given = ", ".join(f"{name} {value}" for name, value in request.wanted.items() if value is not None)
        raise BenchError(
            f"{store.root} has no finished run{f' with {given}' if given else ''}; `bench run` makes them"
        )
    current = chosen if request.older else entries.newest(chosen)
    records = _in_order(current)
    ranked = Leaderboard(entries.load_entries(store, records, tick), tick=tick)
    by_run = {record["run"]: record for record in records}
    _check_named(ranked, request.readouts)
    boards = {}
    for number, board in enumerate(ranked.boards):
        boards[number] = _board(store, board, by_run, request, annotation)
        tick("collecting boards", number + 1, len(ranked.boards))
    remarks = []
    if len(current) < len(chosen):
        remarks.append(f"Older runs left out: {len(chosen) - len(current)}; --all shows them.")
    shared = images.figures(
        store, ranked.boards, by_run, maps=request.maps, gradients=request.gradients, tick=tick
    )
    first = ranked.boards[0].entries[0]
    names = list(
        dict.fromkeys(f"{b.entries[0].dataset} {b.entries[0].dataset_version}" for b in ranked.boards)
    )
    return ranked, Material(
        title=f"{first.dataset}: which readouts can be predicted from the image"
        if len(names) == 1
        else f"{len(names)} datasets: which readouts can be predicted from the image",
        boards=boards,
        figures=shared,
        annotation=_readout_facts(annotation),
        commands=facts.commands(store, ranked.boards, by_run, request.command),
        versions=facts.versions(store, records),
        remarks=remarks,
        cite=facts.citations(records),
    )


def _board(
    store: Store, board: Board, by_run: Mapping[str, Any], request: Request, annotation: Annotation
) -> BoardMaterial:
    from leaderboard.report import BoardMaterial
    from leaderboard.report.sections import panel_of

    record = by_run[board.entries[0].run]
    problem = problems.load(store, record["problem"])
    named = BoardMaterial(panel=request.readouts)
    predictions = values.predictions(store, board, problem, panel_of(board, named))
    return BoardMaterial(
        facts=facts.protocol(record, problem),
        sentences=facts.preparation(store, record),
        audit=facts.audit([by_run[entry.run] for entry in board.entries]),
        predictions=predictions,
        panel=request.readouts,
        figures=values.figures(store, board, by_run, problem, annotation.locations, annotation.pathways),
    )


def _in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records by the time their problem was first recorded, then by that of the run."""
    timed = [(str(record["spent"]["time"]), record) for record in records]
    first: dict[str, str] = {}
    for time, record in timed:
        first[record["problem"]] = min(time, first.get(record["problem"], time))

    def place(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
        time, record = item
        layer, _, part = record["layer"].partition(":")
        return (record["task"] != "regression", record["task"], layer, str(part != "up"), time, record["run"])

    return [record for _, record in sorted(timed, key=place)]


def _annotation(request: Request) -> Annotation:
    from leaderboard.explain.annotation import read_locations, read_pathways

    return Annotation(
        locations=None if request.locations is None else read_locations(request.locations),
        pathways=None if request.pathways is None else read_pathways(request.pathways),
    )


def _check_named(ranked: Leaderboard, named: Sequence[str]) -> None:
    known = {name for board in ranked.boards for entry in board.entries for name in entry.readouts}
    unknown = [name for name in named if name not in known]
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise BenchError(
            f"no board has a readout {unknown[0]!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )


def _readout_facts(annotation: Annotation) -> pd.DataFrame | None:
    """Location and pathways per readout: what stands beside an opened readout."""
    import pandas as pd

    columns = {}
    if annotation.locations is not None:
        columns["Location"] = annotation.locations.groupby("readout")["location"].agg("; ".join)
    if annotation.pathways is not None:
        pairs = [(g, name) for name, genes in annotation.pathways.items() for g in sorted(genes)]
        frame = pd.DataFrame(pairs, columns=["readout", "pathway"])
        columns["Pathways"] = frame.groupby("readout")["pathway"].agg(lambda p: "; ".join(p.iloc[:10]))
    return pd.DataFrame(columns).fillna("") if columns else None
