"""Settings of the triplet network as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.crops import Background, Border, MaskName
from featurizers.training.settings import Compile, Precision, check

PoolingPoint = Literal["tile-embeddings", "backbone-features"]
Fallback = Literal["farthest", "skip"]
Augment = Literal["none", "dihedral"]
TestTimeAugmentation = Literal["none", "four"]
TileScaling = Literal["tile", "field"]
FirstConvolution = Literal["random", "adapted"]

NAME = "resnet18-triplet"


@dataclass(frozen=True)
class TripletConfig:
    """Everything that changes what the network is, how it is trained and how it is read out.

    Parameters
    ----------
    crop, scale, mask, background, border
        Tiles around object centres, see :func:`featurizers.crops.cut`; ``crop`` is the edge in pixels. The
        paper crops 128 px around nuclei and leaves what surrounds them. What it does with tiles that leave
        the image is not stated: ``border="drop"`` is our reading, ``"pad"`` the other.
    scaling
        ``"tile"``: (x - mean) / (std + 1e-8) per tile and channel, as the released code has it; ``"field"``:
        likewise over the whole field, which keeps intensity between cells.
    pooling_point
        ``"tile-embeddings"`` (paper): the mean of the 128 numbers of each tile. ``"backbone-features"``
        (released code): the mean of the 512 backbone features, then the dense layers; they differ because of
        the ReLU between the dense layers.
    hidden, dim
        Widths of the two dense layers.
    start_weights, first_convolution
        File with the weights of a ResNet18 (torchvision's or timm's names, e.g. those of ImageNet, which the
        released code starts from) that the backbone starts at; empty: at random. Where the images have
        another number of channels than the file's first convolution, ``"random"`` (released code) leaves that
        convolution at random and ``"adapted"`` repeats its planes and scales them, as timm does.
    class_columns
        Columns of the training table that together make a class; the paper's are perturbation and
        stimulation.
    micro_batch
        Wells per forward pass; 0 for the whole batch at once, as the paper has it. The loss and its gradient
        stay those of the whole batch (gradient caching, Gao et al. 2021), but batch normalisation then takes
        its statistics over each pass: with less memory it is another training, and so in the key.
    classes, wells, tiles
        A batch: so many classes drawn without replacement, so many wells of each, so many tiles of each well.
        A class with fewer wells gives all it has (our reading); a well with fewer tiles than the bag gives
        them with replacement, as the released code does.
    margin
        α of the triplet loss.
    fallback
        What a pair without a semi-hard negative does, which the paper does not say: ``"farthest"`` (our
        reading) takes the negative with the largest distance, ``"skip"`` leaves the pair out.
    augment
        ``"dihedral"`` turns and mirrors training tiles; the paper names no augmentation.
    steps
        Optimiser steps. The paper does not state them: our reading in every preset.
    lr, weight_decay
        AdamW.
    clip
        Largest gradient norm, 0 for none.
    average
        Decay a of a moving average of the weights, w̄ <- a w̄ + (1 - a) w after every step, which is then what
        the training leaves; batch normalisation's running statistics stay those of the last step. 0: none.
    precision
        Arithmetic of the forward pass in training; embedding is always float32.
    compile
        ``"default"`` compiles the forward pass in training with ``torch.compile`` (needs a C++ compiler).
    inference_tiles, inference_seeds
        Tiles drawn per field and number of draws that are averaged; 0 tiles takes every tile once. The paper
        draws 512 per well of 16 fields three times; a field is embedded without knowing the others, so a
        field's part is 32.
    tta
        ``"four"`` averages the rows of the tile, its two mirror images and its transpose (released code).
    weights
        Folder of weights that ``save`` wrote after a training with these settings (a store keeps such folders
        under ``weights``); nothing is then trained. Empty: it is trained on this data set.
    """

    crop: int = 128
    scale: float = 1.0
    mask: MaskName = "none"
    background: Background = "keep"
    border: Border = "drop"
    scaling: TileScaling = "tile"

    pooling_point: PoolingPoint = "tile-embeddings"
    hidden: int = 1024
    dim: int = 128
    start_weights: str = ""
    first_convolution: FirstConvolution = "random"

    class_columns: tuple[str, ...] = ("perturbation",)
    classes: int = 12
    wells: int = 20
    tiles: int = 12
    micro_batch: int = 0
    margin: float = 0.2
    fallback: Fallback = "farthest"
    augment: Augment = "none"

    steps: int = 10_000
    lr: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 0.0
    average: float = 0.0
    precision: Precision = "float32"
    compile: Compile = "none"

    inference_tiles: int = 32
    inference_seeds: int = 3
    tta: TestTimeAugmentation = "none"
    weights: str = ""

    def __post_init__(self) -> None:
        check(
            NAME,
            self,
            positive=("crop", "hidden", "dim", "tiles", "steps", "inference_seeds"),
            not_negative=("margin", "weight_decay", "clip", "inference_tiles", "micro_batch"),
            below_one=("average",),
            rates=("lr",),
            factors=("scale",),
        )
        for name in ("classes", "wells"):
            if getattr(self, name) < 2:
                msg = f"{NAME}: {name} is {getattr(self, name)}; a triplet needs at least 2"
                raise FeaturizerError(msg)
        if self.crop < 32:
            msg = f"{NAME}: crop is {self.crop}; ResNet18 divides by 32, so it must be 32 or more"
            raise FeaturizerError(msg)
        if not self.class_columns:
            msg = f"{NAME}: class_columns is empty; name at least one column, e.g. perturbation"
            raise FeaturizerError(msg)

    @property
    def batch(self) -> int:
        """Tiles of a full batch."""
        return self.classes * self.wells * self.tiles


_TINY = TripletConfig(
    crop=32,
    border="pad",
    classes=8,
    wells=4,
    tiles=3,
    steps=60,
    lr=3e-4,
    inference_tiles=0,
    inference_seeds=1,
)

PRESETS: Mapping[str, TripletConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "small": replace(
            _TINY, crop=64, wells=8, tiles=8, steps=3_000, lr=1e-4, precision="bfloat16", inference_seeds=1
        ),
        "paper": TripletConfig(precision="bfloat16"),
        "default": _TINY,
    }
)
