"""A dataset from a Harmony export of an Operetta or Opera Phenix; the index is V5, V6 or V7."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.datasets import harmony_profile, harmony_xml
from bench.datasets.harmony_xml import Index
from bench.datasets.places import absolute, below, folder_of, is_file, walk
from bench.datasets.platemap import About
from bench.datasets.regex import row_letter
from bench.datasets.tables import PLATE, SITE, WELL, natural, normalise_well, shorten
from bench.datasets.writer import (
    Found,
    Screen,
    at_timepoint,
    first_depth,
    flattened,
    in_order,
    renamed,
    write,
)
from bench.errors import DatasetError, UsageError
from featurizers.base import Channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES = ("Index.idx.xml", "Index.xml")
_NEEDED = ("URL", "Row", "Col", "FieldID", "ChannelID")
_METRES = {"m": 1e6, "mm": 1e3, "µm": 1.0, "um": 1.0}


@dataclass(frozen=True, kw_only=True)
class Harmony(About):
    """What :func:`from_harmony` is told, besides what is known about the screen.

    Parameters
    ----------
    index
        An ``Index.idx.xml`` or ``Index.xml``, or a folder in which to find them, one per plate.
    channels
        Names of the channels in the order of their ``ChannelID``; empty: their ``ChannelName``.
    projection
        ``max``, ``mean`` or ``none:Z`` over ``PlaneID``.
    timepoint
        Which ``TimepointID``, where there are several.
    illumination
        ``none``, or ``harmony``: divide by the flat-field profiles that the index holds.
    """

    index: str | Path
    channels: tuple[str, ...] = ()
    projection: str = ""
    timepoint: str = ""
    illumination: str = "none"


def from_harmony(source: Harmony, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie (:func:`bench.datasets.writer.write`).

    Images whose ``State`` is not ``Ok`` and other time points are left aside and named.

    Raises
    ------
    DatasetError, UsageError
        When there is no index, it is cut short or lacks a field, none of its images is there, time points
        or z-stacks are several and none is chosen, or there is no flat-field profile of the images' shape.
    """
    if source.illumination not in ("none", "harmony"):
        raise UsageError(f"--illumination {source.illumination!r} is none of none, harmony")
    place = absolute(source.index)
    files = _indices(place)
    read = [(file, harmony_xml.read(file)) for file in files]
    rows: list[dict[str, Any]] = []
    plates: list[str] = []
    for file, index in read:
        rows += _rows(file, index, source.plate)
        plates.append(rows[-1][PLATE])
    skipped = [r["name"] for r in rows if r["state"] != "Ok"]
    rows, later = at_timepoint([r for r in rows if r["state"] == "Ok"], source.timepoint, place)
    names = _names(read)
    found = tuple(Channel(name, name) for name in names.values())
    renaming = renamed(found, source.channels, place)
    channels = tuple(Channel(renaming[c.name], c.stain) for c in found)
    images = pd.DataFrame(rows)[[PLATE, WELL, SITE, "Channel", "URI", "Plane", "Z"]]
    images["Channel"] = [renaming[names[c]] for c in images["Channel"]]
    images, projection = flattened(images, source.projection, what=place)
    functions: dict[tuple[str, str], NDArray[np.float32]] = {}
    if source.illumination == "harmony":
        by_id = {c: renaming[name] for c, name in names.items()}
        for (file, index), plate in zip(read, plates, strict=True):
            functions |= _functions(file, index, plate, by_id, images)
        if not functions:
            raise DatasetError(f"{place}: the index holds no flat-field profile; leave --illumination out")
    screen = Screen(
        images=in_order(images, channels),
        channels=channels,
        origin="images listed by " + ", ".join(sorted({f.rpartition("/")[2] for f in files})),
        apart="two measurements of one plate, or a time series by sequence; make a dataset of each",
        bit_depth=first_depth(images),
        pixel_size_um=_pixel_size([i for _, i in read]),
        projection=projection,
        skipped=(*skipped, *later),
        illumination=_table(functions, out) if functions else None,
        functions=dict(zip(_files(functions), functions.values(), strict=True)),
    )
    return write(screen, source, out)


def _indices(place: str) -> list[str]:
    if is_file(place):
        return [place]
    found = [below(place, n) for n in walk(place) if n.rpartition("/")[2] in NAMES]
    if not found:
        raise DatasetError(f"{place}: no {' or '.join(NAMES)} in it; name the index of the export")
    return found


def _rows(file: str, index: Index, plate: str) -> list[dict[str, Any]]:
    name = index.plate.get("PlateID") or index.plate.get("Name") or plate
    rows = []
    for number, said in enumerate(index.images, 1):
        absent = [n for n in _NEEDED if not said.get(n)]
        if absent:
            raise DatasetError(f"{file}: image {number} lacks {shorten(absent)}; export the index again")
        if not (said["Row"].isdecimal() and said["Col"].isdecimal()):
            raise DatasetError(
                f"{file}: image {number} is in row {said['Row']!r}, column {said['Col']!r}; write numbers"
            )
        rows.append(
            {
                PLATE: name,
                WELL: normalise_well(f"{row_letter(said['Row'])}{said['Col']}"),
                SITE: said["FieldID"],
                "Channel": said["ChannelID"],
                "URI": below(folder_of(file), said["URL"]),
                "Plane": 0,
                "Z": said.get("PlaneID", ""),
                "time": said.get("TimepointID", ""),
                "state": said.get("State", "Ok"),
                "name": said["URL"],
            }
        )
    if not any(r["state"] == "Ok" for r in rows):
        raise DatasetError(f"{file}: none of its {len(rows)} images has the state Ok; export the plate again")
    return rows


def _said(index: Index, image: dict[str, str], name: str) -> str:
    """Return a field of an image, or of its channel where the index keeps it there."""
    return image.get(name) or index.channels.get(image["ChannelID"], {}).get(name, "")


def _names(read: list[tuple[str, Index]]) -> dict[str, str]:
    """Return each channel's name by its ID: ``ChannelName``, or ``ch1`` where that is absent or shared."""
    names: dict[str, str] = {}
    for file, index in read:
        for image in index.images:
            channel, name = image["ChannelID"], _said(index, image, "ChannelName")
            if names.setdefault(channel, name) != name:
                raise DatasetError(
                    f"{file}: channel {channel} is {name!r} here and {names[channel]!r} elsewhere; make a "
                    "dataset of each"
                )
    usable = all(names.values()) and len(set(names.values())) == len(names)
    return {c: names[c] if usable else f"ch{c}" for c in sorted(names, key=natural)}


def _functions(
    file: str, index: Index, plate: str, names: dict[str, str], images: pd.DataFrame
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the flat field of each of a plate's channels that has a profile."""
    out = {}
    for channel, name in names.items():
        where = f"{file}: channel {channel} ({name})"
        profile = harmony_profile.parse(index.channels.get(channel, {}).get("FlatfieldProfile", ""), where)
        own = images[(images[PLATE] == plate) & (images["Channel"] == name)]["URI"]
        if profile is not None and len(own):
            height, width = _shape(own)
            out[plate, name] = harmony_profile.evaluate(profile, height, width, where)
    return out


def _shape(uris: pd.Series) -> tuple[int, int]:
    """Return height and width of the first image that can be opened."""
    from bench.imaging.readers import reader_for

    reasons = []
    for uri in uris:
        try:
            return reader_for(uri)[1].probe(uri).shape
        except DatasetError as error:
            reasons.append(str(error))
    raise DatasetError(f"no image of a channel with a flat-field profile can be opened: {reasons[0]}")


def _files(functions: Collection[tuple[str, str]]) -> list[str]:
    """Return a file for each plate and channel; the number keeps apart what letters do not."""
    words = (re.sub(r"[^\w.-]+", "_", f"{plate}-{channel}") for plate, channel in functions)
    return [f"illumination/{number}-{word}.npy" for number, word in enumerate(words, 1)]


def _table(functions: Collection[tuple[str, str]], out: Path) -> pd.DataFrame:
    places = zip(functions, _files(functions), strict=True)
    rows = [(plate, channel, str(out / file)) for (plate, channel), file in places]
    return pd.DataFrame(rows, columns=[PLATE, "Channel", "URI"])


def _pixel_size(indices: list[Index]) -> float | None:
    """Return the pixel size in µm where all images agree on it."""
    sizes = set()
    for index in indices:
        factor = _METRES.get(index.units.get("ImageResolutionX", ""))
        for text in {_said(index, image, "ImageResolutionX") for image in index.images}:
            try:
                sizes.add(float(f"{float(text) * (factor or 0.0):.6g}"))
            except ValueError:
                return None
    return sizes.pop() if len(sizes) == 1 and max(sizes) > 0 else None
