"""Plate and well position: the control that asks whether the layout alone explains the readouts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.fields import where

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYOUTS: Mapping[int, tuple[int, int]] = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}
"""Rows and columns of the microplate formats (ANSI/SLAS 4-2004)."""

PlateStrategy = Literal["hashed-plate", "none"]

_WELL = re.compile(r"([A-Z]{1,2})0*([1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class PositionConfig:
    """The plate format and how the plate itself is encoded.

    Parameters
    ----------
    wells
        Wells of the plate format: 96, 384 or 1536.
    plate
        ``hashed-plate``: signed hash columns of the plate's name; ``none``: position inside the plate only.
    plate_columns
        Number of hash columns, 1 to 256.
    """

    wells: int = 384
    plate: PlateStrategy = "hashed-plate"
    plate_columns: int = 16

    def __post_init__(self) -> None:
        """Refuse unknown formats and strategies."""
        if self.wells not in LAYOUTS:
            msg = f"position: wells must be one of {', '.join(map(str, LAYOUTS))}, not {self.wells}"
            raise FeaturizerError(msg)
        if self.plate not in ("hashed-plate", "none"):
            msg = f"position: plate must be 'hashed-plate' or 'none', not {self.plate!r}"
            raise FeaturizerError(msg)
        if not 1 <= self.plate_columns <= 256:
            msg = f"position: plate_columns must lie between 1 and 256, not {self.plate_columns}"
            raise FeaturizerError(msg)


def well_indices(well: str) -> tuple[int, int] | None:
    """Return the zero-based row and column of a well name, ``"AB07"`` → (27, 6); None if it is not one."""
    match = _WELL.fullmatch(well)
    if match is None:
        return None
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


class Position(Featurizer):
    """Where a well lies, without a look at its images.

    For a plate of R rows and C columns and a well at row r, column c (from 0): 2r/(R−1) − 1 and
    2c/(C−1) − 1; the distance to the nearest edge, min(r, R−1−r, c, C−1−c); one-hot row and column; and
    for the plate's name s the d signs ``h_k(s)/√d``, where ``h_k`` is bit k of SHA-256(s) as ±1. Plates
    cannot be one-hot without knowing all of them, and a field is embedded alone. Different names give
    nearly orthogonal vectors of length 1, so a linear head can tell up to about d plates apart.
    """

    card = Card(
        name="position",
        version="1",
        title="Plate and well position",
        citation="Control of this benchmark; ±1 codes: Achlioptas, J. Comput. Syst. Sci. 66 (2003) 671.",
        licence="BSD-3-Clause",
        channel_rule="reads no channel",
        input_size="none",
        trained_on="nothing",
        needs=("position",),
        role="control",
    )
    Config = PositionConfig
    presets: ClassVar[Mapping[str, PositionConfig]] = {
        "default": PositionConfig(),
        "96": PositionConfig(wells=96),
        "384": PositionConfig(wells=384),
        "1536": PositionConfig(wells=1536),
    }
    config: PositionConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the same names whatever the channels."""
        rows, cols = LAYOUTS[self.config.wells]
        hashes = self.config.plate_columns if self.config.plate == "hashed-plate" else 0
        return (
            "Position_Row",
            "Position_Column",
            "Position_EdgeDistance",
            *(f"Position_Row{i + 1:02d}" for i in range(rows)),
            *(f"Position_Column{i + 1:02d}" for i in range(cols)),
            *(f"Position_PlateHash{i + 1:03d}" for i in range(hashes)),
        )

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field; all sites of a well give the same row."""
        values = np.zeros((len(fields), len(self.columns(()))), np.float32)
        for row, field in zip(values, fields, strict=True):
            row[:] = self._row(field)
        return Embedding(values, np.arange(len(fields), dtype=np.int64))

    def _row(self, field: Field) -> NDArray[np.float64]:
        for key in ("Metadata_Plate", "Metadata_Well"):
            if key not in field.metadata:
                msg = f"{where(field)}: featurizer 'position' needs {key}"
                raise FeaturizerError(msg)
        well = str(field.metadata["Metadata_Well"])
        place = well_indices(well)
        if place is None:
            msg = f"{where(field)}: {well!r} is not a well name such as A01; correct Metadata_Well"
            raise FeaturizerError(msg)
        rows, cols = LAYOUTS[self.config.wells]
        r, c = place
        if r >= rows or c >= cols:
            fitting = [str(n) for n, (height, width) in LAYOUTS.items() if r < height and c < width]
            remedy = f"use the preset {fitting[0]!r}" if fitting else "correct Metadata_Well"
            msg = f"{where(field)}: well {well} lies outside a plate of {self.config.wells} wells; {remedy}"
            raise FeaturizerError(msg)
        smooth = [2 * r / (rows - 1) - 1, 2 * c / (cols - 1) - 1, min(r, rows - 1 - r, c, cols - 1 - c)]
        parts = [np.array(smooth, np.float64), np.eye(rows)[r], np.eye(cols)[c]]
        if self.config.plate == "hashed-plate":
            parts.append(_signs(str(field.metadata["Metadata_Plate"]), self.config.plate_columns))
        return np.concatenate(parts)


def _signs(name: str, width: int) -> NDArray[np.float64]:
    """Return ``width`` bits of SHA-256(name) as ±1/√width."""
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint8)
    bits: NDArray[np.uint8] = np.unpackbits(digest)[:width]
    signs: NDArray[np.float64] = 2.0 * bits.astype(np.float64) - 1.0
    signs /= np.sqrt(width)
    return signs
