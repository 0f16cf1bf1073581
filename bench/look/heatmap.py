"""A plate as a heat map of one value per well."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.look.layout import plate_format, position, row_name

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "#e8e8ea"
INK = "#26282c"
_MOST_NAMES = 20
"""A text column with more different values than this is coloured without a legend of them."""

_SHORT = 18
"""Letters of a label that fit above the scale."""


def heatmap(values: pd.Series, path: Path, *, title: str, label: str, controls: Collection[str] = ()) -> None:
    """Draw a plate and save it.

    Parameters
    ----------
    values
        Numbers or text by well; wells that are not there, and NaN, stay grey.
    path
        The PNG.
    title, label
        Above the plate, and beside its scale.
    controls
        Wells that get a dot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    rows, columns = plate_format(values.index)
    names, numbers = numbers_of(values)
    grid = np.full((rows, columns), np.nan)
    for well, number in zip(values.index, numbers, strict=True):
        grid[position(str(well))] = number
    cell = min(0.42, 11.0 / columns)
    figure = Figure(figsize=(columns * cell + 2.6, rows * cell + 1.15), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (0.55 / figure.get_figwidth(), 0.2 / figure.get_figheight(),
         columns * cell / figure.get_figwidth(), rows * cell / figure.get_figheight())
    )  # fmt: skip
    axes.set_facecolor(ABSENT)
    low, high = limits_of(grid, names)
    image = axes.imshow(
        np.ma.masked_invalid(grid),
        cmap=colour_map(names),
        vmin=low,
        vmax=high,
        aspect="equal",
        interpolation="nearest",
    )
    _frame(axes, rows, columns)
    for well in controls:
        row, column = position(well)
        axes.plot(
            column, row, "o", markersize=cell * 11, color="white", markeredgecolor=INK, markeredgewidth=0.8
        )
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=24)
    scale = figure.add_axes(
        ((0.55 + columns * cell + 0.2) / figure.get_figwidth(), 0.2 / figure.get_figheight(),
         0.16 / figure.get_figwidth(), rows * cell / figure.get_figheight())
    )  # fmt: skip
    colour_scale(figure, image, scale, names, label)
    if controls:
        above = axes.transAxes + ScaledTranslation(0, 0.35, figure.dpi_scale_trans)
        axes.text(1.0, 1.0, "○ negative control", transform=above, ha="right", fontsize=8, color=INK)
    figure.savefig(path, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)


def colour_scale(figure: Any, image: Any, axes: Any, names: list[str] | None, label: str) -> None:
    """Draw the scale of ``image`` into ``axes``: numbers, or one colour per text of ``names``."""
    bar = figure.colorbar(image, cax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8, color=INK, labelcolor=INK, length=2)
    if names is not None and len(names) <= _MOST_NAMES:
        bar.set_ticks(range(len(names)), labels=[n or "(empty)" for n in names])
    elif names is not None:
        bar.set_ticks([])
        label = f"{label}, {len(names)} values"
    if len(label) <= _SHORT:
        bar.ax.set_title(label, loc="left", fontsize=9, color=INK, pad=8)
    else:  # beside the scale, so that it does not widen the picture
        bar.set_label(label, fontsize=9, color=INK, rotation=270, labelpad=14)


def numbers_of(values: pd.Series) -> tuple[list[str] | None, Any]:
    """Return the different texts (None for numbers), and a number per well."""
    if values.dtype.kind in "buif":
        return None, values.to_numpy(float)
    texts = ["" if v is None or v != v else str(v) for v in values]
    names = sorted(set(texts))
    return names, np.array([names.index(t) for t in texts], float)


def colour_map(names: list[str] | None) -> Any:
    """Return the colour map; values that are masked stay transparent, so the plate's grey shows."""
    import matplotlib as mpl

    if names is None:
        return mpl.colormaps["viridis"]
    return mpl.colormaps["tab20" if len(names) <= _MOST_NAMES else "turbo"].resampled(max(len(names), 1))


def limits_of(grid: Any, names: list[str] | None) -> tuple[float, float]:
    """Return the ends of the colour scale: texts by number, numbers over their range, a constant halfway."""
    if names is not None:
        return -0.5, len(names) - 0.5
    known = grid[np.isfinite(grid)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _frame(axes: Any, rows: int, columns: int) -> None:
    axes.set_xticks(range(columns), [str(c + 1) for c in range(columns)])
    axes.set_yticks(range(rows), [row_name(r) for r in range(rows)])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8 if columns <= 24 else 5, labelcolor=INK, pad=3)
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2 if columns <= 24 else 0.5)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
