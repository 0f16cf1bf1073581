"""From fields to one row of features per cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from featurizers.base import Embedding, FeaturizerError, Field
from featurizers.fields import where
from featurizers.mae.config import MaeConfig
from featurizers.mae.loss import to_patches
from featurizers.mae.model import Encoder
from featurizers.mae.pixels import Statistics, cut_cells, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Crops per forward pass. Every pass has exactly this many (the last one is filled up), because a matrix
# product of another size may be computed in another order and would then differ in the last bits.
_CHUNK = 32


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
    device = encoder.class_token.device
    channels = encoder.embed.in_features // config.patch**2
    owner: list[NDArray[np.int64]] = []
    objects: list[NDArray[np.int32]] = []

    def crops() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        for k, field in enumerate(fields):
            if field.pixels is not None and len(field.pixels) != channels:
                msg = f"{where(field)} has {len(field.pixels)} channels, but the encoder takes {channels}"
                raise FeaturizerError(msg)
            cells = cut_cells(field, config)
            owner.append(np.full(len(cells.ids), k, np.int64))
            objects.append(cells.ids)
            yield cells.pixels, cells.inside

    rows: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for pixels, inside, filled in _chunks(crops(), channels, config.crop):
            images = prepare(
                torch.from_numpy(pixels).to(device), torch.from_numpy(inside).to(device), config, statistics
            )
            tokens = encoder(to_patches(images, config.patch), block=config.block)
            rows.append(pool(tokens, config)[:filled].float().cpu().numpy())
    values = np.concatenate([np.zeros((0, config.dim), np.float32), *rows])
    finite = np.isfinite(values).all(axis=1)
    field_of_row = np.concatenate([np.zeros(0, np.int64), *owner])
    if not finite.all():
        bad = fields[int(field_of_row[int(np.argmin(finite))])]
        msg = f"{where(bad)}: the embedding of a cell is not finite; check its pixels and the weights"
        raise FeaturizerError(msg)
    return Embedding(values, field_of_row, np.concatenate([np.zeros(0, np.int32), *objects]))


def pool(tokens: Tensor, config: MaeConfig) -> Tensor:
    """Reduce tokens (N, 1 + L, D), class token first, to rows (N, D)."""
    return tokens[:, 0] if config.pooling == "cls" else tokens[:, 1:].mean(dim=1)


def _chunks(
    crops: Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]], channels: int, edge: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], int]]:
    """Regroup crops of fields into chunks of one size; the third entry says how many are real."""

    def empty() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return np.zeros((_CHUNK, channels, edge, edge), np.float32), np.zeros((_CHUNK, edge, edge), np.bool_)

    (pixels, inside), filled = empty(), 0
    for more, own in crops:
        start = 0
        while start < len(more):
            take = min(_CHUNK - filled, len(more) - start)
            pixels[filled : filled + take] = more[start : start + take]
            inside[filled : filled + take] = own[start : start + take]
            filled, start = filled + take, start + take
            if filled == _CHUNK:
                yield pixels, inside, filled
                (pixels, inside), filled = empty(), 0
    if filled:
        yield pixels, inside, filled
