"""Cell count: the control that an entrant must beat to have shown anything beyond toxicity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from featurizers.base import Card, Channel, Embedding, Featurizer, Field
from featurizers.fields import foreground


@dataclass(frozen=True, slots=True)
class CellCountConfig:
    """Nothing to choose."""


class CellCount(Featurizer):
    """How many objects a field holds and how much of it they cover.

    n; log(1 + n); share of the field's pixels inside any object. A field without objects gives zeros.
    """

    card = Card(
        name="cell-count",
        version="1",
        title="Cell count",
        citation="Control of this benchmark.",
        licence="BSD-3-Clause",
        channel_rule="reads the masks only",
        input_size="whole field, any size",
        trained_on="nothing",
        needs=("objects",),
        role="control",
    )
    Config = CellCountConfig
    presets: ClassVar[Mapping[str, CellCountConfig]] = {"default": CellCountConfig()}
    config: CellCountConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the same names whatever the channels."""
        return ("Count_Objects", "Count_LogObjects", "Count_AreaShare")

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field."""
        values = np.zeros((len(fields), 3), np.float32)
        for row, field in zip(values, fields, strict=True):
            count = len(field.ids)
            row[:] = count, np.log1p(count), foreground(field, self.card.name).mean()
        return Embedding(values, np.arange(len(fields), dtype=np.int64))
