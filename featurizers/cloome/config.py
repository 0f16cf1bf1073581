"""Settings of contrastive learning of images and molecules as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.training.settings import Compile, Precision, check

Downsample = Literal["average", "convolution"]
Pooling = Literal["windows", "global"]
Readout = Literal["unit", "projection", "pooled"]
Grey = Literal["eight-bit-256", "eight-bit-255", "raw"]
Scaling = Literal["dataset", "field"]
View = Literal["random", "centre"]
Augment = Literal["none", "dihedral"]
Objective = Literal["cloob", "clip"]
Batches = Literal["images", "molecules"]
Learnable = Literal["no", "yes"]

NAME = "cloome"
PRETRAINED = "cloome-pretrained"


@dataclass(frozen=True)
class TowerSettings:
    """The two networks, and what is read of the image tower; the defaults are the published checkpoint's.

    Parameters
    ----------
    window_height, window_width
        Window of the field that the network sees, in pixels after ``rescale``; its middle when embedding. A
        smaller field is padded with grey level 0.
    rescale
        Pixels of the window per pixel of the field; below 1 a larger part of the field is seen. The images of
        the paper are 520 × 696, which the default window shows whole.
    blocks, planes
        Bottlenecks per stage and inner planes of the first stage, (3, 4, 6, 3) and 64 in ResNet-50.
    downsample
        ``"average"`` (released code): where the resolution halves, 2 × 2 means after the convolution and
        before the shortcut's. ``"convolution"``: strides in the 3 × 3 convolution and the shortcut, as a
        common ResNet-50 has them (the paper's text names no other).
    pooling
        ``"windows"`` (released code): means over windows of 7 × 7 of the last map, then over the windows.
        ``"global"``: the mean. They agree for a map of 7 × 7, which a window of 224 px gives.
    dim
        Width of both towers' embeddings.
    radius, bits
        Morgan fingerprints of the molecules, with chirality.
    hidden_layers, hidden
        Depth and width of the molecule tower.
    inverse_tau
        Where the inverse temperature 1/τ of the objective begins.
    readout
        ``"unit"`` (released wrapper): the image embedding at unit length. ``"projection"``: as it leaves the
        last dense layer. ``"pooled"``: the 32 ``planes`` numbers before that layer.
    """

    window_height: int = 520
    window_width: int = 696
    rescale: float = 1.0
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    planes: int = 64
    downsample: Downsample = "average"
    pooling: Pooling = "windows"
    dim: int = 512
    radius: int = 3
    bits: int = 1024
    hidden_layers: int = 4
    hidden: int = 1024
    inverse_tau: float = 14.3
    readout: Readout = "unit"

    @property
    def columns(self) -> int:
        """Numbers per row."""
        pooled = self.planes * 4 * 2 ** (len(self.blocks) - 1)
        return pooled if self.readout == "pooled" else self.dim

    def check(self, name: str) -> None:
        """Refuse towers that do not exist; ``name`` is the entrant, for messages."""
        check(
            name,
            self,
            positive=("window_height", "window_width", "planes", "dim", "bits", "hidden"),
            not_negative=("radius", "hidden_layers"),
            factors=("rescale",),
        )
        if not self.blocks or min(self.blocks) < 1:
            msg = f"{name}: blocks is {self.blocks}; name one or more stages of at least one block"
            raise FeaturizerError(msg)
        smallest = 4 * 2 ** (len(self.blocks) - 1)
        if min(self.window_height, self.window_width) < smallest:
            msg = (
                f"{name}: a window of {self.window_height} x {self.window_width} px is too small for "
                f"{len(self.blocks)} stages, which need {smallest}; raise window_height and window_width"
            )
            raise FeaturizerError(msg)
        if not 1 <= self.inverse_tau <= 100:
            msg = f"{name}: inverse_tau is {self.inverse_tau}; it must lie between 1 and 100"
            raise FeaturizerError(msg)


@dataclass(frozen=True)
class CloomeConfig(TowerSettings):
    """Everything that changes what the networks are, how they are trained and how they are read out.

    The paper's own hyper-parameters are not in the released code: the preset ``paper`` has the defaults of
    its command line, which is our reading.

    Parameters
    ----------
    grey
        Grey levels before scaling. ``"eight-bit-256"`` (the published preprocessing): per image and channel
        the brightest 0.0028 % of pixels saturate, x → min(255, ⌊256 x / t⌋) with t the darkest of those.
        ``"eight-bit-255"`` (the published wrapper): likewise with 0.01 % and 255. ``"raw"``: as they are.
    scaling
        ``"dataset"``: mean and deviation per channel over all training fields. ``"field"``: of each window,
        with 1e-7 added to the deviation.
    view
        What training sees of a field: a window at a ``"random"`` place (released code) or its ``"centre"``.
    augment
        ``"dihedral"`` turns and mirrors windows that are square; the released code does not.
    objective
        ``"cloob"``: InfoLOOB on what Hopfield networks retrieve; ``"clip"``: InfoNCE on the embeddings.
    beta
        Inverse temperature β of the retrieval.
    learn_inverse_tau
        Whether 1/τ is trained, between 1 and 100.
    batches
        ``"images"`` (released code): each epoch passes once over all images in a new order; two images of one
        molecule in a batch are then each other's negatives. ``"molecules"`` (our reading for screens of few
        compounds): a batch has different molecules and of each one image, drawn anew.
    steps, batch
        Optimiser steps, and pairs of image and molecule per step.
    lr, weight_decay, warmup_share, cycles
        AdamW with decay of all parameters but biases and the image tower's norms; the rate rises on a line
        over that share of the steps, then falls to 0 along so many cosines.
    clip
        Largest gradient norm, 0 for none.
    average
        Decay a of a moving average of the weights, w̄ <- a w̄ + (1 - a) w after every step, which is then what
        the training leaves; batch normalisation's running statistics stay those of the last step. 0: none.
    precision
        Arithmetic of the towers in training; objective and embedding are always float32.
    compile
        ``"default"`` compiles the towers in training with ``torch.compile`` (needs a C++ compiler).
    weights
        Folder of weights that ``save`` wrote after a training with these settings; nothing is then trained.
        Empty: it is trained on this data set.
    """

    grey: Grey = "eight-bit-256"
    scaling: Scaling = "dataset"
    view: View = "random"
    augment: Augment = "none"

    objective: Objective = "cloob"
    beta: float = 14.3
    learn_inverse_tau: Learnable = "no"

    batches: Batches = "images"
    steps: int = 120_000
    batch: int = 64
    lr: float = 5e-4
    weight_decay: float = 0.2
    warmup_share: float = 1 / 12
    cycles: int = 1
    clip: float = 0.0
    average: float = 0.0
    precision: Precision = "float32"
    compile: Compile = "none"
    weights: str = ""

    def __post_init__(self) -> None:
        self.check(NAME)
        check(
            NAME,
            self,
            positive=("steps", "beta", "cycles"),
            not_negative=("weight_decay", "clip"),
            below_one=("warmup_share", "average"),
            rates=("lr",),
        )
        if self.batch < 2:
            msg = f"{NAME}: batch is {self.batch}; a contrast needs at least 2 pairs"
            raise FeaturizerError(msg)
        if self.augment == "dihedral" and self.window_height != self.window_width:
            msg = (
                f"{NAME}: augment=dihedral turns windows, and {self.window_height} x {self.window_width} is "
                "not square; make window_height and window_width equal or set augment=none"
            )
            raise FeaturizerError(msg)

    @property
    def standardise(self) -> str:
        """The scaling, under the name that stored weights ask for."""
        return self.scaling


_TINY = CloomeConfig(
    window_height=80,
    window_width=80,
    rescale=0.5,
    blocks=(1, 1, 1, 1),
    planes=16,
    dim=64,
    hidden_layers=2,
    hidden=256,
    augment="dihedral",
    batches="molecules",
    steps=80,
    batch=48,
    lr=1e-3,
    warmup_share=0.1,
)

PRESETS: Mapping[str, CloomeConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "small": replace(
            _TINY,
            window_height=160,
            window_width=160,
            rescale=1.0,
            blocks=(3, 4, 6, 3),
            planes=32,
            dim=256,
            hidden_layers=4,
            hidden=1024,
            steps=3_000,
            batch=64,
            lr=5e-4,
            precision="bfloat16",
        ),
        "paper": CloomeConfig(precision="bfloat16"),
        "default": _TINY,
    }
)
