"""What a figure is: an Altair chart, the frame it draws, and words; or the reason why there is none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt

from leaderboard.schema import BoardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A900", "#888888")
"""Colours told apart by the colour-blind (Okabe & Ito 2008); yellow and black are darkened and lightened so
that they show on white and on black."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
"""A second mark beside the colour: one fewer than colours, so that a pair of both repeats after 56."""
VERDICTS = {"better": "#0072B2", "tied": "#9a9a9a", "worse": "#D55E00", "undecided": "#d9d9d9"}
"""Colour of a verdict."""
ROLES = {
    "entrant": "#0072B2",
    "control": "#E69F00",
    "ceiling": "#009E73",
    "floor": "#888888",
    "permuted": "#CC79A7",
}
"""Colour of a role."""
MOST_POINTS = 3000
"""Figures draw at most so many marks; beyond it they bin or sample, and say so."""
SAVED_WIDTH = 560
"""Pixels of a saved figure that otherwise is as wide as its page."""
LABEL_LIMIT = 220
"""Pixels after which a name on an axis is cut with an ellipsis; the tooltip has it whole."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure; shows itself in a notebook.

    Parameters
    ----------
    name
        Short name, unique among the figures of a board: file names and anchors derive from it.
    title
        Heading.
    caption
        What is drawn and by which rule.
    chart
        Altair chart with its data.
    data
        What is drawn, one row per mark, with units in the caption.
    wide
        Whether it takes the whole width of a page with two columns.
    """

    name: str
    title: str
    caption: str
    chart: Any
    data: pd.DataFrame
    wide: bool = False

    def spec(self) -> dict[str, Any]:
        """Return the Vega-Lite specification with its data."""
        with alt.data_transformers.enable("default", max_rows=None):
            found: dict[str, Any] = self.chart.to_dict(validate=False)
        return found

    def save(self, path: str | Path) -> None:
        """Write SVG, PNG, PDF or JSON (Vega-Lite), or the data as CSV, by the suffix of ``path``.

        Raises
        ------
        BoardError
            For any other suffix.
        """
        from leaderboard.tables.frames import guarded

        path = Path(path)
        if path.suffix == ".csv":
            guarded(self.data).to_csv(path, index=False)
            return
        if path.suffix not in (".svg", ".png", ".pdf", ".json"):
            raise BoardError(
                f"{path}: a figure is saved as .svg, .png, .pdf, .json or .csv; name one of them"
            )
        import vl_convert

        spec = {**_sized(self.spec()), "title": self.title, "background": "white"}
        if path.suffix == ".json":
            path.write_text(json.dumps(spec, indent=1, ensure_ascii=False), encoding="utf-8")
        elif path.suffix == ".svg":
            path.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
        elif path.suffix == ".png":
            path.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
        else:
            path.write_bytes(vl_convert.vegalite_to_pdf(spec))

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        """Show the chart in a notebook."""
        with alt.data_transformers.enable("default", max_rows=None):
            return self.chart._repr_mimebundle_(*args, **kwargs)


def _sized(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the specification with a width of its own where it takes its container's."""
    return {**spec, "width": SAVED_WIDTH} if spec.get("width") == "container" else spec


def by_rows(names: Sequence[Any], step: int = 24) -> int:
    """Height of a chart with one row per name (a fixed one: Vega-Lite does not fit widths to steps)."""
    return max(step * len(set(names)), 2 * step)


def scale_of(names: list[str]) -> alt.Scale:
    """Colours for these names in their order, repeating after eight."""
    return alt.Scale(domain=names, range=[OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(names))])


def shape_of(names: list[str]) -> alt.Scale:
    """Shapes for these names in their order."""
    return alt.Scale(domain=names, range=[SHAPES[i % len(SHAPES)] for i in range(len(names))])


def named_axis(**options: Any) -> alt.Axis:
    """Axis of names: cut where long, no ticks or rules."""
    return alt.Axis(**{"labelLimit": LABEL_LIMIT, "ticks": False, "domain": False, "title": None, **options})
