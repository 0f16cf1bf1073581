"""The views of a cell that student and teacher must agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from featurizers.training.pixels import Statistics, dihedral, prepare

if TYPE_CHECKING:
    from featurizers.dino.config import DinoConfig

_ASPECT = math.log(4 / 3)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What is random in one view of N crops.

    Parameters
    ----------
    window
        (N, 4): share of the crop's area, logarithm of the aspect ratio, and row and column of the window
        among the places where it fits, each in [0, 1].
    element
        (N,) int64, the symmetry of the square that the view is turned by.
    brightness, contrast
        (N, C) factors.
    kept
        (N, C) bool, channels that are not blank.
    """

    window: Tensor
    element: Tensor
    brightness: Tensor
    contrast: Tensor
    kept: Tensor

    @classmethod
    def of(
        cls, config: DinoConfig, count: int, channels: int, generator: torch.Generator, *, small: bool
    ) -> Draws:
        """Draw one view of ``count`` crops."""
        low, high = (
            (config.local_low, config.local_high) if small else (config.global_low, config.global_high)
        )
        uniform = torch.rand(count, 4, generator=generator)
        window = uniform.clone()
        window[:, 0] = low + (high - low) * uniform[:, 0]
        window[:, 1] = _ASPECT * (2 * uniform[:, 1] - 1)
        element = torch.randint(8, (count,), generator=generator)
        factors = 1 + config.jitter * torch.randn(2, count, channels, generator=generator)
        brightness, contrast = factors.clamp(min=0.5)
        chance = torch.rand(count, channels, generator=generator)
        kept = chance >= config.channel_drop
        kept |= chance == chance.max(dim=1, keepdim=True).values  # at least one stays
        return cls(window, element, brightness, contrast, kept)

    def part(self, rows: slice, device: torch.device) -> Draws:
        """Return the draws of some of the crops, on a device."""
        names = ("window", "element", "brightness", "contrast", "kept")
        return Draws(*(getattr(self, name)[rows].to(device) for name in names))


def view(
    pixels: Tensor,
    inside: Tensor,
    draws: Draws,
    config: DinoConfig,
    statistics: Statistics | None,
    *,
    edge: int,
) -> Tensor:
    """Return one view (N, C, edge, edge) of each crop.

    Grey levels x of the object become b x, then m + f (b x - m) with m their mean over the object; then they
    are standardised as for embedding, blank channels and background are set to 0, and the window is
    resampled (bilinear) and turned.

    Parameters
    ----------
    pixels, inside
        (N, C, S, S) grey levels and (N, S, S) object masks.
    """
    own = inside[:, None]
    bright = pixels * draws.brightness[:, :, None, None]
    count = own.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (bright * own).sum(dim=(2, 3), keepdim=True) / count
    changed = mean + (bright - mean) * draws.contrast[:, :, None, None]
    images = prepare(changed, inside, config, statistics) * draws.kept[:, :, None, None]
    return dihedral(cut_window(images, draws.window, edge), draws.element)


def cut_window(images: Tensor, window: Tensor, edge: int) -> Tensor:
    """Resample one window of each image to (N, C, edge, edge).

    A window of area share A and aspect ratio r is min(1, √(A r)) wide and min(1, √(A / r)) high, in units of
    the image; it lies wholly inside.
    """
    area, ratio = window[:, 0], window[:, 1].exp()
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # grid_sample's image runs from -1 to 1; a window of width w has its centre between -(1 - w) and 1 - w
    right, down = (2 * window[:, 3] - 1) * (1 - wide), (2 * window[:, 2] - 1) * (1 - high)
    none = torch.zeros_like(wide)
    rows = torch.stack([torch.stack([wide, none, right], 1), torch.stack([none, high, down], 1)], 1)
    shape = [len(images), images.shape[1], edge, edge]
    grid = functional.affine_grid(rows, shape, align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
