"""From fields to one bag embedding per field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurizers.base import Embedding, FeaturizerError, Field
from featurizers.fields import where
from featurizers.passes import embed_cells, in_memory
from featurizers.resnet18_triplet.tiles import cut_tiles, four_ways, inference_draws, scale_tiles

if TYPE_CHECKING:
    from torch import Tensor

    from featurizers.resnet18_triplet.config import TripletConfig
    from featurizers.resnet18_triplet.model import BagNetwork

_FEATURES = 512


def embed_fields(
    network: BagNetwork, config: TripletConfig, fields: Sequence[Field], channels: int
) -> Embedding:
    """Return one row (128) per field that has a tile.

    Each draw of tiles is averaged where ``pooling_point`` says, and the rows of all draws are averaged. With
    ``tta="four"`` that is done for each of a tile's four views, and their rows are averaged too.

    Raises
    ------
    FeaturizerError
        When a field has another number of channels, or an embedding is not finite.
    """
    device = next(network.parameters()).device
    width = config.dim if config.pooling_point == "tile-embeddings" else _FEATURES
    views = tile_views(network, config)
    count = 4 if config.tta == "four" else 1
    tiles = embed_cells(
        fields,
        lambda field: cut_tiles(field, config),
        lambda pixels, inside: torch.cat(views(pixels, inside), dim=1),
        channels=channels,
        edge=config.crop,
        width=count * width,
        device=device,
    )
    rows, owner = [], []
    for k, field in enumerate(fields):
        own = tiles.values[tiles.field == k]
        if not len(own):
            continue
        draws = [own[chosen].mean(axis=0, dtype=np.float64) for chosen in inference_draws(len(own), config)]
        pooled = torch.from_numpy(np.stack(draws).astype(np.float32).reshape(-1, width))
        row = in_memory(network.bag, pooled, device=device, unit="bag").numpy().mean(axis=0, dtype=np.float64)
        if not np.isfinite(row).all():
            msg = f"{where(field)}: the embedding is not finite; check its pixels and the weights"
            raise FeaturizerError(msg)
        rows.append(row)
        owner.append(k)
    values = np.array(rows, np.float32).reshape(len(rows), config.dim)
    return Embedding(values, np.array(owner, np.int64))


def tile_views(network: BagNetwork, config: TripletConfig) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Return the map from tiles (N, C, S, S) and masks (N, S, S) to what is averaged over a bag, (N, D) for
    each view of ``config.tta``.
    """

    def forward(pixels: Tensor, inside: Tensor) -> list[Tensor]:
        images = scale_tiles(pixels, inside, config)
        return [network.tiles(view) for view in (four_ways(images) if config.tta == "four" else [images])]

    return forward
