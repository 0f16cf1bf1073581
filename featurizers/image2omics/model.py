"""Frozen backbone to tile features, tile features to bags, bags to readouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from featurizers.base import Field, FieldSource, FitContext, Progress
from featurizers.image2omics.config import Image2OmicsConfig
from featurizers.passes import embed_cells
from featurizers.resnet18_triplet.model import BagNetwork, channels_last
from featurizers.resnet18_triplet.tiles import cut_tiles, draw, four_ways, inference_draws, scale_tiles
from featurizers.training.schedules import seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

FEATURES = 512
AT_ONCE = 16
"""Fields whose tiles share forward passes; a tile's numbers do not depend on the others."""


def backbone(
    fields: FieldSource,
    table: pd.DataFrame,
    config: Image2OmicsConfig,
    path: Path | None,
    context: FitContext,
) -> BagNetwork:
    """Return the network that tiles go through, in evaluation mode; nothing of it is trained afterwards.

    Raises
    ------
    FeaturizerError
        When the file holds another network, or no triplets can be made of the training units.
    """
    from featurizers.resnet18_triplet.train import train

    if config.backbone == "triplet":
        workdir = context.workdir / "backbone"
        workdir.mkdir(exist_ok=True)

        def report(progress: Progress) -> None:
            context.report(replace(progress, stage=f"backbone, {progress.stage}"))

        own = replace(context, workdir=workdir, report=report, logs=None)
        network = train(fields, table, config.tiles, own, start=path)
    else:
        network = BagNetwork(config.tiles, len(fields.channels), context.seed)
        if path is not None:
            network.start_at(path, config.first_convolution)
        network = channels_last(network.to(context.device))
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.eval()


def tile_features(
    network: BagNetwork,
    fields: FieldSource,
    config: Image2OmicsConfig,
    report: Callable[[Progress], None],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what is averaged over a bag, per view and tile (V, n, D), and each tile's field (n,).

    The first view is the tile itself; the others are those of ``config.tta``.
    """
    settings = config.tiles
    width = settings.dim if settings.pooling_point == "tile-embeddings" else FEATURES
    count = 4 if settings.tta == "four" else 1
    device = next(network.parameters()).device

    def forward(pixels: Tensor, inside: Tensor) -> Tensor:
        images = scale_tiles(pixels, inside, settings)
        views = four_ways(images) if settings.tta == "four" else [images]
        return torch.cat([network.tiles(view) for view in views], dim=1)

    values, owner = [np.zeros((0, count * width), np.float32)], [np.zeros(0, np.int64)]
    shown: list[Field] = []
    done = 0
    for number, field in enumerate(fields, start=1):
        shown.append(field)
        if len(shown) < AT_ONCE and number < len(fields):
            continue
        own = embed_cells(
            shown,
            lambda field: cut_tiles(field, settings),
            forward,
            channels=len(fields.channels),
            edge=settings.crop,
            width=count * width,
            device=device,
        )
        values.append(own.values)
        owner.append(own.field + done)
        shown, done = [], number
        report(Progress("tile features", done, len(fields)))
    views = np.concatenate(values).reshape(-1, count, width)
    return np.ascontiguousarray(views.swapaxes(0, 1)), np.concatenate(owner)


class BagHead(nn.Module):
    """y = W h + b of a bag h, or of max(h, 0) (released code); h is the mean over the bag's tiles.

    Where tiles are averaged before the dense layers, those come first; they are frozen.
    """

    def __init__(self, config: Image2OmicsConfig, network: BagNetwork, readouts: int, seed: int) -> None:
        super().__init__()
        settings = config.tiles
        self.dense: nn.Module = nn.Identity()
        width = settings.dim
        if config.backbone == "file":
            width = FEATURES
        elif settings.pooling_point == "backbone-features":
            self.dense = network.head
        self.relu = config.head == "relu-linear"
        with seeded(seed, "head", 0):
            self.linear = nn.Linear(width, readouts)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return standardised readouts (K, T) of bags (K, D)."""
        h = self.dense(pooled)
        return cast("Tensor", self.linear(torch.relu(h) if self.relu else h))


def bag(
    features: NDArray[np.float32], tiles: NDArray[np.int64], config: Image2OmicsConfig
) -> NDArray[np.float32]:
    """Return the bags (V seeds, D) of a unit that it is predicted from: means over drawn tiles, of each view.

    The draw depends on the unit's number of tiles alone.
    """
    settings = replace(
        config.tiles, inference_tiles=config.inference_tiles, inference_seeds=config.inference_seeds
    )
    draws = inference_draws(len(tiles), settings)
    bags = [own[tiles[drawn]].mean(axis=0, dtype=np.float64) for own in features for drawn in draws]
    return np.stack(bags).astype(np.float32)


def batch(
    features: NDArray[np.float32],
    of_unit: list[NDArray[np.int64]],
    chosen: NDArray[np.int64],
    config: Image2OmicsConfig,
    seed: int,
) -> Tensor:
    """Return training bags (K, D): each the mean of ``bag_tiles`` tiles drawn from a chosen unit."""
    rng = np.random.default_rng(seed)
    bags = []
    for unit in chosen:
        tiles = of_unit[unit]
        bags.append(features[tiles[draw(len(tiles), config.bag_tiles, rng)]].mean(axis=0))
    return torch.from_numpy(np.stack(bags).astype(np.float32))
