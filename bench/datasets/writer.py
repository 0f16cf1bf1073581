"""The one writer of all adapters: what was found in a folder or an index becomes a dataset folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.model import Rule
from bench.datasets.platemap import About, readout_frame, sound, wells_of
from bench.datasets.scaffold import fresh, write_toml
from bench.datasets.tables import PLATE, SITE, WELL, is_remote, natural, shorten
from bench.errors import DatasetError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from featurizers.base import Channel

PLACE = [PLATE, WELL, SITE, "Channel"]
IMAGE_COLUMNS = [*PLACE, "URI", "Plane"]


@dataclass(frozen=True)
class Measured:
    """Readouts that the images came with: a layer of that name, its table written as Parquet."""

    name: str
    frame: pd.DataFrame
    kind: str
    scale: str
    key: tuple[str, ...]
    prepared: str


@dataclass(frozen=True)
class Screen:
    """The images that an adapter found.

    Parameters
    ----------
    images
        One row per image plane: :data:`IMAGE_COLUMNS` with absolute paths or URIs, and ``Z`` (text) where
        several planes of one channel of one site are a z-stack.
    channels
        In the order in which featurizers see them.
    origin
        One line that says how the images were found; a comment in ``dataset.toml``.
    apart
        What to do when two images claim one place.
    skipped
        Files that are no images of the screen: thumbnails, other time points, names that do not match.
    known
        Further ``Metadata_`` columns by plate and well that the index holds.
    illumination
        ``Metadata_Plate``, ``Channel``, ``URI`` of illumination functions.
    functions
        Illumination functions to be written as ``.npy``, by their path in the new folder.
    measured
        Layers of readouts, besides the tables that the user names.
    """

    images: pd.DataFrame
    channels: tuple[Channel, ...]
    origin: str
    apart: str
    bit_depth: int = 16
    pixel_size_um: float | None = None
    projection: Rule = ""
    skipped: tuple[str, ...] = ()
    known: pd.DataFrame | None = None
    illumination: pd.DataFrame | None = None
    functions: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Found:
    """What came of it: images, wells, files left aside, image files that the index names and are absent."""

    folder: Path
    images: int
    wells: int
    unmatched: tuple[str, ...]
    wells_without_row: tuple[str, ...]
    absent: tuple[str, ...] = ()


def write(screen: Screen, about: About, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie.

    Parameters
    ----------
    out
        New or empty folder; gets ``dataset.toml``, ``images.csv``, ``wells.csv``, a CSV per readout table, a
        Parquet file per layer of ``measured``, and ``illumination.csv`` if there are such functions. Nothing
        is written when something is wrong.

    Raises
    ------
    DatasetError, UsageError
        When two images claim one place, every image is absent, a z-stack has no rule, a table is wrong, or
        ``out`` holds files.
    """
    screen = _named(screen, about)
    images = screen.images
    one = [*PLACE, *(["Z"] if "Z" in images.columns else [])]
    twice = images.duplicated(one)
    if twice.any():
        first = images[twice].iloc[0]
        raise DatasetError(
            f"{first['URI']}: a second image of {first[PLATE]}/{first[WELL]}, site {first[SITE]}, channel "
            f"{first['Channel']}; {screen.apart}"
        )
    absent = _absent(images)
    sound(about)
    plates = list(dict.fromkeys(images[PLATE]))
    layers = [(table, readout_frame(table, about, plates)) for table in about.readouts]
    wells, lonely = wells_of(about, images, screen.known)
    fresh(out)
    tables = {"images": _relative(images, out), "wells": wells, **{t.name: f for t, f in layers}}
    if screen.illumination is not None:
        tables["illumination"] = _relative(screen.illumination, out)
    for place, function in screen.functions.items():
        (out / place).parent.mkdir(exist_ok=True)
        np.save(out / place, function, allow_pickle=False)
    for name, frame in tables.items():
        frame.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
    for layer in screen.measured:
        layer.frame.to_parquet(out / f"{layer.name}.parquet", index=False)
    write_toml(out, screen, about)
    return Found(out, len(images), len(wells), screen.skipped, lonely, absent)


def in_order(images: pd.DataFrame, channels: tuple[Channel, ...]) -> pd.DataFrame:
    """Return images sorted by plate, well, site (numbers by value), channel and plane of the stack."""
    rank = {c.name: i for i, c in enumerate(channels)}
    columns = [images[c].tolist() for c in (PLATE, WELL, SITE, "Channel")]
    depth = images["Z"].tolist() if "Z" in images.columns else [""] * len(images)
    keys = [
        (natural(p), natural(w), natural(s), rank[c], natural(z))
        for p, w, s, c, z in zip(*columns, depth, strict=True)
    ]
    return images.iloc[sorted(range(len(keys)), key=keys.__getitem__)].reset_index(drop=True)


def flattened(images: pd.DataFrame, rule: str, *, what: str) -> tuple[pd.DataFrame, Rule]:
    """Apply ``--projection``: keep the stacks and name the rule, or choose one plane of each.

    Parameters
    ----------
    images
        With a column ``Z``.
    rule
        ``max``, ``mean``, ``none:Z`` (plane Z of each stack) or empty.

    Returns
    -------
    The images, without ``Z`` where no stack is left, and the rule for ``dataset.toml``.

    Raises
    ------
    UsageError
        When there are stacks and no rule, or the rule is unknown.
    DatasetError
        When no stack has that plane.
    """
    kind, _, plane = rule.partition(":")
    if rule and rule not in ("max", "mean") and not (kind == "none" and plane):
        raise UsageError(f"--projection {rule!r} is none of max, mean, none:Z (e.g. none:3)")
    stacked = images.duplicated(PLACE, keep=False)
    if not stacked.any():
        return images.drop(columns="Z"), ""
    depths = sorted(set(images.loc[stacked, "Z"]), key=natural)
    if not rule:
        raise UsageError(
            f"{what}: channels are z-stacks (planes {shorten(depths)}); name a rule: --projection max, "
            f"mean, or none:{depths[len(depths) // 2]} for one plane"
        )
    if kind != "none":
        return images, "max" if rule == "max" else "mean"
    chosen = images[~stacked | (images["Z"] == plane)].reset_index(drop=True)
    if plane not in depths:
        raise DatasetError(f"{what}: no stack has a plane {plane}; planes are {shorten(depths)}")
    return chosen.drop(columns="Z"), ""


def renamed(found: tuple[Channel, ...], names: tuple[str, ...], what: str) -> dict[str, str]:
    """Return the channels' own names to those given, by position; without names they stay."""
    if not names:
        return {c.name: c.name for c in found}
    if len(names) != len(found):
        raise UsageError(
            f"{what} has {len(found)} channels ({shorten(c.name for c in found)}) and --channels names "
            f"{len(names)}; name all in this order"
        )
    return {c.name: n for c, n in zip(found, names, strict=True)}


def depth_of(uri: str) -> int:
    """Return the bits per grey level that an image's type has: 8, 16, or 32 for floats."""
    from bench.imaging.readers import reader_for

    dtype = reader_for(uri)[1].probe(uri).dtype
    return {"uint8": 8, "uint16": 16}.get(dtype, 32)


def first_depth(images: pd.DataFrame) -> int:
    """Return :func:`depth_of` the first image that can be opened of the first three; 16 where none can."""
    for uri in images["URI"].unique()[:3]:
        try:
            return depth_of(uri)
        except DatasetError:
            continue
    return 16


def at_timepoint(
    rows: list[dict[str, Any]], wanted: str, what: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of one time point (their ``time``) and the ``name`` of those of the others.

    Raises
    ------
    UsageError
        When there are several and none is chosen, or there is none of that name.
    """
    times = sorted({r["time"] for r in rows}, key=natural)
    if len(times) > 1 and wanted not in times:
        raise UsageError(
            f"{what}: there are time points {shorten(times)}; choose one with --timepoint {times[-1]}"
        )
    if wanted and wanted not in times:
        raise UsageError(f"{what}: there is no time point {wanted}, only {times[0] or 'one'}")
    chosen = wanted or times[0]
    return [r for r in rows if r["time"] == chosen], [r["name"] for r in rows if r["time"] != chosen]


def _named(screen: Screen, about: About) -> Screen:
    """Return the screen with the role of its nuclear channel."""
    if about.nucleus and about.nucleus not in [c.name for c in screen.channels]:
        raise UsageError(
            f"--nucleus {about.nucleus!r} is none of the channels {shorten(c.name for c in screen.channels)}"
        )
    return replace(
        screen,
        channels=tuple(replace(c, role="nucleus") if c.name == about.nucleus else c for c in screen.channels),
    )


def _absent(images: pd.DataFrame) -> tuple[str, ...]:
    """Return local files that are not there; all of them is an error."""
    uris = list(dict.fromkeys(images["URI"]))
    gone = [u for u in uris if not is_remote(u) and not Path(u).exists()]
    if len(gone) == len(uris):
        raise DatasetError(
            f"none of the {len(uris)} images is there, e.g. {gone[0]}; restore them, or say where they lie "
            "now with --rebase OLD=NEW"
        )
    return tuple(gone)


def _relative(table: pd.DataFrame, out: Path) -> pd.DataFrame:
    uris = [u if is_remote(u) else os.path.relpath(u, out) for u in table["URI"]]
    return table.assign(URI=uris)
