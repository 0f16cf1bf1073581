"""Boards in parts: what ``bench leaderboard --by`` shows, with the files that say what a part is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from bench.entries import Record
    from bench.store import Store
    from leaderboard import Board, Leaderboard

ANNOTATED = {
    "location": "a table of locations (the Human Protein Atlas's, or readout and location)",
    "pathway": "a GMT file",
    "activity": "a table with the columns perturbation and activity",
}


def parts(
    store: Store, records: Sequence[Record], ranked: Leaderboard, by: str, annotation: Path | None
) -> pd.DataFrame:
    """Return the boards in parts, see :mod:`leaderboard.strata`.

    A board that cannot be parted so is left out; when none can, the first one's reason is raised.

    Parameters
    ----------
    store, records
        Where the runs stand, and their records.
    ranked
        Their boards.
    by
        ``layer``, ``dose``, ``location``, ``pathway`` or ``activity``.
    annotation
        The file that location and pathway need; activity is measured by stored features without one.

    Raises
    ------
    UsageError
        When a file is missing or not wanted.
    leaderboard.BoardError
        When the file or every board is wrong.
    """
    import pandas as pd

    from leaderboard import BoardError, strata

    if by in ("location", "pathway") and annotation is None:
        raise UsageError(f"--by {by} needs --annotation with {ANNOTATED[by]}")
    if by not in ANNOTATED and annotation is not None:
        raise UsageError(f"--by {by} takes no --annotation")
    if by == "layer":
        return strata.by_layer(ranked.boards)
    part: Callable[[Board], pd.DataFrame] = strata.by_score_stratum
    if by in ("location", "pathway"):
        named = _readout_parts(by, Path(str(annotation)))
        part = lambda board: strata.by_readouts(board, named, by)  # noqa: E731
    elif annotation is not None:
        table = _activity(annotation)
        part = lambda board: strata.by_activity(board, table, how=f"from {annotation.name}")  # noqa: E731
    elif by == "activity":
        by_run = {record["run"]: record for record in records}
        part = lambda board: _by_features(store, board, by_run)  # noqa: E731
    found: list[pd.DataFrame] = []
    reasons: list[BoardError | BenchError] = []
    for board in ranked.boards:
        try:
            found.append(part(board))
        except (BoardError, BenchError) as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return pd.concat(found, ignore_index=True)


def _by_features(store: Store, board: Board, by_run: Mapping[str, Record]) -> pd.DataFrame:
    """Return skill by the activity that the features of the board's best entrant show."""
    from bench import activity
    from bench import problem as problems
    from leaderboard import strata

    problem = problems.load(store, by_run[board.entries[0].run]["problem"])
    values, how = activity.of_board(store, board, by_run, problem)
    return strata.by_activity(board, values, how=how)


def _readout_parts(by: str, path: Path) -> dict[str, frozenset[str]]:
    from leaderboard.explain.annotation import read_locations, read_pathways

    if by == "pathway":
        return read_pathways(path)
    pairs = read_locations(path)
    return {str(name): frozenset(own["readout"]) for name, own in pairs.groupby("location")}


def _activity(path: Path) -> pd.Series:
    """Read activity by perturbation from a CSV or TSV."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep="\t" if path.suffix in (".tsv", ".txt") else ",", dtype=str)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from error
    if not {"perturbation", "activity"} <= set(frame.columns):
        raise BenchError(
            f"{path}: has no columns perturbation and activity; it has {', '.join(frame.columns)}"
        )
    values = pd.to_numeric(frame["activity"], errors="coerce")
    wrong = values.isna() & frame["activity"].notna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise BenchError(f"{path}, row {row + 2}: activity {frame['activity'].iloc[row]!r} is no number")
    twice = frame["perturbation"].duplicated()
    if twice.any():
        raise BenchError(f"{path}: {frame['perturbation'][twice].iloc[0]!r} stands twice; keep one row of it")
    return pd.Series(values.to_numpy(), index=frame["perturbation"].astype(str))
