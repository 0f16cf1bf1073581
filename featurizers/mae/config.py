"""Settings of the masked autoencoder as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.crops import Background, Border, MaskName
from featurizers.training.settings import Compile, Precision, Standardise, Warmup, check

Augment = Literal["none", "dihedral"]
Blocks = Literal["pre-norm", "parallel-scaling"]
FourierNorm = Literal["backward", "ortho", "forward"]
LossOn = Literal["masked-tokens", "all-tokens"]
Pooling = Literal["avg", "cls"]
ChannelTokens = Literal["joint", "agnostic"]

PAPER_CROPS = 100_000 * 2_048  # steps x batch of the poster's training


@dataclass(frozen=True)
class MaeConfig:
    """Everything that changes what a masked autoencoder is and how it is trained and read out.

    Parameters
    ----------
    crop, scale, mask, background, border
        Single-cell crops, see :func:`featurizers.crops.cut`; ``crop`` is the edge in pixels.
    standardise
        Pixel scaling, all to mean 0 and standard deviation 1 per channel. ``"dataset"``: over the object
        pixels of all training crops, stored with the weights; keeps intensity between wells. ``"field"``:
        over each whole field before masking; keeps intensity between the cells of a field.
        ``"crop-inside-mask"``: over each crop's own object; erases intensity. Background is zeroed
        afterwards, never before.
    augment
        ``"dihedral"`` turns and mirrors each training crop by a random element of the square's symmetries.
    channel_tokens
        ``"joint"``: a token is a patch of all channels. ``"agnostic"``: it is a patch of one channel; one
        projection serves all, positions repeat, one mask covers all C L tokens, and the decoder has a learned
        token, cross-attention to all tokens and blocks of its own per channel (CA-MAE, Kraus et al. 2024).
    patch, dim, depth, heads, mlp_ratio, qk_norm, blocks, layer_scale
        Encoder: patch edge P, width D, transformer blocks (timm's ``Block`` or ``ParallelScalingBlock``),
        attention heads, initial LayerScale (0 for none).
    decoder_dim, decoder_depth, decoder_heads
        Decoder; one layer by default, as in the poster. He et al. and Kraus et al. have 8 layers of width 512
        with 16 heads.
    mask_ratio
        Share r of patches hidden in training; int(L (1 - r)) stay visible.
    fourier_weight, fourier_norm, loss_on, foreground_weight
        Objective, see :func:`featurizers.mae.loss.objective`. ``foreground_weight`` is our reading of the
        poster's third, single-cell term, which it names without a formula; 0 leaves it out.
    steps, batch, micro_batch
        Optimiser steps, crops per step, crops per forward pass (0: the whole batch at once).
    batch_fields
        0: the crops of a batch are drawn whatever their field. F > 0: a batch is F fields of batch / F crops
        each, as in the poster (8 cells per field); a field with fewer crops gives them more than once.
    crops_per_field
        Crops of a field that training may use, drawn once per field; 0 for all. Embedding uses all.
    lr, weight_decay, beta1, beta2
        Lion.
    warmup, warmup_share, clip
        One-cycle schedule, see :func:`featurizers.mae.schedule.one_cycle`; largest gradient norm (0: no
        clipping).
    average
        Decay a of a moving average of the weights, w̄ <- a w̄ + (1 - a) w after every step, which is then what
        the training leaves. 0: none.
    precision
        Arithmetic of the forward pass in training; embedding is always float32.
    compile
        ``"default"`` compiles the forward pass in training with ``torch.compile`` (needs a C++ compiler).
    block, pooling
        What is read: the tokens after this block (-1 the last), passed through the encoder's final
        LayerNorm, as mean over patch tokens (``"avg"``) or the class token (``"cls"``).
    weights
        Folder of weights that ``save`` wrote after a training with these settings (a store keeps such folders
        under ``weights``); nothing is then trained. Empty: it is trained on this data set.
    """

    crop: int = 32
    scale: float = 1.0
    mask: MaskName = "outermost"
    background: Background = "zero"
    border: Border = "pad"
    standardise: Standardise = "dataset"
    augment: Augment = "dihedral"

    channel_tokens: ChannelTokens = "joint"
    patch: int = 4
    dim: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    blocks: Blocks = "pre-norm"
    layer_scale: float = 0.0

    decoder_dim: int = 64
    decoder_depth: int = 1
    decoder_heads: int = 4

    mask_ratio: float = 0.9
    fourier_weight: float = 0.01
    fourier_norm: FourierNorm = "backward"
    loss_on: LossOn = "masked-tokens"
    foreground_weight: float = 0.0

    steps: int = 400
    batch: int = 128
    micro_batch: int = 0
    batch_fields: int = 0
    crops_per_field: int = 0
    lr: float = 1e-4
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.95
    warmup: Warmup = "cosine"
    warmup_share: float = 0.1
    clip: float = 1.0
    average: float = 0.0
    precision: Precision = "float32"
    compile: Compile = "none"

    block: int = -1
    pooling: Pooling = "avg"
    weights: str = ""

    def __post_init__(self) -> None:
        sizes = ("crop", "patch", "dim", "depth", "heads", "decoder_dim", "decoder_depth", "decoder_heads")
        batches = ("micro_batch", "batch_fields", "crops_per_field")
        check(
            "mae",
            self,
            positive=(*sizes, "steps", "batch"),
            not_negative=(*batches, "clip", "layer_scale", "weight_decay"),
            below_one=("beta1", "beta2", "warmup_share", "average"),
            at_most_one=("fourier_weight", "foreground_weight"),
            rates=("lr",),
            factors=("scale", "mlp_ratio"),
        )
        for whole, part in (("crop", "patch"), ("dim", "heads"), ("decoder_dim", "decoder_heads")):
            if getattr(self, whole) % getattr(self, part):
                msg = (
                    f"mae: {whole}={getattr(self, whole)} is no multiple of {part}={getattr(self, part)}; "
                    "change one of them"
                )
                raise FeaturizerError(msg)
        for name in ("dim", "decoder_dim"):
            if getattr(self, name) % 4:
                msg = (
                    f"mae: {name}={getattr(self, name)} must be a multiple of 4 (sine and cosine of two axes)"
                )
                raise FeaturizerError(msg)
        if not 0 < self.mask_ratio < 1 or self.visible < 1:
            msg = (
                f"mae: mask_ratio={self.mask_ratio} keeps {self.visible} of {self.tokens} patches; "
                "it must lie between 0 and 1 and keep at least one"
            )
            raise FeaturizerError(msg)
        if self.batch_fields and self.batch % self.batch_fields:
            msg = f"mae: batch={self.batch} is no multiple of batch_fields={self.batch_fields}; change one"
            raise FeaturizerError(msg)
        if not -self.depth <= self.block < self.depth:
            msg = f"mae: block={self.block}, but the encoder has blocks 0 to {self.depth - 1} (-1: the last)"
            raise FeaturizerError(msg)

    @property
    def tokens(self) -> int:
        """Number of patches L of a crop."""
        return (self.crop // self.patch) ** 2

    @property
    def visible(self) -> int:
        """Number of patches that the encoder sees in training, int(L (1 - r))."""
        return visible_tokens(self.tokens, self.mask_ratio)

    @property
    def share_of_paper(self) -> float:
        """Crops seen in training as a share of the poster's 100,000 steps of 2,048 crops."""
        return self.steps * self.batch / PAPER_CROPS


def visible_tokens(tokens: int, ratio: float) -> int:
    """Return int(L (1 - r)) in floating point, as published: 784 tokens at r = 0.9 keep 78."""
    return int(tokens * (1 - ratio))


_TINY = MaeConfig()

PRESETS: Mapping[str, MaeConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "small": replace(
            _TINY,
            crop=96,
            patch=8,
            dim=384,
            depth=12,
            heads=6,
            decoder_dim=256,
            decoder_heads=8,
            steps=20_000,
            batch=512,
            micro_batch=256,
            precision="bfloat16",
        ),
        "poster": replace(
            _TINY,
            crop=224,
            patch=8,
            dim=768,
            depth=12,
            heads=12,
            decoder_dim=512,
            decoder_heads=16,
            steps=100_000,
            batch=2_048,
            micro_batch=128,
            batch_fields=256,
            crops_per_field=8,
            lr=1e-4,
            precision="bfloat16",
        ),
        "default": _TINY,
    }
)
