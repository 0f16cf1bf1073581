"""Boards to one HTML file that needs no network: template, styles, script, library and data inline."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from leaderboard.figures.base import Figure
from leaderboard.render.data import plain_records
from leaderboard.report.material import Material
from leaderboard.report.pack import columnar, readouts
from leaderboard.report.sections import Section, section
from leaderboard.schema import BoardError
from leaderboard.tables.frames import Table
from leaderboard.tables.naming import Absent, floor_value, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leaderboard.board import Board, Leaderboard

TEMPLATES = "report/templates"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the file, its size in bytes, and how many boards, figures and tables it holds."""

    path: Path
    size: int
    boards: int
    figures: int
    tables: int
    absent: tuple[Absent, ...]


def write(ranked: Leaderboard, path: str | Path, material: Material | None = None) -> Written:
    """Write the report of these boards to ``path``.

    Raises
    ------
    BoardError
        When there is no board, or the file cannot be written.
    """
    path = Path(path)
    if not ranked.boards:
        raise BoardError("there is no run to report on; give at least one")
    text, sections, shared = _render(ranked, material or Material())
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BoardError(f"{path}: cannot be written ({error.strerror}); name another file") from error
    figures = sum(len(s.figures) for s in sections) + sum(isinstance(f, Figure) for f in shared)
    tables = sum(len(s.tables) for s in sections) + sum(isinstance(f, Table) for f in shared)
    absent = [a for s in sections for a in s.absent] + [f for f in shared if isinstance(f, Absent)]
    return Written(path, path.stat().st_size, len(sections), figures, tables, tuple(absent))


def html(ranked: Leaderboard, material: Material | None = None) -> str:
    """Return the report as text."""
    return _render(ranked, material or Material())[0]


def _render(
    ranked: Leaderboard, material: Material
) -> tuple[str, list[Section], list[Figure | Table | Absent]]:
    sections = [
        section(board, number, siblings(board, ranked.boards), material.boards.get(number))
        for number, board in enumerate(ranked.boards)
    ]
    shared = list(material.figures)
    document, data = _documents(ranked.boards, sections, shared, material)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(asset("report.html")).render(
        material=material,
        sections=sections,
        separations=ranked.separations if len(ranked.boards) > 1 else [],
        figures=[f for f in shared if isinstance(f, Figure)],
        tables=[f for f in shared if isinstance(f, Table)],
        absent=[f for f in shared if isinstance(f, Absent)],
        css=Markup(asset("report.css")),  # noqa: S704  # a file of this package
        script=Markup(asset("report.js")),  # noqa: S704
        library=Markup(drawing_library()),  # noqa: S704
        document=Markup(in_script(document)),  # noqa: S704  # escaped for a script element
        data=Markup(in_script(data)),  # noqa: S704
    )
    return text, sections, shared


def siblings(board: Board, boards: Sequence[Board]) -> list[Board]:
    """Return the boards of one layer's questions (``LAYER:up``, ``LAYER:down``), this one first."""

    def asked(other: Board) -> tuple[str, ...]:
        first = other.entries[0]
        layer = first.layer.partition(":")[0]
        return (first.dataset, first.dataset_version, layer, first.task, first.protocol_hash)

    return [board, *(other for other in boards if other is not board and asked(other) == asked(board))]


def in_script(document: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever names it holds."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, escape in escapes.items():
        text = text.replace(character, escape)
    return text


@functools.cache
def drawing_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def asset(name: str) -> str:
    """Read a file of the templates folder."""
    return files("leaderboard").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _documents(
    boards: Sequence[Board],
    sections: Sequence[Section],
    shared: Sequence[Figure | Table | Absent],
    material: Material,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the script reads at once (readouts of every board, figures), and the figures' data."""
    panels: list[tuple[str, ...]] = []
    described: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for board, own in zip(boards, sections, strict=True):
        order = tuple(dict.fromkeys(name for entry in board.entries for name in entry.readouts))
        if order not in panels:
            panels.append(order)
        described.append(
            {
                "title": own.title,
                "metric": board.metric,
                "floor": floor_value(board),
                "q": board.rules.q,
                "panel": panels.index(order),
                "open": own.panel,
                "ranked": _ranked(board),
                **readouts(board, labels(board), order),
            }
        )
        for figure in own.figures:
            figures[f"{own.anchor}-{figure.name}"] = _figure(figure, data)
    for item in shared:
        if isinstance(item, Figure):
            figures[f"shared-{item.name}"] = _figure(item, data)
    known = {name for panel in panels for name in panel}
    annotation = {}
    if material.annotation is not None:
        for name, row in material.annotation.iterrows():
            if name in known:
                annotation[str(name)] = {str(k): str(v) for k, v in row.items() if v == v and v != ""}
    return {
        "boards": described,
        "panels": [list(panel) for panel in panels],
        "figures": figures,
        "annotation": annotation,
    }, data


def _ranked(board: Board) -> dict[str, list[Any]]:
    """Return the board's rows for its CSV: every column, intervals and verdicts apart, as other outputs."""
    rows = plain_records(board.to_frame())
    return {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}


def _figure(figure: Figure, data: dict[str, Any]) -> dict[str, Any]:
    """Return a figure's specification with its data moved to ``data``, where equal data stand once."""
    spec = figure.spec()
    names = spec.pop("datasets", {})
    for name, rows in names.items():
        data.setdefault(name, columnar(rows))
    spec.pop("$schema", None)
    spec.pop("config", None)
    return {"spec": spec, "data": list(names), "name": figure.name, "title": figure.title}
