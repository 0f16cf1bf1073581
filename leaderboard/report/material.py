"""What a report may show beside its boards; every part is optional and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leaderboard.tables.frames import Table
from leaderboard.tables.naming import Absent

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.figures.base import Figure


@dataclass(frozen=True, eq=False)
class BoardMaterial:
    """What belongs to one board.

    Parameters
    ----------
    facts
        Name to text: the protocol's settings, versions of the task, the preparation of the readouts.
    sentences
        How the readouts were prepared and joined.
    audit
        Findings of the leakage audit: ``severity``, ``about``, ``code``, ``message``, ``figure``; None where
        none was run.
    predictions
        ``run``, ``readout``, ``unit``, ``measured``, ``predicted``: out-of-fold values of a panel.
    panel
        Readouts whose folds and predictions can be opened, beside the best and worst of the leading entrant.
    figures
        Further figures, or why they cannot be drawn.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    audit: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    panel: Sequence[str] = ()
    figures: Sequence[Figure | Table | Absent] = ()


@dataclass(frozen=True, eq=False)
class Material:
    """What a report shows beside its boards.

    Parameters
    ----------
    title
        Heading of the page.
    boards
        By place among the boards.
    figures
        Figures that belong to no single board: embeddings, plates.
    annotation
        Index: readout; columns of text shown where a readout is opened (location, pathways, mean abundance).
    commands
        What for, and the command: "cite and reproduce".
    versions
        Two columns: what, and its version.
    remarks
        Sentences on what was left out.
    """

    title: str = "Leaderboard"
    boards: Mapping[int, BoardMaterial] = field(default_factory=dict)
    figures: Sequence[Figure | Table | Absent] = ()
    annotation: pd.DataFrame | None = None
    commands: Sequence[tuple[str, str]] = ()
    versions: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()
    cite: Mapping[str, Any] = field(default_factory=dict)
