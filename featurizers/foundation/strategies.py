"""How the channels of a microscope meet the input planes that a network was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from featurizers.base import FeaturizerError

if TYPE_CHECKING:
    from torch import Tensor

    from featurizers.foundation.config import Strategy


def network_planes(strategy: Strategy, planes: int, channels: int) -> int:
    """Return how many planes the network is built for: the images' own, or those of its weights."""
    return channels if strategy in ("native", "adapt-patch-embed") else planes


def out_width(strategy: Strategy, dim: int, channels: int) -> int:
    """Return the columns of an embedding of width ``dim``."""
    return dim * channels if strategy == "per-channel-concat" else dim


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Return input weights (D, k, h, w) for C planes: repeated to at least C, cut to C, scaled by k / C.

    With one channel the k planes are summed. A constant image of any C then gives what it gave before.

    Source: timm's ``adapt_input_conv``, for any k.
    """
    planes = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // planes), 1, 1)[:, :channels]
    return repeated * (planes / channels)


def chosen_channels(names: Sequence[str], rgb: Sequence[str], planes: int) -> list[int]:
    """Return the places of the channels of a composite.

    Raises
    ------
    FeaturizerError
        When there are too few channels, or a named one does not exist.
    """
    wanted = list(rgb) or list(names[:planes])
    unknown = [name for name in wanted if name not in names]
    if unknown or len(wanted) != planes:
        msg = (
            f"rgb-composite needs {planes} of the channels {', '.join(names)} and has "
            f"{', '.join(wanted) or 'none'}; set rgb to {planes} of them"
        )
        raise FeaturizerError(msg)
    return [list(names).index(name) for name in wanted]


def embed(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    strategy: Strategy,
    *,
    planes: int,
    normalise: Callable[[Tensor], Tensor],
    composite: Sequence[int] = (),
) -> Tensor:
    """Return embeddings (N, D) or, concatenated, (N, C D) of images (N, C, S, S) in [0, 1].

    Parameters
    ----------
    network
        (M, k, S, S) to (M, D).
    normalise
        Applied to what the network gets, (M, k, S, S).
    composite
        Places of the channels of ``"rgb-composite"``.
    """
    if strategy in ("native", "adapt-patch-embed"):
        return network(normalise(images))
    if strategy == "rgb-composite":
        return network(normalise(images[:, list(composite)]))
    n, channels = images.shape[:2]
    alone = images.reshape(n * channels, 1, *images.shape[2:]).expand(-1, planes, -1, -1)
    rows = network(normalise(alone)).reshape(n, channels, -1)
    return rows.flatten(1) if strategy == "per-channel-concat" else rows.mean(dim=1)


def normaliser(mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Return (x - mean) / std by plane; where the planes are other than the means, all get their average."""

    def apply(images: Tensor) -> Tensor:
        if not mean:
            return images
        centre, spread = torch.tensor(mean), torch.tensor(std)
        if len(mean) != images.shape[1]:
            centre, spread = centre.mean(), spread.mean()
        shape = (1, -1, 1, 1)
        return (images - centre.reshape(shape).to(images)) / spread.reshape(shape).to(images)

    return apply
