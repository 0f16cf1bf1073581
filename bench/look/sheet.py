"""Contact sheets: a plate with one tile per well, a well with its sites, channels and masks."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError
from bench.look import colour
from bench.look.layout import position, row_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from featurizers.base import Field

PAPER, INK, FAINT = (18, 19, 22), (232, 233, 236), (120, 123, 130)
EMPTY = (25, 26, 30)
GAP, MARGIN, TILE = 4, 40, 112
RIMS: Mapping[str, tuple[int, int, int]] = {
    "nuclei": (255, 255, 255),
    "cells": (255, 214, 90),
    "objects": (255, 214, 90),
    "cytoplasm": (160, 255, 160),
}


def thumbnail(field: Field) -> Field:
    """Return the field shrunk to a tile of a plate's sheet, so that a plate of them fits into memory."""
    return dataclasses.replace(field, pixels=colour.shrink(_pixels(field), TILE))


def plate_sheet(fields: Mapping[str, Field | None], path: Path, *, title: str) -> None:
    """Draw one tile per well at its place on the plate, all with one contrast, and save it.

    Parameters
    ----------
    fields
        One :func:`thumbnail` by well; None for a well whose field cannot be read.
    path
        The PNG.
    title
        Above the plate.

    Raises
    ------
    DatasetError
        When no field can be read.
    """
    tiles = {
        well: field.pixels for well, field in fields.items() if field is not None and field.pixels is not None
    }
    if not tiles:
        raise DatasetError(f"{title}: no field can be read; bench dataset check says why")
    channels = next(f.channels for f in fields.values() if f is not None)
    limits = colour.contrast(tiles.values(), channels)
    places = {well: position(well) for well in fields}
    top, left = (min(p[axis] for p in places.values()) for axis in (0, 1))
    rows, columns = (max(p[axis] for p in places.values()) + 1 - o for axis, o in ((0, top), (1, left)))
    height, width = (max(t.shape[axis] for t in tiles.values()) for axis in (1, 2))
    sheet, draw = _paper(columns * (width + GAP) + MARGIN, rows * (height + GAP) + MARGIN + 34)
    by = colour.colours(channels)
    _title(draw, title, [(c.name, rgb) for c, rgb in zip(channels, by, strict=True)])
    for row, column in itertools.product(range(rows), range(columns)):
        x, y = MARGIN + column * (width + GAP), MARGIN + 30 + row * (height + GAP)
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=EMPTY)
    for well, (row, column) in places.items():
        x, y = MARGIN + (column - left) * (width + GAP), MARGIN + 30 + (row - top) * (height + GAP)
        if well in tiles:
            sheet.paste(_image(colour.composite(colour.scaled(tiles[well], limits), by)), (x, y))
        else:
            draw.text((x + width / 2, y + height / 2), "unreadable", fill=FAINT, font=_font(11), anchor="mm")
    for column in range(columns):
        x = MARGIN + column * (width + GAP) + width / 2
        draw.text((x, MARGIN + 18), str(column + left + 1), fill=FAINT, font=_font(14), anchor="mm")
    for row in range(rows):
        y = MARGIN + 30 + row * (height + GAP) + height / 2
        draw.text((MARGIN / 2, y), row_name(row + top), fill=FAINT, font=_font(14), anchor="mm")
    sheet.save(path)


def well_sheet(fields: Sequence[Field], path: Path, *, title: str, edge: int = 360) -> None:
    """Draw one row per site: all channels in colour, masks on them, then each channel alone; save it.

    Parameters
    ----------
    fields
        The well's fields with pixels and masks.
    path
        The PNG.
    title
        Above the sheet.
    edge
        Longer side of a tile, pixels. Small fields are enlarged by whole factors, large ones shrunk.

    Raises
    ------
    DatasetError
        When there is no field.
    """
    if not fields:
        raise DatasetError(f"{title}: no field can be read; bench dataset check says why")
    channels = fields[0].channels
    limits = colour.contrast([_pixels(f) for f in fields], channels)
    by = colour.colours(channels)
    rows = [_tiles(field, limits, by, edge) for field in fields]
    height, width = (max(t.shape[axis] for row in rows for t in row) for axis in (0, 1))
    heads = ["all channels", "masks", *(c.name for c in channels)]
    sheet, draw = _paper(len(heads) * (width + GAP) + MARGIN, len(rows) * (height + GAP) + MARGIN + 34)
    legend = [(name, np.array(RIMS[name]) / 255) for name in fields[0].masks if name in RIMS]
    _title(draw, title, legend)
    for column, name in enumerate(heads):
        x = MARGIN + column * (width + GAP) + width / 2
        draw.text((x, MARGIN + 18), name, fill=INK, font=_font(14), anchor="mm")
    for i, (field, tiles) in enumerate(zip(fields, rows, strict=True)):
        y = MARGIN + 30 + i * (height + GAP)
        site = str(field.metadata["Metadata_Site"])
        draw.text((MARGIN / 2, y + height / 2), site, fill=FAINT, font=_font(14), anchor="mm")
        for column, tile in enumerate(tiles):
            sheet.paste(_image(tile), (MARGIN + column * (width + GAP), y))
        count = f"{len(field.ids)} object{'' if len(field.ids) == 1 else 's'}"
        place, font = (MARGIN + width + GAP + 8, y + height - 8), _font(13)
        left, top, right, bottom = draw.textbbox(place, count, font=font, anchor="ls")
        draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=PAPER)  # legible on any pixels
        draw.text(place, count, fill=INK, font=font, anchor="ls")
    sheet.save(path)


def overlay(base: NDArray[np.uint8], masks: Mapping[str, NDArray[np.int32]]) -> NDArray[np.uint8]:
    """Return (H, W, 3) with the outlines of nuclei and cells (or objects) drawn on it."""
    drawn = base.copy()
    for name in ("cells", "objects", "nuclei"):
        if name in masks:
            drawn[colour.outlines(masks[name])] = RIMS[name]
    return drawn


def _tiles(field: Field, limits: NDArray[Any], by: NDArray[Any], edge: int) -> list[NDArray[np.uint8]]:
    pixels = _pixels(field)
    factor = max(1, edge // max(pixels.shape[1:]))
    unit = colour.scaled(pixels, limits)
    base = colour.composite(unit, by)
    # Outlines are drawn at the size at which they are looked at, or shrinking would break them up.
    block = max(1, round(max(pixels.shape[1:]) / edge))
    small = {name: _enlarged(mask[::block, ::block], factor) for name, mask in field.masks.items()}
    tiles = [base, *(colour.grey(plane) for plane in unit)]
    shrunk = [
        _enlarged(
            np.round(np.moveaxis(colour.shrink(np.moveaxis(t, 2, 0), edge), 0, 2)).astype(np.uint8), factor
        )
        for t in tiles
    ]
    height, width = shrunk[0].shape[:2]
    cut = {name: mask[:height, :width] for name, mask in small.items()}
    return [shrunk[0], overlay(shrunk[0], cut), *shrunk[1:]]


def _enlarged(array: NDArray[Any], factor: int) -> NDArray[Any]:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _pixels(field: Field) -> NDArray[Any]:
    assert field.pixels is not None
    return field.pixels


def _paper(width: int, height: int) -> tuple[Image, Any]:
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (max(width, 420) + 8, height + 8), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _title(draw: Any, title: str, legend: Sequence[tuple[str, Any]]) -> None:
    """Write the title and, after it, each name of the legend in its colour."""
    draw.text((MARGIN, 12), title, fill=INK, font=_font(18))
    x = MARGIN + draw.textlength(title, font=_font(18)) + 24
    for name, rgb in legend:
        draw.text((x, 15), name, fill=tuple(round(255 * float(v)) for v in rgb), font=_font(15))
        x += draw.textlength(name, font=_font(15)) + 14


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _image(pixels: NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)
