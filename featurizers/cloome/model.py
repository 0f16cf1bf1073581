"""The two towers: a residual network over images and a multilayer perceptron over fingerprints.

Modules bear the names of the published checkpoint, so its tensors are ours.

The image tower is called ResNet-50 and has its tensors, name for name and shape for shape, but is another
network: where a block halves the resolution it convolves without a stride and averages 2 × 2 pixels after
it, in the shortcut before the convolution (as CLIP's networks do), and the last map is averaged over
windows of 7 × 7 and then over windows, which weights its border less than its middle. Published weights
load without complaint into a common ResNet-50 and then give other numbers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.training.norm import BatchNorm1d, BatchNorm2d
from featurizers.training.schedules import seeded

if TYPE_CHECKING:
    from featurizers.cloome.config import Downsample, Pooling, TowerSettings

EXPANSION = 4
"""Output planes of a bottleneck per inner plane."""

_WINDOW = 7
LARGEST_INVERSE_TAU = 100.0


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, planes_in: int, planes: int, stride: int, downsample: Downsample) -> None:
        super().__init__()
        out = planes * EXPANSION
        inside = stride if downsample == "convolution" else 1
        self.conv1 = nn.Conv2d(planes_in, planes, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=inside, padding=1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = BatchNorm2d(out)
        self.pool = nn.AvgPool2d(stride) if stride > inside else nn.Identity()
        self.downsample: nn.Sequential | None = None
        if stride > 1 or planes_in != out:
            shortcut = nn.Conv2d(planes_in, out, 1, stride=inside, bias=False)
            self.downsample = nn.Sequential(OrderedDict([("0", shortcut), ("1", BatchNorm2d(out))]))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4 planes, H / stride, W / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.pool(functional.relu(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(self.pool(x))
        return functional.relu(out + shortcut)


class ResNet(nn.Module):
    """Images (N, C, H, W) to embeddings (N, dim)."""

    def __init__(self, config: TowerSettings, channels: int) -> None:
        super().__init__()
        width, downsample = config.planes, config.downsample
        self.pooling: Pooling = config.pooling
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(width)
        planes_in = width
        for stage, blocks in enumerate(config.blocks):
            planes = width * 2**stage
            layer = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Bottleneck(planes_in, planes, stride, downsample))
                planes_in = planes * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.stages = len(config.blocks)
        self.fc = nn.Linear(planes_in, config.dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled last map, (N, 32 ``planes``) for four stages."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        if self.pooling == "windows":
            x = functional.avg_pool2d(x, (min(_WINDOW, x.shape[2]), min(_WINDOW, x.shape[3])), stride=1)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings, not of unit length."""
        return cast("Tensor", self.fc(self.features(x)))


class Perceptron(nn.Module):
    """Fingerprints (N, bits) to (N, dim): layers of dense, batch normalisation and ReLU, then one dense."""

    def __init__(self, config: TowerSettings) -> None:
        super().__init__()
        widths = [config.bits, *[config.hidden] * config.hidden_layers]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), BatchNorm1d(after), nn.ReLU())
            for before, after in pairwise(widths)
        )
        self.layers.append(nn.Sequential(nn.Linear(widths[-1], config.dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings, not of unit length."""
        for layer in self.layers:
            x = layer(x)
        return x


class Towers(nn.Module):
    """Both towers and the inverse temperature of the objective, stored as its logarithm."""

    def __init__(self, config: TowerSettings, channels: int, seed: int) -> None:
        super().__init__()
        with seeded(seed, "weights", 0):
            self.visual = ResNet(config, channels)
            self.transformer = Perceptron(config)
        self.logit_inv_tau = nn.Parameter(torch.tensor(math.log(config.inverse_tau)))

    def forward(self, images: Tensor, fingerprints: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of images and molecules, (N, dim) each, of unit length."""
        return (
            functional.normalize(self.visual(images).float(), dim=1),
            functional.normalize(self.transformer(fingerprints).float(), dim=1),
        )

    def clamp(self) -> None:
        """Keep the inverse temperature between 1 and 100."""
        with torch.no_grad():
            self.logit_inv_tau.clamp_(0.0, math.log(LARGEST_INVERSE_TAU))
