"""From fields to one row of features per cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from featurizers.base import Embedding, Field
from featurizers.mae.config import MaeConfig
from featurizers.mae.loss import to_channel_patches, to_patches
from featurizers.mae.model import Encoder
from featurizers.passes import embed_cells as embed_in_passes
from featurizers.training.pixels import Statistics, cut_cells, prepare

if TYPE_CHECKING:
    from torch import Tensor


def embed_cells(
    encoder: Encoder, config: MaeConfig, statistics: Statistics | None, fields: Sequence[Field]
) -> Embedding:
    """Embed every cell of every field, without masking.

    A row is the mean over patch tokens (``pooling="avg"``) or the class token (``"cls"``) after block
    ``config.block``.

    Raises
    ------
    FeaturizerError
        When a field has another number of channels than the encoder, or an embedding is not finite.
    """
    channels = encoder.embed.in_features // config.patch**2
    if config.channel_tokens == "agnostic" and fields:
        channels = len(fields[0].channels)
    return embed_in_passes(
        fields,
        lambda field: cut_cells(field, config),
        rows_of(encoder, config, statistics),
        channels=channels,
        edge=config.crop,
        width=config.dim,
        device=encoder.class_token.device,
    )


def rows_of(
    encoder: Encoder, config: MaeConfig, statistics: Statistics | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the map from crops (N, C, S, S) and masks (N, S, S) to rows (N, D)."""

    def forward(pixels: Tensor, inside: Tensor) -> Tensor:
        patches = to_patches(prepare(pixels, inside, config, statistics), config.patch)
        if config.channel_tokens == "agnostic":
            patches = to_channel_patches(patches)
        return pool(encoder(patches, block=config.block), config)

    return forward


def pool(tokens: Tensor, config: MaeConfig) -> Tensor:
    """Reduce tokens (N, 1 + L, D), class token first, to rows (N, D)."""
    return tokens[:, 0] if config.pooling == "cls" else tokens[:, 1:].mean(dim=1)
