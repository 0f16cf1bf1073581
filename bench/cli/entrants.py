"""``bench featurizers|heads|tasks``: what there is, where it is from, whether it works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from bench.cli import ui
from bench.configure import type_name
from bench.registry import Kind, Listing, Registry

if TYPE_CHECKING:
    from bench.datasets import Dataset

Name = Annotated[str | None, typer.Argument(help="Show this one in full.", show_default=False)]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file whose classes are added; repeatable.", show_default=False),
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="Say what is available on this dataset.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def featurizers(
    name: Name = None, plugin: Plugins = None, dataset: DatasetOption = None, json: Json = False
) -> None:
    """List featurizers and predictors, or show one's card, settings and presets."""
    registry, data = Registry(plugin or ()), _dataset(dataset)
    if name is not None:
        _show(_full_card(registry, name, data), json)
        return
    rows = [_row(registry, listing, data) for listing in _entrants(registry)]
    _list(
        rows,
        {
            "name": "name",
            "role": "role",
            "fit_scope": "fit scope",
            "needs": "needs",
            "origin": "origin",
            "available": "available",
        },
        json,
    )


def heads(name: Name = None, plugin: Plugins = None, json: Json = False) -> None:
    """List heads (vectors to readouts), or show one."""
    _list_kind("heads", name, Registry(plugin or ()), None, json)


def tasks(
    name: Name = None, plugin: Plugins = None, dataset: DatasetOption = None, json: Json = False
) -> None:
    """List tasks (what is predicted and how it is scored), or show one."""
    _list_kind("tasks", name, Registry(plugin or ()), _dataset(dataset), json)


def _dataset(path: str | None) -> Dataset | None:
    if path is None:
        return None
    from bench.datasets import load

    return load(path)


def _entrants(registry: Registry) -> list[Listing]:
    return registry.listings("featurizers") + registry.listings("predictors")


def _row(registry: Registry, listing: Listing, data: Dataset | None) -> dict[str, Any]:
    """Return a listing as plain values; card entries are None where it cannot be imported."""
    reason = listing.error or registry.available(listing.kind, listing.name, data)
    row: dict[str, Any] = {
        "name": listing.name,
        "kind": listing.kind[:-1],
        "origin": listing.origin,
        "target": listing.target,
        "available": reason is None,
        "reason": reason,
    }
    card = None if _is_broken(registry, listing) else getattr(_class(registry, listing), "card", None)
    for key in ("title", "role", "fit_scope", "needs"):
        row[key] = getattr(card, key, None)
    return row


def _is_broken(registry: Registry, listing: Listing) -> bool:
    return listing.error is not None or registry.available(listing.kind, listing.name) is not None


def _class(registry: Registry, listing: Listing) -> type[Any]:
    return registry.get(listing.kind, listing.name)


def _full_card(registry: Registry, name: str, data: Dataset | None) -> dict[str, Any]:
    """Return everything known of one featurizer or predictor."""
    kind: Kind = "featurizers"
    if not any(listing.name == name for listing in registry.listings("featurizers")) and any(
        listing.name == name for listing in registry.listings("predictors")
    ):
        kind = "predictors"
    found = registry.get(kind, name)
    listing = next(entry for entry in registry.listings(kind) if entry.name == name)
    hints = get_type_hints(found.Config)
    default = found.presets["default"]
    reason = registry.available(kind, name, data)
    return {
        **dataclasses.asdict(found.card),
        "kind": kind[:-1],
        "level": getattr(found, "level", None),
        "trainable": getattr(found, "trainable", True),
        "origin": listing.origin,
        "target": listing.target,
        "available": reason is None,
        "reason": reason,
        "summary": _first_paragraph(found),
        "settings": [
            {"name": f.name, "type": type_name(hints[f.name]), "default": getattr(default, f.name)}
            for f in dataclasses.fields(found.Config)
        ],
        "presets": {
            preset: {
                f.name: getattr(config, f.name)
                for f in dataclasses.fields(config)
                if getattr(config, f.name) != getattr(default, f.name)
            }
            for preset, config in found.presets.items()
        },
    }


def _first_paragraph(found: type[Any]) -> str:
    return " ".join((found.__doc__ or "").strip().partition("\n\n")[0].split())


def _list_kind(kind: Kind, name: str | None, registry: Registry, data: Dataset | None, json: bool) -> None:
    """List heads or tasks, or show one."""
    of_task, of_head = ("layer_kinds", "floor", "default_head"), ("first_repeat_only", "cost")
    facts = ("version", *(of_task if kind == "tasks" else of_head))
    if name is not None:
        registry.get(kind, name)
    rows = []
    for listing in registry.listings(kind):
        if name is not None and listing.name != name:
            continue
        row = _row(registry, listing, data)
        for key in ("title", "role", "fit_scope", "needs"):
            del row[key]
        if not _is_broken(registry, listing):
            found = _class(registry, listing)
            row |= {key: getattr(found, key, None) for key in facts}
            row["summary"] = _first_paragraph(found)
        rows.append(row)
    if name is not None:
        _show(rows[0], json)
        return
    columns = {"name": "name", "layer_kinds": "takes layers of kind", "default_head": "default head"}
    shown = {k: v for k, v in columns.items() if kind == "tasks" or k == "name"}
    _list(rows, {**shown, "summary": "what it does", "origin": "origin", "available": "available"}, json)


def _list(rows: list[dict[str, Any]], columns: dict[str, str], json: bool) -> None:
    """Print rows as a table whose last column says yes or no, and the reasons below it."""
    if json:
        ui.emit(rows)
        return
    from rich import box
    from rich.table import Table

    console = ui.out()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    if len({row["origin"] for row in rows}) == 1:  # nothing to tell apart, and a narrow terminal has no room
        columns = {key: title for key, title in columns.items() if key != "origin"}
    for key, title in columns.items():
        table.add_column(title, no_wrap=key in ("name", "available"), overflow="fold")
    for row in rows:
        table.add_row(
            *(_cell(_short_origin(row[key]) if key == "origin" else row.get(key)) for key in columns)
        )
    console.print(table, soft_wrap=False)
    for row in rows:
        if row["reason"] is not None:
            console.print(f"{row['name']}: {row['reason']}", markup=False)


def _short_origin(origin: str) -> str:
    """Return the name of a plugin file without its folder and hash; a distribution as it is."""
    path, mark, _ = origin.partition(" (sha256 ")
    return Path(path).name if mark else origin


def _show(facts: dict[str, Any], json: bool) -> None:
    """Print everything known of one entry, one fact per line."""
    if json:
        ui.emit(facts)
        return
    from rich.table import Table

    console = ui.out()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        if key not in ("settings", "presets", "reason"):
            grid.add_row(key.replace("_", " "), _cell(value))
    if facts["reason"] is not None:
        grid.add_row("why not", _cell(facts["reason"]))
    for setting in facts.get("settings", ()):
        grid.add_row(
            "setting", f"{setting['name']} = {_setting(setting['default'])}   ({_cell(setting['type'])})"
        )
    for preset, changes in facts.get("presets", {}).items():
        text = ", ".join(f"{k}={_setting(v)}" for k, v in changes.items())
        grid.add_row("preset", f"{preset}   {text}" if changes else preset)
    console.print(grid, soft_wrap=False)


def _cell(value: Any) -> str:
    """Return a value as plain text for a table cell, with rich's markup escaped."""
    from rich.markup import escape

    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return escape(", ".join(map(str, value)) or "nothing")
    return escape(str(value))


def _setting(value: Any) -> str:
    """Return a setting as it would be typed: ``a,b``, ``none``, ``3``."""
    from rich.markup import escape

    if value is None:
        return "none"
    if isinstance(value, tuple):
        return escape(",".join(str(item) for item in value) or "''")
    return escape(str(value))
