"""Small synthetic fields for tests and for the conformance suite: cells with nuclei, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurizers.base import Channel, Field, Need
from featurizers.oracle import DEMO

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAINTING: tuple[Channel, ...] = (
    Channel("DNA", "Hoechst", "nucleus"),
    Channel("ER", "concanavalin A"),
    Channel("RNA", "SYTO 14"),
    Channel("AGP", "phalloidin, WGA"),
    Channel("Mito", "MitoTracker"),
)
"""The five channels of Cell Painting."""


class FieldList(list[Field]):
    """A list of fields that is a :class:`~featurizers.base.FieldSource`."""

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__(fields)
        self.channels: tuple[Channel, ...] = fields[0].channels


def synthetic_fields(
    channels: Sequence[Channel] = PAINTING,
    cells: Sequence[int] = (4, 0, 6, 3),
    *,
    size: tuple[int, int] = (96, 128),
    bit_depth: int = 16,
    seed: int = 0,
) -> FieldList:
    """Return one field per entry of ``cells``, holding that many cells.

    Cells are discs of radius 10 to 14 pixels with a nucleus of half that radius, placed on a grid so that
    they do not touch; channels differ in brightness. Every second field is another well, and wells
    alternate between the compounds ``A`` and ``B``. The latent states are random and unrelated.

    Parameters
    ----------
    size
        Height and width in pixels, at least 32 each.
    bit_depth
        8, 12 or 16 for integer images; 32 for float32 in [0, 1].
    """
    height, width = size
    fields = []
    for number, count in enumerate(cells):
        rng = np.random.default_rng([seed, number])
        masks, centres, ids = _draw(rng, count, height, width)
        image = _paint(rng, masks, len(channels))
        well = number // 2
        fields.append(
            Field(
                metadata={
                    "Metadata_Plate": "P1",
                    "Metadata_Well": f"{chr(ord('A') + well % 8)}{1 + well // 8:02d}",
                    "Metadata_Site": 1 + number % 2,
                    "Metadata_Compound": "AB"[well % 2],
                    **{state: float(rng.normal()) for state in DEMO},
                },
                channels=tuple(channels),
                pixels=_quantised(image, bit_depth),
                masks=masks,
                centres=centres,
                ids=ids,
                bit_depth=bit_depth,
            )
        )
    return FieldList(fields)


def restricted(field: Field, needs: Sequence[Need]) -> Field:
    """Return the field with only what a card's ``needs`` entitles a featurizer to."""
    metadata = {k: v for k, v in field.metadata.items() if "latent" in needs or not k.startswith("Latent_")}
    with_pixels = field if "pixels" in needs else replace(field, pixels=None)
    if "objects" in needs:
        return replace(with_pixels, metadata=metadata)
    return replace(
        with_pixels,
        metadata=metadata,
        masks={},
        centres=np.zeros((0, 2), np.float32),
        ids=np.zeros(0, np.int32),
    )


def _draw(
    rng: np.random.Generator, count: int, height: int, width: int
) -> tuple[dict[str, NDArray[np.int32]], NDArray[np.float32], NDArray[np.int32]]:
    """Return label images, centres and ids of ``count`` cells."""
    step = 32
    places = [(r, c) for r in range(step // 2, height, step) for c in range(step // 2, width, step)]
    chosen = sorted(rng.permutation(len(places))[:count])
    nuclei, cells = np.zeros((2, height, width), np.int32)
    rows, cols = np.mgrid[:height, :width]
    centres = []
    for label, place in enumerate(chosen, start=1):
        centre = np.array(places[place]) + rng.uniform(-1, 1, 2)
        radius = rng.uniform(10, 14)
        distance = np.hypot(rows - centre[0], cols - centre[1])
        cells[distance <= radius] = label
        nuclei[distance <= radius / 2] = label
        centres.append(centre)
    ids = np.arange(1, len(chosen) + 1, dtype=np.int32)
    return {"nuclei": nuclei, "cells": cells}, np.array(centres, np.float32).reshape(-1, 2), ids


def _paint(rng: np.random.Generator, masks: dict[str, NDArray[np.int32]], planes: int) -> NDArray[np.float64]:
    """Return (planes, H, W) in [0, 1]: background, cell body and nucleus with noise, per channel."""
    inside = [masks["cells"] > 0, masks["nuclei"] > 0]
    image = np.empty((planes, *masks["cells"].shape))
    for plane in range(planes):
        body, nucleus = rng.uniform(0.1, 0.5, 2)
        image[plane] = 0.05 + body * inside[0] + nucleus * inside[1]
        image[plane] *= rng.uniform(0.7, 1.3, image[plane].shape)
    return np.clip(image, 0, 1)


def _quantised(image: NDArray[np.float64], bit_depth: int) -> NDArray[Any]:
    if bit_depth == 32:
        return image.astype(np.float32)
    levels: NDArray[Any] = np.round(image * (2**bit_depth - 1)).astype(
        np.uint8 if bit_depth <= 8 else np.uint16
    )
    return levels
