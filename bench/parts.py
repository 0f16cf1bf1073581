"""Boards in parts: what ``bench leaderboard --by`` shows, with the files that say what a part is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from leaderboard import Board, Leaderboard

ANNOTATED = {
    "location": "a table of locations (the Human Protein Atlas's, or readout and location)",
    "pathway": "a GMT file",
    "activity": "a table with the columns perturbation and activity",
}


def parts(ranked: Leaderboard, by: str, annotation: Path | None) -> pd.DataFrame:
    """Return the boards in parts, see :mod:`leaderboard.strata`.

    A board that cannot be parted so is left out; when none can, the first one's reason is raised.

    Parameters
    ----------
    ranked
        The boards.
    by
        ``layer``, ``dose``, ``location``, ``pathway`` or ``activity``.
    annotation
        The file that the last three need.

    Raises
    ------
    UsageError
        When a file is missing or not wanted.
    leaderboard.BoardError
        When the file or every board is wrong.
    """
    import pandas as pd

    from leaderboard import BoardError, strata

    if (by in ANNOTATED) != (annotation is not None):
        wanted = ANNOTATED.get(by)
        raise UsageError(
            f"--by {by} needs --annotation with {wanted}" if wanted else f"--by {by} takes no --annotation"
        )
    if by == "layer":
        return strata.by_layer(ranked.boards)
    part: Callable[[Board], pd.DataFrame] = strata.by_score_stratum
    if by in ("location", "pathway"):
        named = _readout_parts(by, Path(str(annotation)))
        part = lambda board: strata.by_readouts(board, named, by)  # noqa: E731
    elif by == "activity":
        activity = _activity(Path(str(annotation)))
        part = lambda board: strata.by_activity(board, activity)  # noqa: E731
    found, reasons = [], []
    for board in ranked.boards:
        try:
            found.append(part(board))
        except BoardError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return pd.concat(found, ignore_index=True)


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
