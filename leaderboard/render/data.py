"""The board for machines: CSV of the rows; JSON of key, rows, pairs and notes, with a schema."""

from __future__ import annotations

import json as _json
import math
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

if TYPE_CHECKING:
    from leaderboard.sheet import Sheet

SCHEMA_VERSION = 1
"""Raised when a field of the JSON is removed or changes its meaning; new fields do not raise it."""


def csv(board: Sheet) -> str:
    """Return the rows as CSV in full precision, with the board's key in the first columns."""
    frame = board.to_frame()
    for position, (name, value) in enumerate(board.key().items()):
        frame.insert(position, name, value)
    return frame.to_csv(index=False, lineterminator="\n")


def json(board: Sheet) -> str:
    """Return the board as strict JSON (NaN is null), described by :func:`schema`."""
    return _json.dumps(document(board), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def document(board: Sheet) -> dict[str, Any]:
    """Return the content of :func:`json` as plain objects."""
    return {
        "schema_version": SCHEMA_VERSION,
        "board": board.key(),
        "metric": board.metric,
        "rules": asdict(board.rules),
        "banner": board.banner,
        "rows": plain_records(board.to_frame()),
        "pairs": plain_records(board.pairs),
        "notes": list(board.notes),
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of :func:`json`."""
    text = files("leaderboard").joinpath("board.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", _json.loads(text))


def plain_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain objects; NaN and infinities are None."""
    return [
        {str(name): _plain(value) for name, value in record.items()}
        for record in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
