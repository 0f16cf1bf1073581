"""The published checkpoint of CLOOME, with the preprocessing it is used with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.cloome.config import PRETRAINED, TowerSettings
from featurizers.cloome.featurizer import CITATION

if TYPE_CHECKING:
    from torch import Tensor

    from featurizers.cloome.model import Towers

LEVELS = (47.1314, 40.8138, 53.7692, 46.2656, 28.7243)
"""Mean grey level per channel in the checkpoint's order. The released code divides by the same numbers: it
passes them for mean and deviation both."""


@dataclass(frozen=True)
class CloomePretrainedConfig(TowerSettings):
    """Which weights, and how a field becomes the network's input.

    Parameters
    ----------
    weights
        The published ``cloome-bioactivity.pt``, or any file of its tensors (safetensors too). In the
        featurizer's own config it is replaced by ``sha256:`` and the digest of its content.
    stains
        The data set's names of the five channels in the checkpoint's order: Mito, ERSyto, ERSytoBleed,
        Ph_golgi and Hoechst as Bray et al. 2017 call them.
    grey
        ``"eight-bit-255"``: as the public wrapper prepares images; ``"eight-bit-256"``: as those that the
        checkpoint was trained on were prepared (the two differ).
    """

    weights: str = ""
    stains: tuple[str, ...] = ("Mito", "ER", "RNA", "AGP", "DNA")
    grey: Literal["eight-bit-255", "eight-bit-256"] = "eight-bit-255"

    def __post_init__(self) -> None:
        self.check(PRETRAINED)
        if len(self.stains) != len(LEVELS) or len(set(self.stains)) != len(LEVELS):
            msg = f"{PRETRAINED}: stains is {', '.join(self.stains)}; name five different channels"
            raise FeaturizerError(msg)
        if self.weights.startswith("sha256:"):
            msg = f"weights={self.weights} is a digest; name the file that holds them"
            raise FeaturizerError(msg)


_WRAPPER = CloomePretrainedConfig()


class CloomePretrained(Featurizer):
    """The image tower as it was published; nothing is learnt from the data set."""

    card = Card(
        name=PRETRAINED,
        version="1",
        title="Contrastive learning of images and molecules, published weights",
        citation=CITATION,
        licence="weights: see their model card (anasanchezf/cloome); this code: BSD-3-Clause",
        channel_rule="the five stains of Cell Painting, in the checkpoint's order by name (stains)",
        input_size="the middle 520 x 696 px of a field; rescale brings other pixel sizes to its own",
        trained_on="treated wells of Bray et al. 2017 and the structures of their compounds",
        needs=("pixels",),
    )
    Config = CloomePretrainedConfig
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "default": _WRAPPER,
            "wrapper": _WRAPPER,
            "training-preprocessing": replace(_WRAPPER, grey="eight-bit-256"),
        }
    )

    config: CloomePretrainedConfig

    def __init__(self, config: CloomePretrainedConfig | None = None) -> None:
        super().__init__(config)
        self._towers: Towers | None = None
        self._path: Path | None = None
        if self.config.weights:
            from featurizers.foundation.weights import digest

            self._path = Path(self.config.weights)
            content = f"sha256:{digest(self._path)}"
            self.config = replace(self.config, weights="")  # a copy of its own, named by content
            object.__setattr__(self.config, "weights", content)

    def label(self) -> str:
        """Return the name with the first digits of the weights' digest.

        The harness asks for it before any work, so weights that are missing or wrong are refused here.
        """
        self._loaded()
        return f"{PRETRAINED}[{self.config.weights.removeprefix('sha256:')[:8]}]"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``cloome_pretrained_000``, ...: one per number that is read of the image tower."""
        self._places(channels)
        return tuple(f"cloome_pretrained_{k:03d}" for k in range(self.config.columns))

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field, in the order given."""
        from featurizers.cloome.embedding import embed_fields

        towers = self._loaded()
        orders = {tuple(self._places(field.channels)) for field in fields} or {(0,) * len(LEVELS)}
        if len(orders) > 1:
            msg = f"{PRETRAINED}: fields with different channels were given together; embed them apart"
            raise FeaturizerError(msg)
        return embed_fields(
            towers.visual.to(self.device), self.config, self.config.grey, _published, fields, orders.pop()
        )

    def network(self, planes: int = len(LEVELS)) -> Towers:
        """Return the architecture, with any weights."""
        from featurizers.cloome.model import Towers

        return Towers(self.config, planes, 0)

    def _places(self, channels: Sequence[Channel]) -> list[int]:
        """Return where the checkpoint's channels are among these."""
        names = [channel.name for channel in channels]
        missing = [name for name in self.config.stains if name not in names]
        if missing:
            msg = (
                f"{PRETRAINED} reads the channels {', '.join(self.config.stains)} and the images have "
                f"{', '.join(names)}; name them, in this order, with --set {PRETRAINED}.stains=..."
            )
            raise FeaturizerError(msg)
        return [names.index(name) for name in self.config.stains]

    def _loaded(self) -> Towers:
        """Return the towers with the file's weights, loaded strictly."""
        if self._towers is None:
            from featurizers.cloome.train import channels_last
            from featurizers.foundation import weights

            if self._path is None:
                msg = (
                    f"{PRETRAINED} needs the published weights: --set {PRETRAINED}.weights=FILE takes "
                    "cloome-bioactivity.pt of anasanchezf/cloome; nothing is downloaded"
                )
                raise FeaturizerError(msg)
            towers = self.network()
            weights.load(towers, weights.read(self._path), self._path)
            self._towers = channels_last(towers.eval().requires_grad_(False))  # noqa: FBT003
        return self._towers


def _published(windows: Tensor) -> Tensor:
    """Return (x − m) / m per channel."""
    import torch

    level = torch.tensor(LEVELS, dtype=torch.float32, device=windows.device)[None, :, None, None]
    return (windows - level) / level
