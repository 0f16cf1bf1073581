"""A section of spatial data: its image, the spots on it, and one value per spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.tables import PLATE, WELL, region_of
from bench.errors import DatasetError
from bench.look import colour
from bench.look.heatmap import INK, colour_map, colour_scale, limits_of, numbers_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets import Dataset

EDGE = 1400
"""Longer side of the section in the picture, pixels."""


def is_section(dataset: Dataset, plate: str) -> bool:
    """Whether the units of a plate are parts of larger images (``Region``), so have no place on a plate."""
    images = dataset.images
    if images is None or "Region" not in images.columns:
        return False
    return bool((images.loc[images[PLATE] == plate, "Region"] != "").any())


def section(
    dataset: Dataset, plate: str, path: Path, *, title: str, values: pd.Series | None, label: str
) -> None:
    """Draw a section's image with its spots and save it.

    Parameters
    ----------
    dataset, plate
        Whose section.
    path
        The PNG.
    title, label
        Above the section, and beside its scale.
    values
        Numbers or text by spot, which colour the squares; None draws their outlines alone.

    Raises
    ------
    DatasetError
        When the spots lie on several images, or the image cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    background, block, (left, top), squares = _placed(dataset, plate)
    height, width = background.shape[:2]
    figure = Figure(figsize=(width / 160 + 2.2, height / 160 + 0.8), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    wide, high = figure.get_figwidth(), figure.get_figheight()
    axes = figure.add_axes((0.2 / wide, 0.2 / high, width / 160 / wide, height / 160 / high))
    axes.imshow(background, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    patches = [
        Rectangle(((x - left) / block - 0.5, (y - top) / block - 0.5), w / block, h / block)
        for x, y, w, h in squares.values()
    ]
    if values is None:
        axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=INK, linewidth=0.7))
    else:
        names, numbers = numbers_of(values.reindex(list(squares)))
        drawn = PatchCollection(patches, cmap=colour_map(names), edgecolor="none", alpha=0.85)
        drawn.set_array(np.ma.masked_invalid(numbers))
        drawn.set_clim(*limits_of(numbers, names))
        axes.add_collection(drawn)
        place = ((0.35 + width / 160) / wide, 0.2 / high, 0.16 / wide, height / 160 / high)
        colour_scale(figure, drawn, figure.add_axes(place), names, label)
    figure.savefig(path, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)


def _placed(
    dataset: Dataset, plate: str
) -> tuple[NDArray[np.uint8], int, tuple[int, int], dict[str, tuple[int, int, int, int]]]:
    """Return the part of the image with spots, shrunk; the factor; the part's corner; each spot's square."""
    from bench.imaging.stored import read_region

    assert dataset.images is not None
    rows = dataset.images[dataset.images[PLATE] == plate]
    squares = {
        str(well): bounds
        for well, text in zip(rows[WELL], rows["Region"], strict=True)
        if (bounds := region_of(text)) is not None
    }
    corners = np.array(list(squares.values()))
    margin = 2 * int(corners[:, 2:].max())
    left, top = (max(0, int(edge) - margin) for edge in corners[:, :2].min(axis=0))
    right, bottom = (int(edge) + margin for edge in (corners[:, :2] + corners[:, 2:]).max(axis=0))
    planes: list[NDArray[Any]] = []
    for channel in dataset.channels:
        own = rows[rows["Channel"] == channel.name][["URI", "Plane"]].drop_duplicates()
        if len(own) != 1:
            raise DatasetError(
                f"the spots of {plate} lie on {len(own)} images of channel {channel.name}; a section has one"
            )
        whole = read_region(str(own["URI"].iloc[0]), int(own["Plane"].iloc[0]), "")
        planes.append(whole[top:bottom, left:right].copy())
    cut = np.stack(planes)
    block = max(1, round(max(cut.shape[1:]) / EDGE))
    small = colour.shrink(cut, EDGE)
    unit = colour.scaled(small, colour.contrast([small], dataset.channels))
    drawn = colour.composite(unit, colour.colours(dataset.channels))
    return drawn, block, (left, top), squares
