"""A dataset's images as an ordered stream of fields; the one place where pixels are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.tables import PLATE, SITE, WELL, natural, normalise_well
from bench.errors import DatasetError
from bench.imaging import segment
from bench.imaging.readers import read_plane, reader_for
from featurizers.base import Channel, Field, Need

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset

OnFailure = Callable[[dict[str, Any], str], None]

VERSION = 1
"""Raised when the same settings would give another mask or pixel; part of the feature key."""


@dataclass(frozen=True, slots=True)
class Job:
    """One field to read: its metadata and, per channel, where its plane is (None: no row in the table)."""

    metadata: Mapping[str, Any]
    planes: tuple[tuple[str, int] | None, ...]


class Fields:
    """A :class:`featurizers.base.FieldSource` over a dataset: one field in memory at a time.

    Parameters
    ----------
    dataset
        Whose images.
    jobs
        The fields, in order.
    needs
        What to read of each: ``pixels``, ``objects`` (``position`` and ``latent`` cost nothing).
    on_failure
        Called with the metadata and the reason of a field that cannot be read; the field is skipped.
        None skips it silently.
    """

    def __init__(
        self, dataset: Dataset, jobs: Sequence[Job], needs: frozenset[Need], on_failure: OnFailure | None
    ) -> None:
        self.channels: tuple[Channel, ...] = dataset.channels
        self._bit_depth = dataset.bit_depth
        self._jobs = tuple(jobs)
        self._needs = needs
        self._on_failure = on_failure
        self._config = segment.configure(dataset.imaging)[1]

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Field]:
        for job in self._jobs:
            try:
                field = self._field(job)
            except DatasetError as error:
                if self._on_failure is not None:
                    self._on_failure(dict(job.metadata), str(error))
                continue
            yield field

    def _field(self, job: Job) -> Field:
        if not self._needs & {"pixels", "objects"}:
            return Field(job.metadata, self.channels, bit_depth=self._bit_depth)
        pixels = _pixels(job, self.channels)
        kept = pixels if "pixels" in self._needs else None
        if "objects" not in self._needs:
            return Field(job.metadata, self.channels, kept, bit_depth=self._bit_depth)
        found = self._objects(pixels)
        return Field(
            job.metadata, self.channels, kept, found.masks, found.centres, found.ids, self._bit_depth
        )

    def _objects(self, pixels: NDArray[Any]) -> segment.Objects:
        start = pixels[_first_channel(self.channels, self._config)]
        if isinstance(self._config, segment.OtsuLog):
            return segment.otsu_log(start, pixels, self._config)
        return segment.foreground(start, self._config)


def field_source(
    dataset: Dataset,
    wells: pd.DataFrame | None = None,
    needs: Sequence[Need] = ("pixels",),
    on_failure: OnFailure | None = None,
) -> Fields:
    """Return the fields of a dataset, sorted by plate, well and site (numbers by value).

    A field's metadata is its plate, well and site, and with need ``latent`` the ``Latent_*`` state of its
    well; never the perturbation.

    Parameters
    ----------
    dataset
        Loaded dataset.
    wells
        Rows with ``Metadata_Plate`` and ``Metadata_Well`` to take; None takes all.
    needs
        What will be used of each field; without ``pixels`` and ``objects`` no file is opened.
    on_failure
        Called with metadata and reason of each field that is skipped: a missing or truncated file, a
        channel without a row, planes of unequal shape. None skips silently.

    Raises
    ------
    DatasetError
        When images are needed and the dataset has none, or its segmentation is wrongly set.
    """
    wanted = frozenset(needs)
    if dataset.images is None:
        if wanted & {"pixels", "objects"}:
            raise DatasetError(
                f"dataset {dataset.name!r} has no images; use its profiles, or add an [images] table"
            )
        keys = dataset.wells[[PLATE, WELL]].assign(**{SITE: "1"}) if wells is None else wells[[PLATE, WELL]]
        planes: dict[tuple[str, str, str], dict[str, tuple[str, int]]] = {
            (str(p), normalise_well(str(w)), "1"): {} for p, w in zip(keys[PLATE], keys[WELL], strict=True)
        }
    else:
        planes = _planes(dataset.images, wells)
    if "objects" in wanted:
        _first_channel(dataset.channels, segment.configure(dataset.imaging)[1])
    latent = _latent(dataset) if "latent" in wanted else {}
    jobs = []
    for key in sorted(planes, key=lambda k: tuple(natural(part) for part in k)):
        plate, well, site = key
        metadata = {PLATE: plate, WELL: well, SITE: site, **latent.get((plate, well), {})}
        jobs.append(Job(metadata, tuple(planes[key].get(c.name) for c in dataset.channels)))
    return Fields(dataset, jobs, wanted, on_failure)


def preprocessing_key(dataset: Dataset) -> dict[str, Any]:
    """Return everything that can change a pixel or a mask: readers, segmentation, its settings, versions."""
    method, config = segment.configure(dataset.imaging)
    readers: dict[str, str] = {}
    if dataset.images is not None:
        suffixes = {uri.rpartition(".")[2].lower(): uri for uri in sorted(dataset.images["URI"].unique())}
        for uri in suffixes.values():
            name, reader = reader_for(uri)
            readers[name] = reader.version
    return {
        "version": VERSION,
        "readers": dict(sorted(readers.items())),
        "segmentation": {"method": method, **asdict(config)},
        "bit_depth": dataset.bit_depth,
        "channels": [[c.name, c.role] for c in dataset.channels],
    }


def _planes(
    images: pd.DataFrame, wells: pd.DataFrame | None
) -> dict[tuple[str, str, str], dict[str, tuple[str, int]]]:
    """Return (plate, well, site) to channel to (URI, plane)."""
    chosen = (
        None
        if wells is None
        else {(str(p), normalise_well(str(w))) for p, w in zip(wells[PLATE], wells[WELL], strict=True)}
    )
    found: dict[tuple[str, str, str], dict[str, tuple[str, int]]] = {}
    columns = (images[c] for c in (PLATE, WELL, SITE, "Channel", "URI", "Plane"))
    for plate, name, site, channel, uri, plane in zip(*columns, strict=True):
        well = normalise_well(str(name))
        if chosen is None or (str(plate), well) in chosen:
            found.setdefault((str(plate), well, str(site)), {})[str(channel)] = (str(uri), int(plane))
    return found


def _latent(dataset: Dataset) -> dict[tuple[str, str], dict[str, float]]:
    if dataset.latent is None:
        raise DatasetError(f"dataset {dataset.name!r} has no latent table; only a simulated screen has one")
    columns = [c for c in dataset.latent.columns if c.startswith("Latent_")]
    keys = zip(dataset.latent[PLATE], dataset.latent[WELL], strict=True)
    values = dataset.latent[columns].to_numpy(float)
    return {
        (str(p), normalise_well(str(w))): dict(zip(columns, map(float, row), strict=True))
        for (p, w), row in zip(keys, values, strict=True)
    }


def _pixels(job: Job, channels: tuple[Channel, ...]) -> NDArray[Any]:
    planes: list[NDArray[Any]] = []
    for channel, place in zip(channels, job.planes, strict=True):
        if place is None:
            raise DatasetError(
                f"the images table has no row for channel {channel.name!r} of this field; add it, or leave "
                "the field out"
            )
        uri, index = place
        plane = read_plane(uri, index)
        if plane.ndim != 2:
            raise DatasetError(f"{uri}: its reader gave an array of shape {plane.shape}, not one 2-D plane")
        if planes and plane.shape != planes[0].shape:
            raise DatasetError(
                f"{uri}: channel {channel.name!r} has {plane.shape[0]} x {plane.shape[1]} pixels, channel "
                f"{channels[0].name!r} of the same field {planes[0].shape[0]} x {planes[0].shape[1]}; "
                "all channels of a field must have one size"
            )
        planes.append(plane)
    return np.stack(planes)


def _first_channel(channels: tuple[Channel, ...], config: segment.Config) -> int:
    """Return the index of the channel that the segmentation starts from."""
    names = [c.name for c in channels]
    if isinstance(config, segment.Foreground):
        wanted = config.channel or names[0]
        if wanted not in names:
            raise DatasetError(
                f"dataset.toml [imaging]: there is no channel {wanted!r}; channels: {', '.join(names)}"
            )
        return names.index(wanted)
    for i, channel in enumerate(channels):
        if channel.role == "nucleus":
            return i
    raise DatasetError(
        'no channel has role = "nucleus", which otsu-log starts from; mark one in dataset.toml, or '
        'set method = "foreground" under [imaging]'
    )
