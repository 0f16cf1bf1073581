"""A featurizer around a network whose weights are in a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurizers.base import Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.crops import Crops, checked_pixels, cut
from featurizers.foundation.config import FoundationConfig
from featurizers.foundation.weights import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

_PERCENTILES = (0.1, 99.9)


class FoundationModel(Featurizer):
    """Rows per cell from a pretrained network.

    A subclass gives a ``card`` with citation and licence of the weights, :meth:`network` and :meth:`width`,
    and may set what stands below. Weights are loaded strictly: the first tensor that differs is named.

    Attributes
    ----------
    planes
        Input planes that the weights were trained with; 0: as many as the images have channels.
    input_weight
        Name of the first layer's weights, (D, k, h, w), which ``"adapt-patch-embed"`` changes.
    prefixes, ignored
        How names in the file differ from the network's, see :func:`featurizers.foundation.weights.read`.
    mean, std
        Of the images that the weights were trained with, in [0, 1].
    """

    Config = FoundationConfig
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({"default": FoundationConfig()})
    level = "cell"
    planes: ClassVar[int] = 3
    input_weight: ClassVar[str] = "patch_embed.proj.weight"
    prefixes: ClassVar[tuple[str, ...]] = ("module.",)
    ignored: ClassVar[tuple[str, ...]] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    config: FoundationConfig

    def __init__(self, config: FoundationConfig | None = None) -> None:
        super().__init__(config)
        self._path = Path(self.config.weights) if self.config.weights else self.found_weights()
        if self._path is not None:
            content = f"sha256:{digest(self._path)}"
            self.config = replace(self.config)  # a copy of its own, whose weights are named by content
            object.__setattr__(self.config, "weights", content)
        self._networks: dict[int, nn.Module] = {}

    @abstractmethod
    def network(self, planes: int) -> nn.Module:
        """Return the architecture, with any weights: (N, planes, S, S) to (N, width)."""

    @abstractmethod
    def width(self) -> int:
        """Return the length D of the network's embedding of one input."""

    def found_weights(self) -> Path | None:
        """Return a file of weights that is already on this machine, where none was named."""
        return None

    def missing_weights(self) -> str:
        """Return the sentence about weights that were not given."""
        name = self.card.name
        return f"{name} needs a file of weights: --set {name}.weights=FILE; nothing is downloaded"

    def label(self) -> str:
        """Return the name with the first digits of the weights' digest.

        The harness asks for it before any work, so weights that are missing or wrong are refused here.
        """
        return f"{self.card.name}[{self.checked_digest()[:8]}]"

    def checked_digest(self) -> str:
        """Return the digest of the weights after loading them once."""
        from featurizers.foundation import weights

        if self.planes:
            self._made(self.planes)
        else:
            weights.read(self._file(), prefixes=self.prefixes, ignored=self.ignored)
        return self.config.weights.removeprefix("sha256:")

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``NAME_000``, ...; ``NAME_CHANNEL_000`` where the strategy embeds each channel alone."""
        stem = self.card.name.replace("-", "_")
        if self.config.strategy == "per-channel-concat":
            return tuple(f"{stem}_{c.name}_{k:03d}" for c in channels for k in range(self.width()))
        self._composite(channels)
        return tuple(f"{stem}_{k:03d}" for k in range(self.width()))

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.foundation import strategies
        from featurizers.passes import embed_cells

        config = self.config
        named = {tuple(channel.name for channel in field.channels) for field in fields}
        if len(named) > 1:
            msg = f"{self.card.name}: fields with different channels were given together; embed them apart"
            raise FeaturizerError(msg)
        channels = fields[0].channels if fields else ()
        planes = self.planes or len(channels)
        width = strategies.out_width(config.strategy, self.width(), len(channels))
        if not fields:
            return Embedding(np.zeros((0, width), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int32))
        network: Any = self._loaded(len(channels))
        composite = self._composite(channels)
        normalise = strategies.normaliser(config.mean or self.mean, config.std or self.std)

        def forward(pixels: Tensor, inside: Tensor) -> Tensor:
            del inside  # crops are masked, if at all, when they are cut
            images = self._resized(pixels)
            return strategies.embed(
                network, images, config.strategy, planes=planes, normalise=normalise, composite=composite
            )

        return embed_cells(
            fields,
            self._cut,
            forward,
            channels=len(channels),
            edge=config.crop,
            width=width,
            device=next(network.parameters()).device,
        )

    def _cut(self, field: Field) -> Crops:
        """Cut a field's crops out of its pixels in [0, 1]."""
        config = self.config
        pixels = checked_pixels(field).astype(np.float64)
        if config.grey == "percentile":
            low, high = np.percentile(pixels, _PERCENTILES, axis=(1, 2), keepdims=True)
            pixels = np.clip((pixels - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        elif np.issubdtype(checked_pixels(field).dtype, np.integer):
            pixels /= 2.0**field.bit_depth - 1.0
        scaled = replace(field, pixels=pixels.astype(np.float32))
        return cut(
            scaled,
            config.crop,
            scale=config.scale,
            mask=config.mask,
            background=config.background,
            border=config.border,
        )

    def _resized(self, images: Tensor) -> Tensor:
        if self.config.input_size == self.config.crop:
            return images
        from torch.nn.functional import interpolate

        edge = (self.config.input_size, self.config.input_size)
        return interpolate(images, edge, mode="bilinear", align_corners=False, antialias=True)

    def _composite(self, channels: Sequence[Channel]) -> list[int]:
        """Return the places of a composite's channels; refuse channels that the strategy cannot take."""
        from featurizers.foundation.strategies import chosen_channels

        names = [channel.name for channel in channels]
        if self.config.strategy == "native" and self.planes not in (0, len(names)):
            msg = (
                f"{self.card.name} takes {self.planes} channels and the images have {len(names)} "
                f"({', '.join(names)}); choose another strategy"
            )
            raise FeaturizerError(msg)
        if self.config.strategy != "rgb-composite":
            return []
        return chosen_channels(names, self.config.rgb, self.planes or len(names))

    def _loaded(self, channels: int) -> nn.Module:
        """Return the network for images of so many channels, with its weights, on the device."""
        if channels not in self._networks:
            self._networks[channels] = self._made(channels)
        return self._networks[channels].to(self.device)

    def _made(self, channels: int) -> nn.Module:
        from featurizers.foundation import strategies, weights
        from featurizers.training.schedules import seeded

        path, config = self._file(), self.config
        tensors = weights.read(path, prefixes=self.prefixes, ignored=self.ignored)
        planes = self.planes or channels
        if config.strategy == "adapt-patch-embed":
            own = tensors.get(self.input_weight)
            if own is None or own.ndim != 4 or own.shape[1] != planes:
                shape = "is missing" if own is None else f"is {tuple(own.shape)}"
                msg = (
                    f"{path}: {self.input_weight!r} {shape}; adapt-patch-embed changes input weights of "
                    f"{planes} planes. Choose another strategy, or weights of another architecture"
                )
                raise FeaturizerError(msg)
            tensors[self.input_weight] = strategies.adapted(own, channels)
        with seeded(0, "weights", 0):  # every weight is replaced; the global state stays where it is
            network = self.network(strategies.network_planes(config.strategy, planes, channels))
        weights.load(network, tensors, path)
        return network.eval().requires_grad_(False)  # noqa: FBT003

    def _file(self) -> Path:
        if self._path is None:
            raise FeaturizerError(self.missing_weights())
        return self._path
