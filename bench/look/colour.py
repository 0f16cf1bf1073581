"""From channels to colours: common contrast, one colour per channel, outlines of masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.base import Channel

NUCLEUS = (0.25, 0.45, 1.0)
PALETTE = ((0.2, 0.9, 0.35), (1.0, 0.75, 0.15), (1.0, 0.3, 0.25), (0.9, 0.3, 0.9), (0.2, 0.85, 0.9))
LOW, HIGH = 1.0, 99.8
"""Percentiles that become black and full colour."""


def is_colour(channels: Sequence[Channel]) -> bool:
    """Whether the channels are the bands of a colour image: R, G, B or red, green, blue."""
    return [c.name.lower()[:1] for c in channels] == list("rgb") and len(
        {len(c.name) > 1 for c in channels}
    ) == 1


def colours(channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Return (C, 3) in [0, 1]: blue for the nucleus, then the palette; a colour image keeps its own."""
    if is_colour(channels):
        return np.eye(3, dtype=np.float32)
    others = iter(PALETTE * (len(channels) // len(PALETTE) + 1))
    chosen = [NUCLEUS if c.role == "nucleus" else next(others) for c in channels]
    return np.array([(1.0, 1.0, 1.0)] if len(channels) == 1 else chosen, np.float32)


def contrast(fields: Iterable[NDArray[Any]], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Return (C, 2) grey levels that become black and full colour, over all of (C, h, w) fields.

    One scale for all, so that what is bright in the picture is bright on the plate; the bands of a colour
    image share theirs too, so that its colours stay.
    """
    together = np.concatenate([f.reshape(len(f), -1)[:, ::7] for f in fields], axis=1)
    low, high = np.percentile(together, (LOW, HIGH), axis=1)
    if is_colour(channels):
        low[:], high[:] = low.min(), high.max()
    return np.stack([low, np.maximum(high, low + 1e-6)], axis=1).astype(np.float32)


def scaled(pixels: NDArray[Any], limits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (C, h, w) in [0, 1]."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    return np.asarray(np.clip((pixels - low) / (high - low), 0.0, 1.0), np.float32)


def composite(unit: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (h, w, 3): the channels' colours screened over each other, 1 - Π (1 - x·colour)."""
    dark = np.ones((*unit.shape[1:], 3), np.float32)
    for plane, colour in zip(unit, by, strict=True):
        dark *= 1.0 - plane[..., None] * colour
    return np.round(255 * (1.0 - dark)).astype(np.uint8)


def grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (h, w, 3) of one channel."""
    return np.repeat(np.round(255 * plane).astype(np.uint8)[..., None], 3, axis=2)


def shrink(pixels: NDArray[Any], edge: int) -> NDArray[np.float32]:
    """Return (C, h, w) with max(h, w) about ``edge``: means over square blocks; a small field stays."""
    block = max(1, round(max(pixels.shape[1:]) / edge))
    height, width = (n // block * block for n in pixels.shape[1:])
    cut = pixels[:, :height, :width].astype(np.float32)
    blocks = cut.reshape(len(cut), height // block, block, width // block, block)
    return np.asarray(blocks.mean(axis=(2, 4)))


def outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return (H, W) where an object ends: pixels of an object with a neighbour of another label."""
    rim = np.zeros(labels.shape, np.bool_)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[here] != labels[there]
        rim[here] |= differ & (labels[here] > 0)
        rim[there] |= differ & (labels[there] > 0)
    return rim
