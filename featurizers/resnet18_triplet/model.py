"""The network: ResNet18, global average pooling, two dense layers, mean over the tiles of a bag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from featurizers.training.norm import BatchNorm2d
from featurizers.training.schedules import seeded
from featurizers.vision import prepare_timm

prepare_timm()
import timm  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from featurizers.resnet18_triplet.config import FirstConvolution, PoolingPoint, TripletConfig

_FEATURES = 512
_FIRST = "conv1.weight"


def channels_last(network: BagNetwork) -> BagNetwork:
    """Return the network with its convolutions in the layout that they are fastest in."""
    relayout: Any = network.to  # torch's types do not know this use
    relayout(memory_format=torch.channels_last)
    return network


class BagNetwork(nn.Module):
    """From bags of tiles to bag embeddings.

    The backbone is timm's ``resnet18``, which has torchvision's layers and names, with C input channels.
    There is no ReLU after the last dense layer.

    Source: Mehrizi et al. 2023, section 5.3.2; the ReLU between the dense layers is the released code's.
    """

    def __init__(self, config: TripletConfig, channels: int, seed: int) -> None:
        super().__init__()
        with seeded(seed, "weights", 0):
            # processes may take another number of passes each, so passes know their own rows alone
            norm = nn.BatchNorm2d if config.micro_batch else BatchNorm2d
            self.backbone = timm.create_model(
                "resnet18", pretrained=False, in_chans=channels, num_classes=0, norm_layer=norm
            )
            self.head = nn.Sequential(
                nn.Linear(_FEATURES, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.dim)
            )
        self.pooling_point: PoolingPoint = config.pooling_point

    def start_at(self, path: Path, first: FirstConvolution) -> None:
        """Take the backbone's weights from a file of a ResNet18, see :class:`TripletConfig`.

        Raises
        ------
        FeaturizerError
            When the file is damaged or holds another network, at the first tensor that differs.
        """
        from featurizers.foundation import strategies, weights

        tensors = weights.read(path, ignored=("fc.",))
        own = self.backbone.state_dict()
        given, mine = tensors.get(_FIRST), own[_FIRST]
        if given is not None and given.ndim == 4 and given.shape[1] != mine.shape[1]:
            tensors[_FIRST] = strategies.adapted(given, mine.shape[1]) if first == "adapted" else mine
        for name in own.keys() - tensors.keys():
            if name.endswith("num_batches_tracked"):  # files older than that counter do not have it
                tensors[name] = own[name]
        weights.load(self.backbone, tensors, path)

    def tiles(self, images: Tensor) -> Tensor:
        """Return what is averaged over a bag, per tile: (N, C, S, S) to (N, 128), or (N, 512) features."""
        features = self.backbone(images)
        return cast("Tensor", self.head(features) if self.pooling_point == "tile-embeddings" else features)

    def bag(self, pooled: Tensor) -> Tensor:
        """Return bag embeddings (K, 128) from means over tiles."""
        return cast("Tensor", pooled if self.pooling_point == "tile-embeddings" else self.head(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Return bag embeddings (K, 128) of bags (K, N, C, S, S)."""
        bags, tiles = images.shape[:2]
        return self.bag(self.tiles(images.flatten(0, 1)).reshape(bags, tiles, -1).mean(dim=1))
