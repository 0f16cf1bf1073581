"""A dataset from spatial transcriptomics: one large image per section, spots on it, and counts per spot.

A unit is a spot: its field is the square around it, cut from the section's image when it is read
(``Region`` in the images table), ``Metadata_Plate`` is the section and ``Metadata_Well`` the spot. The spot
table names each spot by its place in the array (``x``, ``y``; the counts' rows are called ``{x}x{y}``) and by
its centre in the image (``pixel_x`` column, ``pixel_y`` row), as the legacy Spatial Transcriptomics pipeline
writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.places import absolute, below, is_file, walk
from bench.datasets.platemap import About
from bench.datasets.tables import PLATE, SITE, WELL, natural, read_frame, shorten
from bench.datasets.writer import Found, Measured, Screen, depth_of, write
from bench.errors import DatasetError, UsageError
from featurizers.base import Channel

SECTION, PATIENT = "Metadata_Section", "Metadata_Patient"
_NEEDED = ("x", "y", "pixel_x", "pixel_y")
_WORD = "{section}"


@dataclass(frozen=True, kw_only=True)
class Spatial(About):
    """What :func:`from_spatial` is told, besides what is known about the screen.

    Parameters
    ----------
    folder
        Holds images, spots and counts; a path or an fsspec URI.
    images, spots, counts
        Paths below the folder, with ``{section}`` for the section's name.
    channels
        Names of the image's bands, in their order.
    patch
        Edge of the square around a spot, pixels.
    patient
        Regular expression with one group, searched in a section's name: the patient. Empty: not known.
    genes
        ``shared``: the genes that every section's counts name. ``all``: those that any names; where one does
        not, it counted none.
    """

    folder: str | Path
    images: str = "images/{section}.jpg"
    spots: str = "spots/{section}_selection.tsv"
    counts: str = "counts/{section}.tsv.gz"
    channels: tuple[str, ...] = ("R", "G", "B")
    patch: int = 224
    patient: str = ""
    genes: str = "shared"
    perturbation: str = SECTION
    imaging: str = "whole"


def from_spatial(source: Spatial, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie (:func:`bench.datasets.writer.write`).

    Spots without counts, counts without a spot and spots whose square reaches beyond the image are left out
    and named.

    Raises
    ------
    DatasetError, UsageError
        When there is no section, a table lacks a column or holds no numbers, or nothing is left.
    """
    patient = _checked(source)
    folder = absolute(source.folder)
    rows: list[pd.DataFrame] = []
    known: list[pd.DataFrame] = []
    counts: list[pd.DataFrame] = []
    skipped: list[str] = []
    sections = _sections(source, folder)
    for section in sections:
        image = below(folder, source.images.replace(_WORD, section))
        spots, left = _spots(source, folder, section, image)
        table = _counts(below(folder, source.counts.replace(_WORD, section)))
        bare = [name for name in spots.index if name not in table.index]
        homeless = [name for name in table.index if name not in spots.index and name not in left]
        spots = spots.drop(index=bare)
        skipped += [f"{section}/{name} {why}" for name, why in left.items()]
        skipped += [f"{section}/{name} has no counts" for name in bare]
        skipped += [f"{section}/{name} has counts and no spot" for name in homeless]
        if spots.empty:
            continue
        rows.append(_images(section, image, spots, source))
        known.append(_known(section, spots, patient))
        own = table.loc[spots.index].reset_index(drop=True)
        own.insert(0, PLATE, section)
        own.insert(1, WELL, list(spots.index))
        counts.append(own)
    if not rows:
        raise DatasetError(f"{source.folder}: no spot has counts and lies inside its image; {skipped[0]}")
    images = pd.concat(rows, ignore_index=True)
    genes = _genes([frame.columns[2:] for frame in counts], source)
    layer = pd.concat([frame.reindex(columns=[PLATE, WELL, *genes]) for frame in counts], ignore_index=True)
    layer[genes] = layer[genes].fillna(0.0).astype(np.float32)
    screen = Screen(
        images=images,
        channels=tuple(Channel(name, "H&E" if len(source.channels) == 3 else "") for name in source.channels),
        origin=f"squares of {source.patch} pixels around the spots of {len(rows)} sections",
        apart="give each spot one row",
        bit_depth=depth_of(images["URI"].iloc[0]),
        skipped=tuple(skipped),
        known=pd.concat(known, ignore_index=True),
        measured=(Measured("expression", layer, "abundance", "counts", (PLATE, WELL), "raw counts"),),
    )
    return write(screen, source, out)


def _checked(source: Spatial) -> re.Pattern[str] | None:
    """Return the compiled pattern of patients; refuse settings that mean nothing."""
    for name in ("images", "spots", "counts"):
        if getattr(source, name).count(_WORD) != 1:
            raise UsageError(f"--{name} {getattr(source, name)!r} needs {_WORD} once")
    if source.patch < 1:
        raise UsageError(f"--patch {source.patch} is no size of a square; write 1 or more pixels")
    if source.genes not in ("shared", "all"):
        raise UsageError(f"--genes {source.genes!r} is none of shared, all")
    if not source.patient:
        return None
    try:
        pattern = re.compile(source.patient)
    except re.error as error:
        raise UsageError(f"--patient {source.patient} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise UsageError(
            f"--patient {source.patient} has {pattern.groups} groups; the patient is one: ([A-Z])"
        )
    return pattern


def _sections(source: Spatial, folder: str) -> list[str]:
    """Return the sections that have a spot table, in natural order."""
    before, after = source.spots.split(_WORD)
    names = [n for n in walk(folder) if n.startswith(before) and n.endswith(after)]
    found = [n[len(before) : len(n) - len(after)] for n in names]
    found = sorted((s for s in found if s and "/" not in s), key=natural)
    if not found:
        raise DatasetError(f"{source.folder}: no file {source.spots}; name the spot tables with --spots")
    for section in found:
        for pattern in (source.images, source.counts):
            place = below(folder, pattern.replace(_WORD, section))
            if not is_file(place):
                raise DatasetError(f"{place} is not there, and section {section} has spots; restore it")
    return found


def _spots(source: Spatial, folder: str, section: str, image: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return spots by name with ``x, y, left, top``, and the reason of each that is left out."""
    from bench.imaging.readers import reader_for

    file = below(folder, source.spots.replace(_WORD, section))
    frame = read_frame(file)
    absent = [c for c in _NEEDED if c not in frame.columns]
    if absent:
        raise DatasetError(f"{file}: no column {shorten(absent)}; a spot has {', '.join(_NEEDED)}")
    numbers = frame[list(_NEEDED)].apply(pd.to_numeric, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(np.float64)).all(axis=1))
    if bad.size:
        raise DatasetError(f"{file}, row {bad[0] + 1}: {', '.join(_NEEDED)} are not all numbers; correct it")
    names = [f"{x:g}x{y:g}" for x, y in zip(numbers["x"], numbers["y"], strict=True)]
    twice = sorted({n for n in names if names.count(n) > 1}, key=natural)
    if twice:
        raise DatasetError(f"{file}: spots occur twice: {shorten(twice)}; keep one row each")
    probed = reader_for(image)[1].probe(image)
    if probed.planes != len(source.channels):
        raise DatasetError(
            f"{image} has {probed.planes} bands and --channels names {len(source.channels)}; name each band"
        )
    height, width = probed.shape
    half = source.patch / 2
    corner = np.floor(numbers[["pixel_x", "pixel_y"]].to_numpy() - half + 0.5).astype(np.int64)
    out = pd.DataFrame(
        {"x": frame["x"].astype(str), "y": frame["y"].astype(str), "left": corner[:, 0], "top": corner[:, 1]}
    ).set_index(pd.Index(names))
    outside = (corner < 0).any(axis=1) | (corner + source.patch > (width, height)).any(axis=1)
    left = {n: "reaches beyond the image" for n, o in zip(names, outside, strict=True) if o}
    chosen = np.ones(len(frame), np.bool_)
    if "selected" in frame.columns:
        chosen = (pd.to_numeric(frame["selected"], errors="coerce") == 1).to_numpy()
        left |= {n: "is not selected" for n, c in zip(names, chosen, strict=True) if not c}
    return out[~outside & chosen], left


def _counts(file: str) -> pd.DataFrame:
    """Return (spots, genes) of counts; the first column names the spots."""
    frame = read_frame(file)
    first = frame.columns[0]
    names = [str(n) for n in frame[first]]
    values = frame.drop(columns=first)
    text = [c for c in values.columns if not pd.api.types.is_numeric_dtype(values[c])]
    if text or not len(values.columns):
        what = f"{shorten(text, 3)} holds text" if text else "there is one column only"
        raise DatasetError(f"{file}: {what}; rows are spots, columns genes, fields counts")
    twice = sorted({n for n in names if names.count(n) > 1}, key=natural)
    if twice:
        raise DatasetError(f"{file}: spots occur twice: {shorten(twice)}; keep one row each")
    return values.set_index(pd.Index(names))


def _images(section: str, image: str, spots: pd.DataFrame, source: Spatial) -> pd.DataFrame:
    regions = [
        f"{x},{y},{source.patch},{source.patch}" for x, y in zip(spots["left"], spots["top"], strict=True)
    ]
    rows = [
        (section, name, "1", channel, image, plane, region)
        for name, region in zip(spots.index, regions, strict=True)
        for plane, channel in enumerate(source.channels)
    ]
    return pd.DataFrame(rows, columns=[PLATE, WELL, SITE, "Channel", "URI", "Plane", "Region"])


def _known(section: str, spots: pd.DataFrame, patient: re.Pattern[str] | None) -> pd.DataFrame:
    columns: Mapping[str, object] = {
        PLATE: section,
        WELL: list(spots.index),
        SECTION: section,
        "Metadata_x": list(spots["x"]),
        "Metadata_y": list(spots["y"]),
    }
    out = pd.DataFrame(columns)
    if patient is None:
        return out
    match = patient.search(section)
    if match is None or not match[1]:
        raise DatasetError(f"section {section!r}: --patient {patient.pattern} does not match its name")
    return out.assign(**{PATIENT: match[1]})


def _genes(named: list[pd.Index], source: Spatial) -> list[str]:
    """Return the genes of the layer in the order in which they are first named."""
    every = list(dict.fromkeys(gene for names in named for gene in names))
    if source.genes == "all":
        return every
    common = set(named[0]).intersection(*named[1:])
    if not common:
        raise DatasetError(f"{source.folder}: no gene is counted in every section; take --genes all")
    return [gene for gene in every if gene in common]
