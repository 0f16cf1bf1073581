"""Self-distillation behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import Card, Channel, Embedding, Field, FieldSource, FitContext
from featurizers.dino.config import NAME, PRESETS, DinoConfig
from featurizers.training.featurizer import Trained, TrainedFeaturizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from featurizers.crops import Crops
    from featurizers.dino.model import Backbone


class Dino(TrainedFeaturizer["Backbone"]):
    """Vision transformer that learns to give every view of a cell the distribution that its teacher gives.

    The teacher is the moving average of the student and sees two large views; the student sees those and
    several small ones. With q the teacher's centred and sharpened distribution over prototypes and p the
    student's, the objective is the mean of -Σ q log p over pairs of different views of a cell. No label is
    used. Embeddings are the teacher's class token of the whole crop, one row per cell.
    """

    card = Card(
        name=NAME,
        version="1",
        title="Self-distillation without labels on single-cell crops",
        citation=(
            "Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers, ICCV (objective, "
            "head, schedules); Doron et al. 2023, Unbiased single-cell morphology with self-supervised "
            "vision transformers (DINO4Cells: augmentations for many channels)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one patch embedding; fixed by the training data",
        input_size="single-cell crops, 32 px (tiny) to 224 px (paper)",
        trained_on="the crops of the data set itself, without labels",
        needs=("pixels", "objects"),
        fit_scope="transductive",
    )
    Config = DinoConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    level = "cell"
    free = ("pooling", "micro_batch")

    config: DinoConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``dino_000``, ``dino_001``, ...: one per dimension, whatever the channels."""
        del channels
        return tuple(f"dino_{k:03d}" for k in range(self.config.dim))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[Backbone]:
        """Train on the crops of ``fields``; ``table`` is not used."""
        from featurizers.dino.train import train

        del table
        return train(fields, self.config, context)

    def architecture(self, channels: int) -> Backbone:
        """Return the teacher's backbone."""
        from featurizers.dino.model import Backbone
        from featurizers.training.schedules import seeded

        with seeded(0, "weights", 0):
            return Backbone(self.config, channels, 0.0)

    def rows(self, trained: Trained[Backbone], fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.passes import embed_cells

        backbone, config = trained.network.to(self.device), self.config
        return embed_cells(
            fields,
            self.crops,
            self._rows_of(trained),
            channels=len(self._channels),
            edge=config.crop,
            width=config.dim,
            device=next(backbone.parameters()).device,
        )

    def crops(self, field: Field) -> Crops:
        """Return a field's cells, as :class:`featurizers.attribution.Differentiable` asks."""
        from featurizers.training.pixels import cut_cells

        return cut_cells(field, self.config)

    def differentiable(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return rows of crops, for gradients with respect to pixels."""
        self.embed(())  # loads or refuses
        assert self._trained is not None
        return self._rows_of(self._trained)

    def _rows_of(self, trained: Trained[Backbone]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the map from crops (N, C, S, S) and masks (N, S, S) to rows (N, D)."""
        from featurizers.training.pixels import prepare

        config = self.config
        backbone = trained.network.to(self.device)

        def forward(pixels: Tensor, inside: Tensor) -> Tensor:
            tokens: Tensor = backbone(prepare(pixels, inside, config, trained.statistics))
            return tokens[:, 0] if config.pooling == "cls" else tokens[:, 1:].mean(dim=1)

        return forward
