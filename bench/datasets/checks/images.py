"""Checks of the image table, and of the images themselves."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.datasets.checks.finding import Finding, finding
from bench.datasets.tables import PLATE, SITE, WELL, is_remote, natural, shorten
from bench.errors import BenchError
from bench.settings import usable_cores
from bench.words import count

if TYPE_CHECKING:
    from bench.datasets.model import Dataset

_SITE = [PLATE, WELL, SITE]
_THREADS = 8


def check_images(dataset: Dataset) -> list[Finding]:
    """Return what the image table says wrongly, and which files are missing; no file is opened."""
    images, wells = dataset.images, dataset.wells
    if images is None:
        return []
    file = dataset.files["images"]
    out = _duplicates(file, images)
    declared = [c.name for c in dataset.channels]
    stacked = np.flatnonzero(images.duplicated([*_SITE, "Channel"], keep=False).to_numpy())
    if "Z" in images.columns and stacked.size and not dataset.projection:
        remedy = 'set projection = "max" or "mean" under [images] of dataset.toml, or keep one plane'
        out.append(finding("error", "no-projection", file, "channels are z-stacks", remedy, stacked))
    unknown = np.flatnonzero(~images["Channel"].isin(declared).to_numpy())
    if unknown.size:
        found = sorted(set(images["Channel"].iloc[unknown]))
        what = f"channels that dataset.toml does not name: {shorten(found)}"
        out.append(finding("error", "unknown-channel", file, what, f"use {shorten(declared)}", unknown))
    out += _channels(file, images, declared)
    local = [(i, u) for i, u in enumerate(images["URI"]) if not is_remote(u)]
    there = {u: _there(u) for u in {u for _, u in local}}
    missing = [(i, u) for i, u in local if not there[u]]
    if missing:
        what = f"{count(len(missing), 'image', 'are')} missing: {_names(dataset, [u for _, u in missing])}"
        remedy = "restore the files or correct URI"
        out.append(finding("error", "missing-file", file, what, remedy, (i for i, _ in missing)))
    known, pictured = (set(zip(f[PLATE], f[WELL], strict=True)) for f in (wells, images))
    lonely = [
        i for i, place in enumerate(zip(images[PLATE], images[WELL], strict=True)) if place not in known
    ]
    if lonely:
        places = {f"{images[PLATE].iloc[i]}/{images[WELL].iloc[i]}" for i in lonely}
        what = (
            f"{count(len(places), 'well with images', 'have')} no row in the wells table: {_places(places)}"
        )
        out.append(finding("warning", "image-without-well", file, what, "add the wells", lonely))
    bare = [i for i, place in enumerate(zip(wells[PLATE], wells[WELL], strict=True)) if place not in pictured]
    if bare:
        what = f"{count(len(bare), 'well', 'have')} no image: "
        what += _places({f"{wells[PLATE].iloc[i]}/{wells[WELL].iloc[i]}" for i in bare})
        remedy = "add their images, or drop the wells"
        out.append(finding("warning", "well-without-image", dataset.files["wells"], what, remedy, bare))
    return out


def _there(uri: str) -> bool:
    from bench.imaging.zarrs import is_array

    return Path(uri).is_dir() if is_array(uri) else Path(uri).is_file()


def _duplicates(file: str, images: pd.DataFrame) -> list[Finding]:
    out = []
    one = [*_SITE, "Channel", *(["Z"] if "Z" in images.columns else [])]
    twice = np.flatnonzero(images.duplicated(one, keep=False).to_numpy())
    if twice.size:
        what = "a site has several images of one channel"
        out.append(finding("error", "duplicate-image", file, what, "keep one, or number the sites", twice))
    part = ["Region"] if "Region" in images.columns else []
    shared = np.flatnonzero(images.duplicated(["URI", "Plane", *part], keep=False).to_numpy())
    shared = np.setdiff1d(shared, twice)
    if shared.size:
        what = "one plane of one file stands for several places: the same pixels would be counted twice"
        out.append(finding("error", "shared-image", file, what, "correct URI and Plane", shared))
    return out


def _channels(file: str, images: pd.DataFrame, declared: list[str]) -> list[Finding]:
    known = images[images["Channel"].isin(declared)]
    counts = known.groupby(_SITE)["Channel"].nunique()
    short = counts.index[counts < len(declared)]
    if not len(short):
        return []
    first = known.set_index(_SITE).loc[[short[0]], "Channel"]
    lacking = [c for c in declared if c not in set(first)]
    keys = set(short)
    rows = [i for i, place in enumerate(zip(*(images[c] for c in _SITE), strict=True)) if place in keys]
    what = (
        f"{count(len(short), 'site', 'have')} fewer than {len(declared)} channels; "
        f"{'/'.join(short[0])} lacks {shorten(lacking)}"
    )
    return [finding("error", "missing-channel", file, what, "add the images or drop the sites", rows)]


@dataclass(frozen=True)
class _Plane:
    """What one plane is like, or why it cannot be read."""

    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: float = 0.0
    high: float = 0.0
    finite: bool = True
    reason: str = ""


def check_pixels(dataset: Dataset, report: Callable[[str, int, int], None]) -> list[Finding]:
    """Decode every plane once and return what is unreadable or unlike what ``dataset.toml`` says."""
    images = dataset.images
    if images is None:
        return []
    rows = [
        i for i, u in enumerate(images["URI"]) if is_remote(u) or _there(u)
    ]  # missing files are reported from the table
    planes: dict[int, _Plane] = {}
    report("images", 0, len(rows))
    with ThreadPoolExecutor(min(_THREADS, usable_cores())) as pool:
        parts = images["Region"] if "Region" in images.columns else pd.Series([""] * len(images))
        work = pool.map(_look, images["URI"].iloc[rows], images["Plane"].iloc[rows], parts.iloc[rows])
        for done, (row, plane) in enumerate(zip(rows, work, strict=True), 1):
            planes[row] = plane
            report("images", done, len(rows))
    file = dataset.files["images"]
    out: list[Finding] = []
    broken = [i for i, p in planes.items() if p.reason]
    if broken:
        what = f"{count(len(broken), 'image')} cannot be read: " + "; ".join(
            planes[i].reason for i in broken[:3]
        )
        what += f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
        remedy = "copy the files again from the microscope, or drop their rows"
        out.append(finding("error", "unreadable-image", file, what, remedy, broken))
    good = {i: p for i, p in planes.items() if not p.reason}
    out += _depth(dataset, file, good)
    by_site: dict[tuple[str, ...], list[int]] = {}
    for i in good:
        by_site.setdefault(tuple(images[c].iloc[i] for c in _SITE), []).append(i)
    uneven = [i for group in by_site.values() if len({good[j].shape for j in group}) > 1 for i in group]
    if uneven:
        what = f"channels of one site differ in size, e.g. {good[uneven[0]].shape}"
        out.append(finding("error", "uneven-size", file, what, "register or drop the site", uneven))
    out += _plates(dataset, file, good)
    blank = [i for i, p in good.items() if p.low == p.high]
    if blank:
        names = _names(dataset, images["URI"].iloc[blank])
        what = f"{count(len(blank), 'image', 'have')} one grey level only: {names}"
        out.append(finding("warning", "blank-image", file, what, "check the exposure and the plane", blank))
    return out


def _plates(dataset: Dataset, file: str, planes: dict[int, _Plane]) -> list[Finding]:
    """Return images that have another size than most of their plate, where one flat field is for all."""
    if dataset.imaging.get("illumination", "none") == "none" or dataset.images is None:
        return []
    by_plate: dict[str, list[int]] = {}
    for i in planes:
        by_plate.setdefault(str(dataset.images[PLATE].iloc[i]), []).append(i)
    odd: list[int] = []
    for rows in by_plate.values():
        shapes = [planes[i].shape for i in rows]
        usual = max(sorted(set(shapes)), key=shapes.count)
        odd += [i for i in rows if planes[i].shape != usual]
    if not odd:
        return []
    what = f"{count(len(odd), 'image', 'have')} another size than their plate, which has one flat field"
    return [finding("error", "uneven-plate", file, what, "leave the fields out, or make two plates", odd)]


def _look(uri: str, plane: int, region: str) -> _Plane:
    from bench.imaging.stored import read_region

    try:
        pixels = read_region(uri, int(plane), region)
    except BenchError as error:
        return _Plane(reason=str(error))
    if pixels.ndim != 2 or pixels.size == 0:
        return _Plane(reason=f"{uri}: plane {plane} has shape {pixels.shape}, not height and width")
    low, high = float(pixels.min()), float(pixels.max())
    return _Plane(pixels.shape, pixels.dtype.name, low, high, bool(np.isfinite([low, high]).all()))


def _depth(dataset: Dataset, file: str, planes: dict[int, _Plane]) -> list[Finding]:
    """Return planes whose type or grey levels do not fit the declared bit depth."""
    depth = dataset.bit_depth
    kind = "f" if depth == 32 else "u"
    bits = 8 if depth == 8 else 16
    out = []
    wrong = [
        i
        for i, p in planes.items()
        if np.dtype(p.dtype).kind != kind or (kind == "u" and np.dtype(p.dtype).itemsize * 8 != bits)
    ]
    if wrong:
        seen = sorted({planes[i].dtype for i in wrong})
        what = f"{count(len(wrong), 'image', 'are')} {shorten(seen)}, which bit_depth = {depth} is not"
        remedy = "correct bit_depth in dataset.toml, or convert the images"
        out.append(finding("error", "wrong-type", file, what, remedy, wrong))
    top = 1.0 if kind == "f" else float(2**depth - 1)
    over = [
        i
        for i, p in planes.items()
        if i not in set(wrong) and not (p.finite and p.low >= 0 and p.high <= top)
    ]
    if over:
        peak = max(planes[i].high for i in over)
        what = f"{count(len(over), 'image', 'have')} grey levels outside 0 to {top:g} (up to {peak:g})"
        remedy = "correct bit_depth in dataset.toml; it is the number of significant bits"
        out.append(finding("error", "wrong-bit-depth", file, what, remedy, over))
    return out


def _names(dataset: Dataset, uris: list[str] | pd.Series) -> str:
    root = dataset.root
    return shorten(
        (Path(u).relative_to(root).as_posix() if Path(u).is_relative_to(root) else u for u in uris), 5
    )


def _places(places: set[str]) -> str:
    return shorten(sorted(places, key=natural))
