"""The masked autoencoder behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurizers.base import Card, Channel, Embedding, Field, FieldSource, FitContext
from featurizers.mae.config import PRESETS, MaeConfig
from featurizers.training.featurizer import Trained, TrainedFeaturizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from featurizers.crops import Crops
    from featurizers.mae.model import MaskedAutoencoder


class Mae(TrainedFeaturizer["MaskedAutoencoder"]):
    """Vision transformer trained to reconstruct hidden patches of this data set's single-cell crops.

    The encoder sees int(L (1 - r)) of L patches; a one-layer decoder predicts the pixels of the hidden ones.
    With y the patches, m the mask and F the transform of one channel of one patch, the objective is
    (1 - a) Σ m mean (ŷ - y)² / Σ m + a Σ m mean | |F(y)| - |F(ŷ)| | / Σ m, minimised by Lion.
    Embeddings are taken from the encoder without masking, one row per cell.

    Attributes
    ----------
    device
        Where :meth:`embed` computes: ``"cpu"``, or the device of the last :meth:`fit`; may be set.
    """

    card = Card(
        name="mae",
        version="1",
        title="Masked autoencoder with Fourier loss on single-cell crops",
        citation=(
            "He et al. 2022, Masked Autoencoders Are Scalable Vision Learners, CVPR (architecture); "
            "Kraus et al. 2024, Masked Autoencoders for Microscopy are Scalable Learners of Cellular "
            "Biology, CVPR (Fourier loss, optimiser); Chronowski et al., poster on Cell Painting and "
            "proteomics (ViT-B/8 on masked cells, mask ratio 0.9, one-layer decoder)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one patch embedding; fixed by the training data",
        input_size="single-cell crops, 32 px (tiny) to 224 px (poster)",
        trained_on="the crops of the data set itself, without labels",
        needs=("pixels", "objects"),
        fit_scope="transductive",
    )
    Config = MaeConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    level = "cell"
    free = ("block", "pooling", "micro_batch")

    config: MaeConfig

    def extent(self) -> str:
        """Return the share of the poster's training, e.g. ``0.025 % of the paper's training``."""
        percent = 100 * self.config.share_of_paper
        share = np.format_float_positional(percent, precision=2, fractional=False, trim="-")
        return f"{share} % of the paper's training"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``mae_000``, ``mae_001``, ...: one per dimension of the encoder, whatever the channels."""
        del channels
        return tuple(f"mae_{k:03d}" for k in range(self.config.dim))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[MaskedAutoencoder]:
        """Train on the crops of ``fields``; ``table`` is not used."""
        from featurizers.mae.train import train

        del table
        return train(fields, self.config, context)

    def architecture(self, channels: int) -> MaskedAutoencoder:
        """Return encoder and decoder; the decoder is kept so that a training can be examined."""
        from featurizers.mae.model import MaskedAutoencoder
        from featurizers.training.schedules import stream

        return MaskedAutoencoder(self.config, channels, stream(0, "weights", 0))

    def rows(self, trained: Trained[MaskedAutoencoder], fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.mae.embedding import embed_cells

        encoder = trained.network.encoder.to(self.device)
        return embed_cells(encoder, self.config, trained.statistics, fields)

    def crops(self, field: Field) -> Crops:
        """Return a field's cells, as :class:`featurizers.attribution.Differentiable` asks."""
        from featurizers.training.pixels import cut_cells

        return cut_cells(field, self.config)

    def differentiable(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return rows of crops, for gradients with respect to pixels."""
        from featurizers.mae.embedding import rows_of

        self.embed(())  # loads or refuses
        assert self._trained is not None
        trained = self._trained
        return rows_of(trained.network.encoder.to(self.device), self.config, trained.statistics)
