"""Settings of the Image2Omics head as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.resnet18_triplet.config import PRESETS as TRIPLET
from featurizers.resnet18_triplet.config import (
    FirstConvolution,
    PoolingPoint,
    TestTimeAugmentation,
    TripletConfig,
)
from featurizers.training.settings import check

Backbone = Literal["triplet", "file", "untrained"]
Head = Literal["linear", "relu-linear"]
Triplet = Literal["tiny", "small", "paper"]

NAME = "image2omics"


@dataclass(frozen=True)
class Image2OmicsConfig:
    """Everything that changes what the model is, how it is trained and how it is read out.

    Parameters
    ----------
    backbone
        ``"triplet"`` (paper): ``resnet18-triplet``, trained by perturbation on the fold's training units, and
        then frozen. ``"file"``: the ResNet18 in ``weights``, frozen as it is (ImageNet's, which the released
        code starts from); it has no dense layers, so a tile is its 512 features. ``"untrained"``: random
        weights.
    weights, first_convolution
        A file of ResNet18 weights for ``"file"`` (or where ``"triplet"`` starts), and what becomes of its
        first convolution where the images have another number of channels; see
        :class:`~featurizers.resnet18_triplet.TripletConfig`.
    triplet, triplet_steps, class_columns
        Preset of ``resnet18-triplet`` that says how tiles are cut and scaled and how the backbone is trained;
        its steps where they are not 0; its classes.
    pooling_point
        ``"tile-embeddings"`` (paper): a bag is the mean of its tiles' 128 numbers. ``"backbone-features"``
        (released code): the mean of 512 features, then the dense layers.
    head
        ``"linear"`` (paper) on the bag, or ``"relu-linear"`` (released code). The code's dropout is left out:
        its rate is not in the release.
    bag_units, bag_tiles
        A batch: so many units (the paper's wells), so many tiles of each, with replacement only where a unit
        has fewer.
    steps, lr, weight_decay
        AdamW on the squared error of standardised readouts. The paper does not state the steps: our reading.
    inference_tiles, inference_seeds
        Tiles drawn per unit and number of draws that are averaged; 0 tiles takes every tile once.
    tta
        ``"four"`` predicts from the tiles, their two mirror images and their transposes, and averages the
        four predictions (released code); training sees the tiles alone.
    """

    backbone: Backbone = "triplet"
    weights: str = ""
    first_convolution: FirstConvolution = "random"
    triplet: Triplet = "paper"
    triplet_steps: int = 0
    class_columns: tuple[str, ...] = ("perturbation",)
    pooling_point: PoolingPoint = "tile-embeddings"
    head: Head = "linear"

    bag_units: int = 64
    bag_tiles: int = 64
    steps: int = 10_000
    lr: float = 5e-5
    weight_decay: float = 0.01

    inference_tiles: int = 512
    inference_seeds: int = 3
    tta: TestTimeAugmentation = "none"

    def __post_init__(self) -> None:
        check(
            NAME,
            self,
            positive=("bag_units", "bag_tiles", "steps", "inference_seeds"),
            not_negative=("triplet_steps", "weight_decay", "inference_tiles"),
            rates=("lr",),
        )
        if self.backbone == "file" and not self.weights:
            msg = (
                f"{NAME}: backbone=file needs the weights of a ResNet18; name a file with --set "
                f"{NAME}.weights=FILE, or choose backbone=triplet, which is trained here"
            )
            raise FeaturizerError(msg)

        if self.backbone == "untrained" and self.weights:
            msg = (
                f"{NAME}: backbone=untrained has random weights, and weights names a file; set "
                "backbone=file or leave weights empty"
            )
            raise FeaturizerError(msg)

    @property
    def tiles(self) -> TripletConfig:
        """Settings of the backbone and its tiles."""
        preset = TRIPLET[self.triplet]
        return replace(
            preset,
            steps=self.triplet_steps or preset.steps,
            class_columns=self.class_columns,
            pooling_point="backbone-features" if self.backbone == "file" else self.pooling_point,
            first_convolution=self.first_convolution,
            tta=self.tta,
        )


_PAPER = Image2OmicsConfig()
_TINY = replace(
    _PAPER,
    triplet="tiny",
    triplet_steps=20,
    bag_tiles=16,
    steps=200,
    lr=3e-3,
    inference_tiles=0,
    inference_seeds=1,
)

PRESETS: Mapping[str, Image2OmicsConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "small": replace(_TINY, triplet="small", triplet_steps=0, bag_tiles=64, steps=2_000, lr=5e-4),
        "paper": _PAPER,
        "released-code": replace(_PAPER, pooling_point="backbone-features", head="relu-linear", tta="four"),
        "default": _TINY,
    }
)


def preset_name(config: Image2OmicsConfig) -> str:
    """Return the name of the preset that ``config`` equals, or ``"custom"``."""
    return next((n for n, preset in PRESETS.items() if n != "default" and preset == config), "custom")
