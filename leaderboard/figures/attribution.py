"""Attribution maps beside the crops they explain, as small pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.figures.base import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIDE = 72
"""Pixels of a drawn picture."""
CAP = 0.995
"""Quantile of |map| over a crop's pixels and channels that is drawn at full brightness."""
RAMP = np.array([[0, 0, 0], [213, 94, 0], [240, 228, 66], [255, 255, 255]], np.float64)
"""From nothing to most: rises in lightness, so that it reads without colour."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One crop and its map.

    Parameters
    ----------
    name
        Of the well it is from, and what was measured and predicted there.
    channels
        C names.
    pixels, map
        (C, S, S) grey levels, and the prediction's slope per pixel.
    """

    name: str
    channels: tuple[str, ...]
    pixels: NDArray[np.float32]
    map: NDArray[np.float64]


def attribution(examples: Sequence[Explained], title: str, caption: str) -> Figure:
    """Draw each crop's channels, and below them their maps.

    A crop's channels are each stretched over their own range; the maps of one crop share one scale, so that
    its channels can be compared.
    """
    rows = []
    for example in examples:
        strength = np.abs(example.map)
        most = float(np.quantile(strength, CAP)) or 1.0
        total = float(strength.sum()) or 1.0
        for k, channel in enumerate(example.channels):
            low, high = float(example.pixels[k].min()), float(example.pixels[k].max())
            grey = (example.pixels[k] - low) / ((high - low) or 1.0)
            part = float(strength[k].sum()) / total
            shown = {"crop": example.name, "channel": channel, "share": part}
            rows.append(shown | {"picture": f"{example.name}: pixels", "image": _picture(grey, RAMP[[0, 3]])})
            rows.append(
                shown | {"picture": f"{example.name}: map", "image": _picture(strength[k] / most, RAMP)}
            )
    data = pd.DataFrame(rows)
    chart = (
        alt.Chart(data)
        .mark_image(width=SIDE, height=SIDE)
        .encode(
            url="image:N",
            tooltip=[
                "crop:N",
                "channel:N",
                alt.Tooltip("share:Q", format=".0%", title="share of the crop's map"),
            ],
        )
        .properties(width=SIDE, height=SIDE)
        .facet(
            row=alt.Row(
                "picture:N",
                sort=list(dict.fromkeys(data["picture"])),
                title=None,
                header=alt.Header(labelAngle=0, labelAlign="left", labelAnchor="middle", labelLimit=260),
            ),
            column=alt.Column(
                "channel:N",
                sort=list(examples[0].channels),
                title=None,
                header=alt.Header(labelAnchor="middle"),
            ),
        )
        .properties(spacing={"row": 6, "column": 6})
    )
    return Figure("attribution", title, caption, chart, data.drop(columns="image"), wide=True)


def _picture(values: NDArray[np.floating], ramp: NDArray[np.float64]) -> str:
    """Return values in 0 to 1 (S, S) as a PNG in a data address, coloured along a ramp."""
    from PIL import Image

    place = np.clip(values, 0.0, 1.0) * (len(ramp) - 1)
    left = np.minimum(place.astype(int), len(ramp) - 2)
    mixed = ramp[left] + (place - left)[..., None] * (ramp[left + 1] - ramp[left])
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    if max(picture.size) > 2 * SIDE:
        picture = picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX)
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
