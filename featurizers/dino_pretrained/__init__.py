"""Vision transformers pretrained by DINO, DINOv2 or DINOv3, through timm, with weights from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from featurizers.base import Card, FeaturizerError
from featurizers.foundation import FoundationConfig, FoundationModel

if TYPE_CHECKING:
    from torch import nn

NAME = "dino-pretrained"
_FAMILIES = (".dino", "_dinov2.", "_dinov3", ".dinov3")


@dataclass(frozen=True)
class DinoPretrainedConfig(FoundationConfig):
    """Which network, and the settings of every foundation model.

    Parameters
    ----------
    model
        timm's name, of the families DINO (``vit_small_patch16_224.dino``), DINOv2
        (``vit_base_patch14_dinov2.lvd142m``) and DINOv3 (``vit_small_patch16_dinov3.lvd1689m``).
    pooling
        ``"token"``, the class token (the authors' choice), or ``"avg"``, the mean over patch tokens.
    """

    model: str = "vit_small_patch16_224.dino"
    pooling: Literal["token", "avg"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(family in self.model for family in _FAMILIES):
            msg = (
                f"{NAME}: model {self.model!r} is none of DINO, DINOv2 or DINOv3; for example "
                "vit_small_patch16_224.dino, vit_base_patch14_dinov2.lvd142m, "
                "vit_base_patch16_dinov3.lvd1689m"
            )
            raise FeaturizerError(msg)


_SMALL = DinoPretrainedConfig()


class DinoPretrained(FoundationModel):
    """The frozen network as it was trained on photographs; nothing is learnt from the data set."""

    card = Card(
        name=NAME,
        version="1",
        title="Vision transformer pretrained by DINO, DINOv2 or DINOv3",
        citation=(
            "Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers, ICCV (DINO); "
            "Oquab et al. 2024, DINOv2, TMLR; Siméoni et al. 2025, DINOv3"
        ),
        licence="weights: Apache-2.0 (DINO, DINOv2), DINOv3 License (DINOv3); this code: BSD-3-Clause",
        channel_rule="three planes; strategy says how other channels meet them",
        input_size="single-cell crops resized to 224 px",
        trained_on="photographs (ImageNet, LVD-142M or LVD-1689M), not on this data set",
        needs=("pixels", "objects"),
    )
    Config = DinoPretrainedConfig
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "default": _SMALL,
            "vit-b8": replace(_SMALL, model="vit_base_patch8_224.dino"),
            "dinov2-b14": replace(_SMALL, model="vit_base_patch14_dinov2.lvd142m"),
            "dinov3-b16": replace(_SMALL, model="vit_base_patch16_dinov3.lvd1689m"),
        }
    )
    prefixes = ("module.", "backbone.")
    ignored = ("head.",)

    config: DinoPretrainedConfig

    def network(self, planes: int) -> nn.Module:
        """Return timm's architecture without a classifier, for any input size."""
        from featurizers.vision import prepare_timm

        prepare_timm()
        import timm

        options: dict[str, Any] = {"num_classes": 0, "in_chans": planes}
        if self.config.model.startswith("vit"):
            options |= {"dynamic_img_size": True, "global_pool": self.config.pooling}
        try:
            made: nn.Module = timm.create_model(self.config.model, pretrained=False, **options)
        except RuntimeError as error:
            msg = f"{NAME}: timm cannot make {self.config.model!r}: {error}"
            raise FeaturizerError(msg) from error
        return made

    def width(self) -> int:
        """Return the network's width, from an instance without memory."""
        import torch

        if not self._width:
            with torch.device("meta"):
                made: Any = self.network(3)
            self._width = int(made.num_features)
            self.mean, self.std = (tuple(made.pretrained_cfg[key]) for key in ("mean", "std"))
        return self._width

    _width = 0

    def label(self) -> str:
        """Return the model's name with the first digits of the weights' digest."""
        return f"{NAME}[{self.config.model}, {self.checked_digest()[:8]}]"

    def found_weights(self) -> Path | None:
        """Return the file that the hub's client has in its cache; it is not asked to download one."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(f"timm/{self.config.model}", "model.safetensors")
        return Path(found) if isinstance(found, str) else None

    def missing_weights(self) -> str:
        """Return the sentence about weights that were not given."""
        return (
            f"{NAME} needs the weights of {self.config.model}, and they are neither named nor in the hub's "
            f"cache: --set {NAME}.weights=FILE takes a file, or on a machine with a network "
            f"`hf download timm/{self.config.model} model.safetensors` fills the cache; nothing is "
            "downloaded here"
        )
