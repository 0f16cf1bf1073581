"""Tiles of a field, and their scaling."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurizers.crops import Crops, checked_pixels, cut
from featurizers.training.schedules import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from featurizers.base import Field
    from featurizers.resnet18_triplet.config import TripletConfig

_EPSILON = 1e-8


def cut_tiles(field: Field, config: TripletConfig) -> Crops:
    """Cut one tile per object; with ``scaling="field"`` the field is scaled first."""
    if config.scaling == "field":
        pixels = checked_pixels(field).astype(np.float64)
        spread = pixels.std(axis=(1, 2), keepdims=True)
        scaled = (pixels - pixels.mean(axis=(1, 2), keepdims=True)) / (spread + _EPSILON)
        field = replace(field, pixels=scaled.astype(np.float32))
    return cut(
        field,
        config.crop,
        scale=config.scale,
        mask=config.mask,
        background=config.background,
        border=config.border,
    )


def scale_tiles(pixels: Tensor, inside: Tensor, config: TripletConfig) -> Tensor:
    """Return (x - m) / (s + 1e-8) with mean m and population deviation s per tile and channel.

    Both are taken over pixels that exist (or the object's own, where a mask was chosen); what lies outside
    the image is 0. For a tile that lies wholly inside, this is the released code's ``NormalizePerChannel``.

    Parameters
    ----------
    pixels
        (N, C, S, S) float32.
    inside
        (N, S, S) bool.
    """
    if config.scaling == "field":
        return pixels
    own = inside[:, None]
    count = own.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (pixels * own).sum(dim=(2, 3), keepdim=True) / count
    centred = (pixels - mean) * own
    std = (centred.square().sum(dim=(2, 3), keepdim=True) / count).sqrt()
    # rounding leaves a constant channel with a tiny spread that must not be blown up
    return centred / torch.where(std <= 1e-6 * mean.abs(), torch.inf, std + _EPSILON)


def draw(available: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return ``wanted`` indices below ``available``: with replacement only where there are too few."""
    return generator.choice(available, wanted, replace=available < wanted)


def inference_draws(available: int, config: TripletConfig) -> list[NDArray[np.int64]]:
    """Return the tiles of each draw of a field; every tile once with ``inference_tiles=0``.

    The draw depends on the number of tiles alone: embedding may not know the field's name.
    """
    if not config.inference_tiles:
        return [np.arange(available)]
    seeds = [stream(k, "inference tiles", available).initial_seed() for k in range(config.inference_seeds)]
    return [draw(available, config.inference_tiles, np.random.default_rng(seed)) for seed in seeds]


def four_ways(images: Tensor) -> list[Tensor]:
    """Return the tile, its vertical and horizontal mirror images and its transpose (released code)."""
    return [images, images.flip(2), images.flip(3), images.transpose(2, 3)]
