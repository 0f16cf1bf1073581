"""Small fields with round cells whose texture carries a planted signal."""

from __future__ import annotations

import numpy as np

from featurizers.base import Channel, Field

CHANNELS = (Channel("DNA", role="nucleus"), Channel("ER"))
EDGE = 72


def make_field(seed: int, *, cells: int = 4, period: float = 6.0) -> Field:
    """Two channels, ``cells`` discs of radius 9 with stripes of the given period (in the second channel)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:EDGE, :EDGE]
    labels = np.zeros((EDGE, EDGE), np.int32)
    centres = []
    for k in range(cells):
        centre = np.array([18 + 36 * (k // 2), 18 + 36 * (k % 2)]) + rng.integers(-5, 6, 2)
        labels[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 81] = k + 1
        centres.append(centre)
    stripes = 600 + 400 * np.sin(2 * np.pi * (rows + rng.uniform(0, period)) / period)
    pixels = np.stack([np.full((EDGE, EDGE), 800.0), stripes]) * (labels > 0) + 100
    pixels += rng.normal(0, 20, pixels.shape)
    return Field(
        metadata={"Metadata_Plate": "P1", "Metadata_Well": f"A{seed:02d}", "Metadata_Site": "1"},
        channels=CHANNELS,
        pixels=pixels.clip(0, 65535).astype(np.uint16),
        masks={"cells": labels, "nuclei": labels},
        centres=np.array(centres, np.float32).reshape(-1, 2),
        ids=np.arange(1, cells + 1, dtype=np.int32),
    )


class Source:
    """Fields held in memory, counting how often they are read."""

    def __init__(self, fields: list[Field], channels: tuple[Channel, ...] = CHANNELS) -> None:
        self.fields, self.channels, self.read = fields, channels, 0

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self):
        self.read += 1
        return iter(self.fields)
