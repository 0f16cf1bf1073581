"""What is printed of a board: plain, small, and the same after a passage through JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leaderboard.apart import BOARD_KEY, Heading
from leaderboard.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True)
class Sheet:
    """A board without its runs' errors: all that terminal, Markdown, CSV and JSON show.

    Parameters
    ----------
    heading
        What all of its runs share.
    metric
        What ``skill`` means here: ``skill`` (R²), or the name of a score per fold.
    per_fold
        Whether the score exists per fold only.
    rows
        One row per run, ordered by mean skill; columns in ``docs/leaderboard.md``.
    pairs
        One row per decided pair: ``a``, ``b`` (runs), ``difference``, ``low``, ``high``, ``p``, ``p_holm``
        (pairs of ranked entrants), ``mdd80``, ``verdict``, ``p_worse``, ``p_same``, ``p_better`` (of ``a``).
    notes
        What a reader must know, above all what cannot be concluded; one sentence each.
    banner
        Shown above everything when the protocol is optimistic; empty otherwise.
    rules
        Levels and Monte-Carlo settings.
    """

    heading: Heading
    metric: str
    per_fold: bool
    rows: pd.DataFrame
    pairs: pd.DataFrame
    notes: list[str]
    banner: str
    rules: Rules

    @property
    def title(self) -> str:
        """One line that names the board."""
        own = self.heading
        return f"{own.dataset} {own.dataset_version} · {own.layer} · {own.task} · {own.protocol}"

    def key(self) -> dict[str, str]:
        """Return what all runs of this board share."""
        return {name: getattr(self.heading, name) for name in (*BOARD_KEY, "protocol")}

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the rows: the one query behind terminal, Markdown, CSV and JSON."""
        return self.rows.copy()

    def plain(self) -> dict[str, Any]:
        """Return everything as values that JSON keeps to the last bit, NaN as NaN."""
        return {
            "heading": asdict(self.heading),
            "metric": self.metric,
            "per_fold": self.per_fold,
            "rows": _columns(self.rows),
            "pairs": _columns(self.pairs),
            "notes": list(self.notes),
            "banner": self.banner,
            "rules": asdict(self.rules),
        }

    @staticmethod
    def from_plain(found: Mapping[str, Any]) -> Sheet:
        """Return the sheet that :meth:`plain` gave."""
        return Sheet(
            heading=Heading(**found["heading"]),
            metric=found["metric"],
            per_fold=found["per_fold"],
            rows=_frame(found["rows"]),
            pairs=_frame(found["pairs"]),
            notes=list(found["notes"]),
            banner=found["banner"],
            rules=Rules(**found["rules"]),
        )


def _columns(frame: pd.DataFrame) -> list[list[Any]]:
    """Name, type and values of every column; missing whole numbers are None."""
    import pandas as pd

    return [
        [str(name), str(own.dtype), [None if v is pd.NA else v for v in own.tolist()]]
        for name, own in frame.items()
    ]


def _frame(columns: list[list[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: pd.array(values, dtype=dtype) for name, dtype, values in columns})
