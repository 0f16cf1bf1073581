"""A dataset from folders of an ImageXpress (Molecular Devices MetaXpress).

Names are ``{name}_{A01}_s{site}_w{wavelength}{GUID}.tif``; site, wavelength and GUID may lack. A thumbnail
has ``_thumb`` before the GUID. Folders ``ZStep_{n}`` hold the planes of z-stacks, ``TimePoint_{n}`` time
points; the folder above them is the plate. A file beside ``ZStep`` folders is the instrument's own
projection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.datasets.places import absolute, below, walk
from bench.datasets.platemap import About
from bench.datasets.tables import PLATE, SITE, WELL, natural, normalise_well, shorten
from bench.datasets.writer import (
    PLACE,
    Found,
    Screen,
    at_timepoint,
    depth_of,
    flattened,
    in_order,
    renamed,
    write,
)
from bench.errors import BenchError, DatasetError
from bench.imaging.readers import opened
from featurizers.base import Channel

_GUID = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_NAME = re.compile(
    r"(?:(?P<name>.*)_)?(?P<well>[A-Za-z]{1,2}[0-9]{2})(?:_s(?P<site>[0-9]+))?(?:_w(?P<wave>[0-9]{1,2}))?"
    rf"(?P<thumb>_thumb)?(?:{_GUID})?\.tiff?",
    re.IGNORECASE,
)
_STEP = re.compile(r"(ZStep|TimePoint)_([0-9]+)", re.IGNORECASE)
INSTRUMENT = "instrument"


@dataclass(frozen=True, kw_only=True)
class ImageXpress(About):
    """What :func:`from_imagexpress` is told, besides what is known about the screen.

    Parameters
    ----------
    folder
        Of one plate or of many, a path or an fsspec URI.
    channels
        Names of the wavelengths in their order; empty: ``w1``, ``w2``, ….
    projection
        ``max``, ``mean`` or ``none:Z`` over ``ZStep`` folders, or ``instrument``: the files beside them.
    timepoint
        Which time point, where there are several; empty: the only one.
    """

    folder: str | Path
    channels: tuple[str, ...] = ()
    projection: str = ""
    timepoint: str = ""


def from_imagexpress(source: ImageXpress, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie (:func:`bench.datasets.writer.write`).

    Stain, pixel size and bit depth are what the first file of each wavelength says of itself.

    Raises
    ------
    DatasetError, UsageError
        When no file has such a name, time points are several and none is chosen, or z-stacks have no rule.
    """
    folder = absolute(source.folder)
    rows, skipped = _scan(folder, walk(folder))
    rows, later = at_timepoint(rows, source.timepoint, folder)
    found = _channels(rows)
    names = renamed(found, source.channels, folder)
    images = pd.DataFrame(rows)
    images["Channel"] = images["Channel"].map(names)
    images, beside = _steps(images, source.projection, folder)
    rule = "" if source.projection == INSTRUMENT else source.projection
    images, projection = flattened(images, rule, what=folder)
    described, size, depth = _described(images, tuple(names[c.name] for c in found))
    screen = Screen(
        images=in_order(images, described),
        channels=described,
        origin="images of an ImageXpress",
        apart="two measurements lie in one folder; make a dataset of each",
        bit_depth=depth,
        pixel_size_um=size,
        projection=projection,
        skipped=tuple(sorted([*skipped, *later, *beside], key=natural)),
    )
    return write(screen, source, out)


def _scan(folder: str, names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    rows, skipped = [], []
    for name in names:
        *above, file = name.split("/")
        match = _NAME.fullmatch(file)
        if match is None or match["thumb"]:
            skipped.append(name)
            continue
        steps = {m[1].lower(): m[2] for m in map(_STEP.fullmatch, above) if m}
        plates = [part for part in above if not _STEP.fullmatch(part)]
        rows.append(
            {
                PLATE: plates[-1] if plates else folder.rpartition("/")[2],
                WELL: normalise_well(match["well"]),
                SITE: str(int(match["site"] or 1)),
                "Channel": f"w{int(match['wave'] or 1)}",
                "URI": below(folder, name),
                "Plane": 0,
                "Z": steps.get("zstep", ""),
                "time": steps.get("timepoint", ""),
                "name": name,
            }
        )
    if not rows:
        raise DatasetError(
            f"{folder}: none of {len(names)} files ({shorten(names, 3) or 'none'}) is named like an image of "
            "an ImageXpress, e.g. plate_A01_s1_w1.tif; use `bench dataset from regex` for other names"
        )
    return rows, skipped


def _steps(images: pd.DataFrame, rule: str, folder: str) -> tuple[pd.DataFrame, list[str]]:
    """Decide between planes and the instrument's projection where a channel has both."""
    stepped = images["Z"] != ""
    has = images.assign(stepped=stepped).groupby(PLACE)["stepped"].transform("any")
    # A rule for stacks takes the planes where there are some; a projection stands only where there are none.
    kept = ~stepped if rule == INSTRUMENT else stepped | ~has
    if rule == INSTRUMENT:
        lacking = images[stepped & ~images.assign(top=~stepped).groupby(PLACE)["top"].transform("any")]
        if len(lacking):
            first = lacking.iloc[0]
            raise DatasetError(
                f"{folder}: {len(lacking)} planes have no projection by the instrument, e.g. {first[WELL]} "
                f"channel {first['Channel']}; use --projection max, mean or none:Z"
            )
    columns = [*PLACE, "URI", "Plane", "Z"]
    return images.loc[kept, columns].reset_index(drop=True), images.loc[~kept, "name"].tolist()


def _channels(rows: list[dict[str, Any]]) -> tuple[Channel, ...]:
    return tuple(Channel(name) for name in sorted({r["Channel"] for r in rows}, key=natural))


def _described(images: pd.DataFrame, names: tuple[str, ...]) -> tuple[tuple[Channel, ...], float | None, int]:
    """Return channels with their illumination settings, the pixel size in µm and the bit depth."""
    channels, sizes, depth = [], [], 16
    for name in names:
        first = images.loc[images["Channel"] == name, "URI"].iloc[0]
        try:
            depth = depth_of(first)
            said = _plane_info(first)
        except BenchError:
            said = {}  # an unreadable file is the check's to report, with all others
        stain = said.get("_IllumSetting_", "")
        channels.append(Channel(name, stain if isinstance(stain, str) else ""))
        size = said.get("spatial-calibration-x")
        if said.get("spatial-calibration-units") == "um" and isinstance(size, float) and size > 0:
            sizes.append(size)
    one = sizes[0] if sizes and len(set(sizes)) == 1 else None
    return tuple(channels), one, depth


def _plane_info(uri: str) -> dict[str, Any]:
    """Return what MetaXpress writes of a plane into its TIFF; empty where it wrote nothing."""
    import tifffile

    with opened(uri) as handle, tifffile.TiffFile(handle) as file:
        said = file.metaseries_metadata if file.is_metaseries else None
        info: dict[str, Any] = (said or {}).get("PlaneInfo", {})
        return info
