"""What runs must share to stand on one board, and how to say that they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leaderboard.schema import Entry

BOARD_KEY = ("dataset", "dataset_version", "layer", "task", "protocol_hash", "folds_hash")
"""Fields of :class:`~leaderboard.schema.Entry` that two runs must share to be compared or ranked."""

_WORDS = {
    "dataset": "dataset",
    "dataset_version": "version of the dataset",
    "layer": "readout layer",
    "task": "task",
    "protocol_hash": "protocol",
    "folds_hash": "folds",
}


@dataclass(frozen=True, slots=True)
class Heading:
    """What all runs of a board share, and the label of the one that was given first."""

    dataset: str
    dataset_version: str
    layer: str
    task: str
    protocol: str
    protocol_hash: str
    folds_hash: str
    label: str

    @classmethod
    def of(cls, entry: Entry) -> Heading:
        """Read the heading of a run's board."""
        return cls(**{name: str(getattr(entry, name)) for name in cls.__slots__})

    @property
    def key(self) -> tuple[str, ...]:
        """Values of :data:`BOARD_KEY`."""
        return tuple(str(getattr(self, name)) for name in BOARD_KEY)


def why_apart(a: Entry | Heading, b: Entry | Heading) -> str:
    """Say which fields keep two runs on different boards; empty when none does."""
    parts = []
    for name in BOARD_KEY:
        left, right = str(getattr(a, name)), str(getattr(b, name))
        if left != right:
            if name == "protocol_hash" and a.protocol != b.protocol:
                left, right = a.protocol, b.protocol
            parts.append(f"the {_WORDS[name]} differs ({_short(left)} and {_short(right)})")
    return ", ".join(parts)


def separations(headings: Sequence[Heading]) -> list[str]:
    """Say why every board after the first stands apart from the most similar earlier one."""
    if not headings:
        return ["There is no run to show."]
    sentences = []
    for index, own in enumerate(headings[1:], start=1):
        nearest = min(
            headings[:index],
            key=lambda other: sum(x != y for x, y in zip(other.key, own.key, strict=True)),
        )
        sentences.append(
            f"{own.label} and {nearest.label} are not ranked together: {why_apart(nearest, own)}."
        )
    return sentences


def _short(value: str) -> str:
    return value[:12] if len(value) > 24 else value
