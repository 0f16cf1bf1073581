"""Student and teacher: a vision transformer with a projection head each."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.training.paths import take_over
from featurizers.training.schedules import seeded
from featurizers.vision import prepare_timm

prepare_timm()
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurizers.dino.config import DinoConfig


class Backbone(nn.Module):
    """timm's ViT with C input channels, for any view whose edge is a multiple of the patch."""

    def __init__(self, config: DinoConfig, channels: int, drop_path: float) -> None:
        super().__init__()
        self.vit = VisionTransformer(
            img_size=config.crop,
            patch_size=config.patch,
            in_chans=channels,
            num_classes=0,
            embed_dim=config.dim,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            drop_path_rate=drop_path,
            dynamic_img_size=True,
        )
        self._paths = take_over(self.vit)

    @property
    def branches(self) -> int:
        """How many residual branches are dropped at random in training; 0 with ``drop_path`` 0."""
        return len(self._paths)

    def forward(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return tokens (N, 1 + L, D) after the last LayerNorm, class token first.

        Parameters
        ----------
        draws
            (branches, N) of :func:`featurizers.training.paths.draws`; needed in training where there are
            branches.
        """
        for k, path in enumerate(self._paths):
            path.draw = None if draws is None else draws[k]
        return cast("Tensor", self.vit.forward_features(images))


class Prototypes(nn.Module):
    """Cosines with K directions: a weight-normed linear map whose lengths are fixed at 1."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(width, count, bias=False).weight.detach().clone())

    def forward(self, rows: Tensor) -> Tensor:
        """Return (N, K) of rows (N, width)."""
        return functional.linear(rows, functional.normalize(self.weight, dim=1))


class Head(nn.Module):
    """Three dense layers with GELU, unit length, prototypes."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        widths = (config.dim, config.head_hidden, config.head_hidden, config.head_bottleneck)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            linear = nn.Linear(before, after)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last = Prototypes(config.head_bottleneck, config.prototypes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return (N, K) of class tokens (N, D)."""
        return cast("Tensor", self.last(functional.normalize(self.mlp(rows), dim=-1)))


class Tower(nn.Module):
    """A backbone with a head."""

    def __init__(self, config: DinoConfig, channels: int, drop_path: float) -> None:
        super().__init__()
        self.backbone = Backbone(config, channels, drop_path)
        self.head = Head(config)

    def forward(self, views: Sequence[Tensor], draws: Tensor | None = None) -> Tensor:
        """Return (V, N, K) of views of one or several sizes, each (V_i, N, C, S_i, S_i).

        Parameters
        ----------
        draws
            (branches, V, N), as the backbone takes them.
        """
        sizes = [len(v) for v in views]
        parts: Sequence[Tensor | None] = [None] * len(views)
        if draws is not None:
            parts = [d.flatten(1) for d in torch.split(draws, sizes, dim=1)]
        tokens = [
            self.backbone(v.flatten(0, 1), d)[:, 0].reshape(*v.shape[:2], -1)
            for v, d in zip(views, parts, strict=True)
        ]
        return cast("Tensor", self.head(torch.cat(tokens)))


class SelfDistillation(nn.Module):
    """Everything that changes while training: student, teacher and centre.

    The teacher starts as the student's copy and never has a gradient.
    """

    centre: Tensor

    def __init__(self, config: DinoConfig, channels: int, seed: int) -> None:
        super().__init__()
        with seeded(seed, "weights", 0):
            self.student = Tower(config, channels, config.drop_path)
            self.teacher = Tower(config, channels, 0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)  # noqa: FBT003
        self.register_buffer("centre", torch.zeros(config.prototypes))

    def groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the student's parameters with and without weight decay (biases, norms)."""
        named = list(self.student.named_parameters())
        free = [p for name, p in named if p.ndim == 1 or name.endswith(".bias")]
        return [p for _, p in named if all(p is not q for q in free)], free

    @torch.no_grad()
    def move_teacher(self, momentum: float) -> None:
        """θ_t <- m θ_t + (1 - m) θ_s."""
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)
