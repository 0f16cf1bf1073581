"""Settings of self-distillation as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

from featurizers.base import FeaturizerError
from featurizers.crops import Background, Border, MaskName
from featurizers.training.settings import ClipRule, Compile, Precision, Standardise, check

Pooling = Literal["cls", "avg"]

NAME = "dino"


@dataclass(frozen=True)
class DinoConfig:
    """Everything that changes what the network is, how it is trained and how it is read out.

    Parameters
    ----------
    crop, scale, mask, background, border, standardise
        Single-cell crops and their scaling, as in :class:`featurizers.mae.MaeConfig`.
    patch, dim, depth, heads, mlp_ratio, drop_path
        Vision transformer with a class token and learned positions, which are resampled for small views.
    head_hidden, head_bottleneck, prototypes
        Projection head: three dense layers with GELU to the bottleneck, unit length, K prototypes of unit
        length.
    global_low, global_high, local_crops, local_size, local_low, local_high
        Two global views of edge ``crop`` that show a share of the cell's window between ``global_low`` and
        ``global_high``, and ``local_crops`` views of edge ``local_size``.
    jitter, channel_drop
        Spread p of brightness and contrast factors max(N(1, p), 0.5) per channel, and probability that a
        channel of a view is blank (never all of them). Neither blur nor solarisation, as DINO4Cells has it.
    student_temperature, teacher_temperature, teacher_temperature_start, teacher_warmup_share
        τ_s; τ_t, reached on a line from its start over that share of the steps.
    momentum, centre_momentum
        The teacher is θ_t <- m θ_t + (1 - m) θ_s with m from ``momentum`` to 1 along a cosine; the centre
        keeps ``centre_momentum`` of itself.
    frozen_epochs
        Epochs for which the prototypes do not move.
    steps, batch, micro_batch
        Optimiser steps, crops per step, crops per forward pass (0: the whole batch at once).
    crops_per_field
        Crops of a field that training may use, drawn once per field; 0 for all. Embedding uses all.
    lr_per_256, min_lr, warmup_share
        AdamW's peak rate is ``lr_per_256`` batch / 256 after a linear warm-up, then a cosine to ``min_lr``.
    weight_decay, weight_decay_end
        Along a cosine; biases and norms have none.
    clip, clip_rule
        Largest gradient norm, 0 for none; the released code clips each tensor alone.
    precision
        Arithmetic of the forward pass in training; embedding is always float32.
    compile
        ``"default"`` compiles student and teacher in training with ``torch.compile`` (needs a C++ compiler).
    pooling
        What is read of the teacher's last block: the class token or the mean over patch tokens.
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

    patch: int = 8
    dim: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    drop_path: float = 0.1

    head_hidden: int = 256
    head_bottleneck: int = 64
    prototypes: int = 1024

    global_low: float = 0.4
    global_high: float = 1.0
    local_crops: int = 4
    local_size: int = 16
    local_low: float = 0.05
    local_high: float = 0.4
    jitter: float = 0.3
    channel_drop: float = 0.2

    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_temperature_start: float = 0.04
    teacher_warmup_share: float = 0.0
    momentum: float = 0.996
    centre_momentum: float = 0.9
    frozen_epochs: float = 1.0

    steps: int = 200
    batch: int = 64
    micro_batch: int = 0
    crops_per_field: int = 0
    lr_per_256: float = 2e-3
    min_lr: float = 1e-6
    warmup_share: float = 0.1
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    clip: float = 3.0
    clip_rule: ClipRule = "per-tensor"
    precision: Precision = "float32"
    compile: Compile = "none"

    pooling: Pooling = "cls"
    weights: str = ""

    entrant: ClassVar[str] = NAME  # for messages; an entrant that builds on this one has its own

    def __post_init__(self) -> None:
        sizes = ("crop", "patch", "dim", "depth", "heads", "head_hidden", "head_bottleneck", "prototypes")
        temperatures = ("student_temperature", "teacher_temperature", "teacher_temperature_start")
        check(
            self.entrant,
            self,
            positive=(*sizes, *temperatures, "local_size", "steps", "batch"),
            not_negative=(
                *("local_crops", "micro_batch", "crops_per_field", "clip", "jitter", "frozen_epochs"),
                *("weight_decay", "weight_decay_end"),
            ),
            below_one=("drop_path", "channel_drop", "momentum", "centre_momentum", "warmup_share"),
            at_most_one=("min_lr", "teacher_warmup_share"),
            rates=("lr_per_256",),
            factors=("scale", "mlp_ratio"),
        )
        for whole, part in (("crop", "patch"), ("local_size", "patch"), ("dim", "heads")):
            if getattr(self, whole) % getattr(self, part):
                msg = (
                    f"{self.entrant}: {whole}={getattr(self, whole)} is no multiple of "
                    f"{part}={getattr(self, part)}; change one of them"
                )
                raise FeaturizerError(msg)
        for low, high in (("global_low", "global_high"), ("local_low", "local_high")):
            if not 0 < getattr(self, low) <= getattr(self, high) <= 1:
                msg = (
                    f"{self.entrant}: {low} is {getattr(self, low)} and {high} {getattr(self, high)}; they "
                    f"must satisfy 0 < {low} <= {high} <= 1"
                )
                raise FeaturizerError(msg)

    @property
    def lr(self) -> float:
        """Peak learning rate."""
        return self.lr_per_256 * self.batch / 256


_TINY = DinoConfig()

PRESETS: Mapping[str, DinoConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "small": replace(
            _TINY,
            crop=96,
            dim=384,
            depth=12,
            heads=6,
            head_hidden=2048,
            head_bottleneck=256,
            prototypes=8_192,
            local_crops=8,
            local_size=48,
            steps=20_000,
            batch=256,
            lr_per_256=5e-4,
            precision="bfloat16",
        ),
        "paper": replace(
            _TINY,
            crop=224,
            patch=16,
            dim=384,
            depth=12,
            heads=6,
            head_hidden=2048,
            head_bottleneck=256,
            prototypes=65_536,
            local_crops=8,
            local_size=96,
            steps=125_000,
            batch=1_024,
            micro_batch=128,
            lr_per_256=5e-4,
            precision="bfloat16",
        ),
        "default": _TINY,
    }
)
