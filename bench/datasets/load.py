"""``dataset.toml`` and its tables to a :class:`Dataset`; no pixel is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.datasets.model import (
    DOSE_RULES,
    JOINS,
    KINDS,
    NONFINITE,
    PROJECTIONS,
    SCALES,
    Dataset,
    Layer,
    ProfileTable,
)
from bench.datasets.settings import FILE, SCHEMA_VERSION, Section, raise_faults, read_toml
from bench.datasets.tables import (
    PERT_TYPE,
    PLATE,
    PREFIX,
    SITE,
    WELL,
    as_text,
    column_names,
    duplicates,
    is_remote,
    locate,
    read_frame,
    read_lines,
    region_of,
    shorten,
)
from bench.errors import DatasetError
from featurizers.base import Channel
from tasks.base import TaskError
from tasks.prepare import Step, build

if TYPE_CHECKING:
    import pandas as pd

NO_PLATE = "-"
BIT_DEPTHS = (8, 10, 12, 14, 16, 32)
_TABLES = ("wells", "latent", "truth", "illumination")
_IMAGE_COLUMNS = (PLATE, WELL, SITE, "Channel", "URI")


def load(path: str | Path) -> Dataset:
    """Read a dataset folder.

    Parameters
    ----------
    path
        The folder, or its ``dataset.toml``.

    Returns
    -------
    The dataset with its ``images`` and ``wells`` tables; layers and profiles are read when asked.

    Raises
    ------
    DatasetError
        Naming the file and key (all faults of ``dataset.toml`` at once) or the table and column.
    """
    file = settings_file(path)
    settings = read_toml(file)
    root = file.parent.absolute()
    faults: list[str] = []
    top = Section(settings, str(file), faults)
    if top.whole("schema_version") > SCHEMA_VERSION:
        raise DatasetError(
            f"{file}: schema_version is {settings['schema_version']}, "
            f"this program reads up to {SCHEMA_VERSION}; upgrade it"
        )
    name, version = top.text("name"), top.text("version")
    bit_depth = top.whole("bit_depth", 16)
    if bit_depth not in BIT_DEPTHS:
        faults.append(f"{file}: bit_depth = {bit_depth} is none of {', '.join(map(str, BIT_DEPTHS))}")
    pixel_size = top.number("pixel_size_um")
    perturbation = top.text("perturbation")
    channels = tuple(_channel(s) for s in top.sections("channels"))
    if duplicates(c.name for c in channels):
        faults.append(
            f"{file}: [[channels]] names occur twice: {shorten(duplicates(c.name for c in channels))}"
        )
    tables = {"images": "", **{key: _table(top, key, root) for key in _TABLES}}
    images_section = top.section("images")
    projection = ""
    if images_section is not None:
        tables["images"] = locate(root, images_section.text("table"))
        projection = images_section.choice("projection", PROJECTIONS, "")
        images_section.finish()
    if not tables["wells"] and "wells" not in settings:
        faults.append(f'{file}: [wells] is missing; add [wells] with table = "wells.csv"')
    imaging = top.table("imaging")
    layers = tuple(_layer(s, root) for s in top.sections("layers"))
    features = tuple(_profiles(s, root) for s in top.sections("features"))
    for what, names in (("layers", [x.name for x in layers]), ("features", [x.name for x in features])):
        if duplicates(names):
            faults.append(f"{file}: [[{what}]] names occur twice: {shorten(duplicates(names))}")
    top.finish()
    raise_faults(faults)

    files = {key: uri for key, uri in tables.items() if uri}
    files |= {f"panels/{x.name}": x.panel for x in layers if x.panel}
    files |= {f"layers/{x.name}": x.table for x in layers} | {f"features/{x.name}": x.table for x in features}
    wells = read_wells(tables["wells"], perturbation)
    images = _images(tables["images"], root) if tables["images"] else None
    if images is not None and not channels:
        raise DatasetError(f"{file}: [images] without [[channels]]; name the channels with stain and role")
    return Dataset(
        name=name,
        version=version,
        root=root,
        channels=channels,
        bit_depth=bit_depth,
        pixel_size_um=pixel_size,
        images=images,
        wells=wells,
        perturbation=perturbation,
        layers=layers,
        features=features,
        latent=read_frame(tables["latent"]) if tables["latent"] else None,
        truth=read_frame(tables["truth"], text=("readout",)) if tables["truth"] else None,
        imaging=imaging,
        files=files,
        settings=settings,
        projection=projection,  # type: ignore[arg-type]
        illumination=_illumination(tables["illumination"], root) if tables["illumination"] else None,
    )


def settings_file(path: str | Path) -> Path:
    """Return the ``dataset.toml`` of a folder; a path that ends in ``.toml`` is one itself."""
    path = Path(path)
    return path if path.suffix == ".toml" else path / FILE


def _channel(section: Section) -> Channel:
    channel = Channel(section.text("name"), section.text("stain", ""), section.text("role", ""))
    section.finish()
    return channel


def _table(top: Section, key: str, root: Path) -> str:
    section = top.section(key)
    if section is None:
        return ""
    table = section.text("table")
    section.finish()
    return locate(root, table) if table else ""


def _layer(section: Section, root: Path) -> Layer:
    layer = Layer(
        name=section.text("name"),
        table=locate(root, section.text("table")),
        kind=section.choice("kind", KINDS),  # type: ignore[arg-type]
        scale=section.choice("scale", SCALES, "z"),  # type: ignore[arg-type]
        key=section.texts("key"),
        join=section.choice("join", JOINS, "aggregate"),  # type: ignore[arg-type]
        dose_rule=section.choice("dose_rule", DOSE_RULES, "each"),  # type: ignore[arg-type]
        fit_by=section.texts("fit_by"),
        score_by=section.texts("score_by"),
        prepared=section.text("prepared", ""),
        readouts=section.texts("readouts"),
        exclude=section.texts("exclude"),
        h5ad_layer=section.text("layer", ""),
    )
    steps = [_step(s, root) for s in section.sections("prepare")]
    layer = replace(
        layer,
        prepare=tuple(step for step, _ in steps if step is not None),
        panel=next((path for _, path in steps if path), ""),
    )
    if not layer.key:
        section.faults.append(
            f"{section.where}: key is missing; list the Metadata_ columns that identify a row"
        )
    for column in (*layer.key, *layer.fit_by, *layer.score_by):
        if not column.startswith(PREFIX):
            section.faults.append(f"{section.where}: column {column!r} should start with {PREFIX}")
    if layer.join == "broadcast" and layer.dose_rule == "mean":
        section.faults.append(
            f"{section.where}: dose_rule = 'mean' averages wells, which join = 'broadcast' does not; "
            "use 'each' or 'top', or join = 'aggregate'"
        )
    if layer.h5ad_layer and not layer.table.lower().endswith(".h5ad"):
        section.faults.append(f"{section.where}: layer = {layer.h5ad_layer!r} is for .h5ad tables only")
    section.finish()
    return layer


def _step(section: Section, root: Path) -> tuple[Step | None, str]:
    """Return a preparation step, and the file of its readouts where it names one."""
    settings = dict(section.values)
    name, file = settings.pop("step", ""), settings.pop("file", "")
    path = ""
    try:
        if not isinstance(name, str) or not isinstance(file, str):
            raise TaskError("step and file must be texts in quotes")
        if file:
            path = locate(root, file)
            settings["readouts"] = [word for word in read_lines(path) if word]
        return build(name, settings), path
    except (TaskError, DatasetError) as error:
        section.faults.append(f"{section.where}: {error}")
        return None, path


def _profiles(section: Section, root: Path) -> ProfileTable:
    table = ProfileTable(
        name=section.text("name"),
        table=locate(root, section.text("table")),
        nonfinite=section.choice("nonfinite", NONFINITE, "refuse"),  # type: ignore[arg-type]
        rename=section.table("rename"),
    )
    if not all(isinstance(v, str) for v in table.rename.values()):
        section.faults.append(f"{section.where}: rename should map column names to new names in quotes")
    section.finish()
    return table


def read_wells(uri: str, perturbation: str) -> pd.DataFrame:
    """Read a wells table.

    A table with neither plates nor wells (one profile per treatment) gets plate ``-`` and, as the well, the
    perturbation; its second row for the same perturbation is ``name#2``, and so on in the file's order.
    Without ``Metadata_pert_type`` every well is ``trt``. An imported profile table goes the same way, so the
    two meet by perturbation.
    """
    frame = read_frame(uri)
    bare = [c for c in frame.columns if not c.startswith(PREFIX)]
    if bare:
        raise DatasetError(
            f"{uri}: columns without the {PREFIX} prefix ({shorten(bare)}); "
            f"rename them, e.g. to {PREFIX}{bare[0]}"
        )
    if perturbation not in frame.columns:
        raise DatasetError(
            f"{uri}: no column {perturbation!r}, which dataset.toml names as perturbation; "
            f"it has: {shorten(frame.columns)}"
        )
    frame = with_plate_and_well(frame, uri, perturbation)
    if PERT_TYPE not in frame.columns:
        frame[PERT_TYPE] = "trt"
    return frame


def with_plate_and_well(frame: pd.DataFrame, uri: str, perturbation: str) -> pd.DataFrame:
    """Return ``frame`` with plate and well, made up from ``perturbation`` where the table has neither."""
    has = [c in frame.columns for c in (PLATE, WELL)]
    if all(has):
        for column in (PLATE, WELL):
            empty = np.flatnonzero(frame[column] == "")
            if empty.size:
                raise DatasetError(
                    f"{uri}, row {empty[0] + 1}: {column} is empty; fill it in or drop the row"
                )
        return frame
    if any(has):
        absent = PLATE if has[1] else WELL
        raise DatasetError(f"{uri}: no column {absent}; a table has both {PLATE} and {WELL}, or neither")
    if perturbation not in frame.columns:
        raise DatasetError(
            f"{uri}: neither {PLATE} and {WELL} nor {perturbation}; nothing says what a row is"
        )
    number = frame.groupby(perturbation, sort=False).cumcount() + 1
    names = [p if n == 1 else f"{p}#{n}" for p, n in zip(frame[perturbation], number, strict=True)]
    # A well that names no perturbation is named by its row, so that reports can say which one it is.
    names = [
        n if p else f"row {i}" for i, (n, p) in enumerate(zip(names, frame[perturbation], strict=True), 1)
    ]
    frame = frame.copy()
    frame.insert(0, PLATE, NO_PLATE)
    frame.insert(1, WELL, names)
    return frame


def _images(uri: str, root: Path) -> pd.DataFrame:
    absent = [c for c in _IMAGE_COLUMNS if c not in column_names(uri)]
    if absent:
        raise DatasetError(
            f"{uri}: no column {shorten(absent)}; an image table has {', '.join(_IMAGE_COLUMNS)}"
        )
    frame = read_frame(uri, text=("Channel", "URI", "Z", "Region"))
    empty = np.flatnonzero((frame["URI"] == "").to_numpy())
    if empty.size:
        raise DatasetError(f"{uri}, row {empty[0] + 1}: URI is empty; give the image's path or drop the row")
    frame["URI"] = [u if is_remote(u) else locate(root, u) for u in frame["URI"]]
    planes = as_text(frame["Plane"]) if "Plane" in frame.columns else ["0"] * len(frame)
    bad = [i for i, p in enumerate(planes) if not (p == "" or p.isdecimal())]
    if bad:
        raise DatasetError(f"{uri}, row {bad[0] + 1}: Plane is {planes[bad[0]]!r}; planes count 0, 1, 2, …")
    frame["Plane"] = np.array([int(p or 0) for p in planes], np.int64)
    if "Region" in frame.columns:
        _check_regions(uri, frame)
    return frame[
        [
            *_IMAGE_COLUMNS,
            "Plane",
            *(c for c in ("Z", "Region") if c in frame.columns),
            *(c for c in frame.columns if c.startswith(PREFIX) and c not in _IMAGE_COLUMNS),
        ]
    ]


def _check_regions(uri: str, frame: pd.DataFrame) -> None:
    """Refuse regions that are no ``x,y,width,height``, and several for one channel of one site."""
    for row, text in enumerate(frame["Region"], 1):
        if text and region_of(text) is None:
            raise DatasetError(
                f"{uri}, row {row}: Region is {text!r}; write x,y,width,height in pixels, or nothing for all"
            )
    place = [PLATE, WELL, SITE, "Channel"]
    several = frame.groupby(place, sort=False)["Region"].transform("nunique") > 1
    if several.any():
        where = "/".join(map(str, frame.loc[several, place].iloc[0]))
        raise DatasetError(f"{uri}: {where} has planes of several regions; a channel of a site has one")


def _illumination(uri: str, root: Path) -> pd.DataFrame:
    """Read the table of illumination functions; a plate's channel has one."""
    wanted = (PLATE, "Channel", "URI")
    absent = [c for c in wanted if c not in column_names(uri)]
    if absent:
        raise DatasetError(f"{uri}: no column {shorten(absent)}; it has one row per plate and channel")
    frame = read_frame(uri, text=("Channel", "URI"))[list(wanted)]
    twice = np.flatnonzero(frame.duplicated([PLATE, "Channel"]).to_numpy())
    if twice.size:
        raise DatasetError(
            f"{uri}, row {twice[0] + 1}: a second function of plate {frame[PLATE].iloc[twice[0]]}, channel "
            f"{frame['Channel'].iloc[twice[0]]}; keep one"
        )
    return frame.assign(URI=[u if is_remote(u) else locate(root, u) for u in frame["URI"]])
