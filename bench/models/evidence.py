"""What a run has shown of each readout: skill, its interval, and whether it is established."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.entries import load_entry

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import Store
    from leaderboard.schema import Entry


def readouts(store: Store, run: str) -> pd.DataFrame:
    """Return one row per readout of a run.

    ``skill`` (the board's metric, named in ``attrs["metric"]``) with ``low`` and ``high``, its D2 interval
    for that readout alone; ``p`` and ``q`` of D3 against the floor; ``established``: predictable at q < 0.05.
    Under a protocol whose error rates were not measured there is no interval and no test, and under an
    optimistic one nothing is established: its skill is not that of a new perturbation.
    """
    import pandas as pd

    from leaderboard.board import make_board
    from leaderboard.decide import skill_interval
    from leaderboard.panel import standings
    from leaderboard.rules import Rules

    entry = load_entry(store, run)
    rules = Rules()
    tested = make_board([entry], rules).readouts.set_index("readout")
    rows = []
    for place, name in enumerate(entry.readouts):
        own = _alone(entry, place)
        found = skill_interval(
            standings([own], (name,))[0].summands, rules.level, measured=entry.variance_measured
        )
        rows.append((name, found.estimate, found.low, found.high))
    frame = pd.DataFrame(rows, columns=["readout", "skill", "low", "high"])
    for column in ("p", "q"):
        frame[column] = tested.loc[frame["readout"], column].to_numpy()
    frame["established"] = tested.loc[frame["readout"], "predictable"].to_numpy(bool) & (not entry.optimistic)
    frame.attrs["metric"] = entry.metric
    return frame


def _alone(entry: Entry, place: int) -> Entry:
    """Cut a run to one readout."""
    own = slice(place, place + 1)
    per_fold = None if entry.fold_values is None else entry.fold_values[:, :, own]
    return replace(
        entry,
        readouts=entry.readouts[own],
        e=entry.e[:, :, own],
        e0=entry.e0[:, :, own],
        fold_values=per_fold,
        scores=entry.scores[entry.scores["readout"] == entry.readouts[place]],
    )
