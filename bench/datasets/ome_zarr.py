"""A dataset from OME-Zarr plates (HCS layout) of versions 0.4 (Zarr 2) and 0.5 (Zarr 3).

``plate.zarr`` lists wells, each well (``plate.zarr/B/3``) its sites, each site (``plate.zarr/B/3/0``) an
image in several resolutions, of which the first, the full one, is taken. Site names are the sites' paths.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.datasets.places import absolute, below, content, is_file, names
from bench.datasets.platemap import About
from bench.datasets.tables import PLATE, SITE, WELL, is_remote, normalise_well, shorten
from bench.datasets.writer import Found, Screen, depth_of, flattened, in_order, renamed, write
from bench.errors import DatasetError, UsageError
from featurizers.base import Channel

_SUFFIX = ".zarr"
_MICRO = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


@dataclass(frozen=True, kw_only=True)
class OmeZarr(About):
    """What :func:`from_ome_zarr` is told, besides what is known about the screen.

    Parameters
    ----------
    folder
        A plate ``x.zarr``, or a folder that holds several; a path or an fsspec URI. The plate is ``x``.
    channels
        Names of the channels in their order; empty: the labels in the file, else ``c0``, ``c1``, ….
    projection
        ``max``, ``mean`` or ``none:Z`` over the z axis (planes from 0).
    timepoint
        Which time point (from 0), where there are several.
    acquisition
        Which acquisition, where there are several.
    """

    folder: str | Path
    channels: tuple[str, ...] = ()
    projection: str = ""
    timepoint: str = ""
    acquisition: str = ""


@dataclass(frozen=True)
class _Image:
    """One site: its full-resolution array and what its metadata say."""

    uri: str
    sizes: dict[str, int]
    labels: tuple[str, ...]
    pixel_size_um: float | None


def from_ome_zarr(source: OmeZarr, out: Path) -> Found:
    """Write a dataset folder that points at the arrays where they lie (:func:`bench.datasets.writer.write`).

    Only metadata are read. Wells that the plate lists and that are not there are left aside and named.

    Raises
    ------
    DatasetError, UsageError
        When there is no plate, metadata are cut short or lack what the format demands, sites differ in
        channels, or time points, acquisitions or z-stacks are several and none is chosen.
    """
    folder = absolute(source.folder)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    first: _Image | None = None
    for plate in _plates(folder):
        for well, path in _wells(plate):
            sites = _sites(plate, path, source.acquisition)
            if sites is None:
                skipped.append(f"{plate.rpartition('/')[2]}/{path}")
                continue
            for site in sites:
                image = _image(below(plate, f"{path}/{site}"))
                first = first or image
                if image.labels != first.labels:
                    raise DatasetError(
                        f"{image.uri}: channels {shorten(image.labels)} are not those of {first.uri} "
                        f"({shorten(first.labels)}); make a dataset of each"
                    )
                place = {PLATE: _name(plate), WELL: well, SITE: site, "URI": image.uri}
                rows += [place | plane for plane in _planes(image, source.timepoint)]
    if first is None:
        raise DatasetError(f"{folder}: no well of the plate holds an image; copy it again from the archive")
    found = tuple(Channel(label) for label in first.labels)
    renaming = renamed(found, source.channels, folder)
    channels = tuple(Channel(renaming[c.name]) for c in found)
    images = pd.DataFrame(rows)
    images["Channel"] = images["Channel"].map(renaming)
    images, projection = flattened(images, source.projection, what=folder)
    screen = Screen(
        images=in_order(images, channels),
        channels=channels,
        origin="images of an OME-Zarr plate",
        apart="plates of one name lie in one folder; make a dataset of each",
        bit_depth=depth_of(first.uri),
        pixel_size_um=first.pixel_size_um,
        projection=projection,
        skipped=tuple(skipped),
    )
    return write(screen, source, out)


def _plates(folder: str) -> list[str]:
    if folder.lower().endswith(_SUFFIX):
        return [folder]
    found = [below(folder, n) for n in names(folder) if n.lower().endswith(_SUFFIX)]
    if not found:
        raise DatasetError(
            f"{folder}: no plate whose name ends in .zarr; name it, or the folder that holds it"
        )
    return found


def _name(plate: str) -> str:
    return plate.rpartition("/")[2][: -len(_SUFFIX)]


def _attributes(group: str) -> dict[str, Any] | None:
    """Return a group's OME metadata: ``ome`` in ``zarr.json`` (0.5) or all of ``.zattrs`` (0.4)."""
    for name, version in (("zarr.json", 3), (".zattrs", 2)):
        file = below(group, name)
        if is_file(file):
            said = _json(file)
            attributes = said.get("attributes", {}) if version == 3 else said
            ome = attributes.get("ome", {}) if version == 3 else attributes
            if not isinstance(ome, dict):
                raise DatasetError(f"{file}: its OME metadata are no object; write the plate again")
            return ome
    return None


def _json(file: str) -> dict[str, Any]:
    try:
        said = json.loads(content(file))
    except ValueError as error:
        raise DatasetError(f"{file} is damaged or truncated ({error}); copy it again") from error
    if not isinstance(said, dict):
        raise DatasetError(f"{file}: holds no object; copy it again from the archive")
    return said


def _wells(plate: str) -> list[tuple[str, str]]:
    """Return name and path of the wells that the plate lists."""
    said = _attributes(plate)
    if said is None or "plate" not in said:
        what = "lacks the `plate` metadata" + (", or may not be read" if is_remote(plate) else "")
        raise DatasetError(f"{plate}: no OME-Zarr plate (0.4 or 0.5); it {what}")
    try:
        layout = said["plate"]
        rows, columns = ([str(n["name"]) for n in layout[axis]] for axis in ("rows", "columns"))
        return [
            (normalise_well(rows[w["rowIndex"]] + columns[w["columnIndex"]]), str(w["path"]))
            for w in layout["wells"]
        ]
    except (KeyError, IndexError, TypeError) as error:
        raise DatasetError(
            f"{plate}: its plate metadata lack {error}; write the plate again to the OME-Zarr specification"
        ) from error


def _sites(plate: str, path: str, acquisition: str) -> list[str] | None:
    """Return the paths of a well's sites; None where the well is not there."""
    place = below(plate, path)
    said = _attributes(place)
    if said is None:
        return None
    try:
        images = [(str(i["path"]), str(i.get("acquisition", ""))) for i in said["well"]["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{place}: its well metadata lack {error}; write the plate again") from error
    runs = sorted({a for _, a in images})
    if len(runs) > 1 and acquisition not in runs:
        raise UsageError(
            f"{place}: there are acquisitions {shorten(runs)}; choose one with --acquisition {runs[0]}"
        )
    return [p for p, a in images if a == acquisition or len(runs) == 1]


def _image(place: str) -> _Image:
    said = _attributes(place)
    try:
        if said is None:
            raise KeyError("multiscales")
        scales = said["multiscales"][0]
        axes = [str(a["name"]) if isinstance(a, dict) else str(a) for a in scales["axes"]]
        level = scales["datasets"][0]
        uri = below(place, str(level["path"]))
        modern = below(uri, "zarr.json")
        shape = _json(modern if is_file(modern) else below(uri, ".zarray"))["shape"]
        sizes = dict(zip(axes, map(int, shape), strict=True))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{place}: its image metadata lack {error}; write the plate again to the OME-Zarr specification"
        ) from error
    if axes[-2:] != ["y", "x"] or not set(axes) <= set("tczyx") or axes != sorted(axes, key="tczyx".index):
        raise DatasetError(
            f"{place}: axes are {', '.join(axes)}; they must be of t, c, z, y, x in this order"
        )
    omero = said.get("omero")
    labels = [str(c.get("label", "")) for c in omero.get("channels", [])] if isinstance(omero, dict) else []
    count = sizes.get("c", 1)
    usable = len(labels) == count and all(labels) and len(set(labels)) == count
    return _Image(
        uri, sizes, tuple(labels) if usable else tuple(f"c{i}" for i in range(count)), _size(scales, level)
    )


def _size(scales: dict[str, Any], level: dict[str, Any]) -> float | None:
    """Return the pixel size in µm where the x axis has a unit of length."""
    axis = scales["axes"][-1]
    factor = _MICRO.get(axis.get("unit", "")) if isinstance(axis, dict) else None
    for transformation in level.get("coordinateTransformations", []):
        if factor and transformation.get("type") == "scale":
            size = float(transformation["scale"][-1]) * factor
            return size if size > 0 and math.isfinite(size) else None
    return None


def _planes(image: _Image, timepoint: str) -> list[dict[str, Any]]:
    """Return channel, plane and z of one time point; planes count through t, c, z in C order."""
    times, channels, depths = (image.sizes.get(axis, 1) for axis in "tcz")
    if times > 1 and not (timepoint.isdecimal() and int(timepoint) < times):
        raise UsageError(f"{image.uri}: there are {times} time points; choose one with --timepoint 0")
    t = int(timepoint) if times > 1 else 0
    return [
        {
            "Channel": image.labels[c],
            "Plane": (t * channels + c) * depths + z,
            "Z": str(z) if depths > 1 else "",
        }
        for c in range(channels)
        for z in range(depths)
    ]
