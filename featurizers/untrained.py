"""The encoder of ``mae`` with random weights: the control that asks what training has added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.mae.config import PRESETS, MaeConfig

if TYPE_CHECKING:
    from featurizers.mae.model import Encoder


@dataclass(frozen=True)
class UntrainedConfig:
    """Which random encoder.

    Parameters
    ----------
    encoder
        Preset of ``mae`` whose crops, architecture and pooling are used.
    seed
        Seed of the weights.
    """

    encoder: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.encoder not in PRESETS:
            msg = f"untrained: mae has no preset {self.encoder!r}; choose one of {', '.join(PRESETS)}"
            raise FeaturizerError(msg)

    @property
    def mae(self) -> MaeConfig:
        """The settings of the encoder. Pixels are scaled per field: statistics of a data set need a fit."""
        preset = PRESETS[self.encoder]
        return replace(preset, standardise="field") if preset.standardise == "dataset" else preset


class Untrained(Featurizer):
    """Rows per cell from an encoder as ``mae`` initialises it, without any training step."""

    card = Card(
        name="untrained",
        version="1",
        title="Untrained vision transformer",
        citation="Control of this benchmark: the encoder of mae at initialisation.",
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one random patch embedding",
        input_size="single-cell crops as mae's preset cuts them",
        trained_on="nothing",
        needs=("pixels", "objects"),
        role="control",
    )
    Config = UntrainedConfig
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({"default": UntrainedConfig()})
    level = "cell"

    config: UntrainedConfig

    def __init__(self, config: UntrainedConfig | None = None) -> None:
        super().__init__(config)
        self._encoders: dict[int, Encoder] = {}

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``untrained_000``, ...: one per dimension of the encoder."""
        del channels
        return tuple(f"untrained_{k:03d}" for k in range(self.config.mae.dim))

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        import numpy as np

        from featurizers.mae.embedding import embed_cells

        counts = {len(field.channels) for field in fields}
        if not fields:
            nothing = np.zeros((0, self.config.mae.dim), np.float32)
            return Embedding(nothing, np.zeros(0, np.int64), np.zeros(0, np.int32))
        if len(counts) > 1:
            msg = f"untrained: fields with {sorted(counts)} channels were given together; embed them apart"
            raise FeaturizerError(msg)
        return embed_cells(self._encoder(counts.pop()), self.config.mae, None, fields)

    def _encoder(self, channels: int) -> Encoder:
        from featurizers.mae.model import MaskedAutoencoder
        from featurizers.training.schedules import stream

        if channels not in self._encoders:
            model = MaskedAutoencoder(self.config.mae, channels, stream(self.config.seed, "weights", 0))
            self._encoders[channels] = model.encoder.eval()
        return self._encoders[channels]
