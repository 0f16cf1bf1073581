"""A dataset's images as an ordered stream of fields; the one place where pixels are read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.datasets.tables import PLATE, SITE, WELL, normalise_well
from bench.errors import DatasetError
from bench.imaging import (
    illumination,
    plates,
    quality,
    segment,
    segment_cellpose,
    segment_masks,
    segment_watershed,
    settings,
    standardise,
)
from bench.imaging.configs import TABLE
from bench.imaging.labels import Objects
from bench.imaging.planes import Job, in_order, raw_pixels
from bench.imaging.plates import Estimates, PlateStatistics, negative_controls
from bench.imaging.readers import reader_for
from bench.imaging.stored import Place, Stored, key_of, planes_of
from featurizers.base import Channel, Field, Need

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset

OnFailure = Callable[[dict[str, Any], str], None]
OnQuality = Callable[[dict[str, Any], dict[str, float]], None]

VERSION = 2
"""Raised when the same settings would give another mask or pixel; part of the feature key."""


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
    on_quality
        Called with the metadata and the measures of :func:`bench.imaging.quality.measure` of each field whose
        pixels are read. None measures nothing.
    statistics
        Gives what was estimated over a plate's fields; None estimates it here when it is first needed.
    """

    def __init__(
        self,
        dataset: Dataset,
        jobs: Sequence[Job],
        needs: frozenset[Need],
        on_failure: OnFailure | None = None,
        on_quality: OnQuality | None = None,
        statistics: Callable[[str], PlateStatistics] | None = None,
    ) -> None:
        self.channels: tuple[Channel, ...] = dataset.channels
        self._bit_depth = dataset.bit_depth
        self._root = dataset.root
        self._jobs = tuple(jobs)
        self._needs = needs
        self._on_failure, self._on_quality = on_failure, on_quality
        self._imaging = settings.read(dataset.imaging)
        self._statistics = statistics or Estimates(dataset)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def metadata(self) -> tuple[dict[str, Any], ...]:
        """What is known of each field before it is read, in order."""
        return tuple(dict(job.metadata) for job in self._jobs)

    def select(self, chosen: Sequence[int], on_failure: OnFailure | None = None) -> Fields:
        """Return the fields at these places, in the order given; a place may be named twice."""
        other = copy.copy(self)
        other._jobs = tuple(self._jobs[place] for place in chosen)
        other._on_failure, other._on_quality = on_failure, None
        return other

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
        pixels, bits = self._pixels(job)
        found = self._objects(job, pixels) if "objects" in self._needs else Objects.empty()
        if self._imaging.standardise is not None and "pixels" in self._needs:
            pixels, bits = standardise.standardise(pixels, self._moments(job, pixels)), 32
        kept = pixels if "pixels" in self._needs else None
        return Field(job.metadata, self.channels, kept, found.masks, found.centres, found.ids, bits)

    def _pixels(self, job: Job) -> tuple[NDArray[Any], int]:
        """Return the pixels of a field, its flat field divided out, and their bit depth."""
        pixels = raw_pixels(job, self.channels)
        top = full_scale(pixels, self._bit_depth)
        if self._on_quality is not None:
            names = tuple(c.name for c in self.channels)
            self._on_quality(dict(job.metadata), quality.measure(pixels, names, top))
        config = self._imaging.illumination
        if config is None:
            return pixels, self._bit_depth
        flat = self._statistics(str(job.metadata[PLATE])).flat
        assert flat is not None
        return illumination.correct(pixels, flat, config.rescale, top), 32

    def _moments(self, job: Job, pixels: NDArray[Any]) -> NDArray[np.float64]:
        if isinstance(self._imaging.standardise, standardise.ByField):
            return standardise.moments([pixels])
        by_plate = self._statistics(str(job.metadata[PLATE])).moments
        assert by_plate is not None
        return by_plate

    def _objects(self, job: Job, pixels: NDArray[Any]) -> Objects:
        config = self._imaging.segmentation
        names = tuple(c.name for c in self.channels)
        if isinstance(config, segment_masks.Masks):
            found = segment_masks.files(config, job, names, self._root)
            return segment_masks.masks(found, pixels.shape[1:], config)
        if isinstance(config, segment_cellpose.Cellpose):
            used = segment_cellpose.check(config, names, self._root)
            return segment_cellpose.cellpose(pixels[used], config, self._root)
        if isinstance(config, segment.Whole):
            return segment.whole(pixels.shape[1:])
        start = pixels[start_channel(self.channels, config)]
        if isinstance(config, segment.OtsuLog):
            return segment.otsu_log(start, pixels, config)
        if isinstance(config, segment_watershed.Watershed):
            name = config.cell_channel
            stains = pixels[names.index(name)][None] if name else pixels
            return segment_watershed.otsu_watershed(start, stains, config)
        return segment.foreground(start, config)


def full_scale(pixels: NDArray[Any], bit_depth: int) -> float:
    """Return the grey level of a saturated pixel: 2^b - 1, or 1 for float images."""
    return 1.0 if pixels.dtype.kind == "f" else 2.0**bit_depth - 1.0


def field_source(
    dataset: Dataset,
    wells: pd.DataFrame | None = None,
    needs: Sequence[Need] = ("pixels",),
    on_failure: OnFailure | None = None,
    on_quality: OnQuality | None = None,
    statistics: Callable[[str], PlateStatistics] | None = None,
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
        channel without a row, planes of unequal shape, NaN pixels. None skips silently.
    on_quality, statistics
        See :class:`Fields`.

    Raises
    ------
    DatasetError
        When images are needed and the dataset has none, or its ``[imaging]`` table is wrong.
    """
    wanted = frozenset(needs)
    if dataset.images is None:
        if wanted & {"pixels", "objects"}:
            raise DatasetError(
                f"dataset {dataset.name!r} has no images; use its profiles, or add an [images] table"
            )
        keys = dataset.wells[[PLATE, WELL]].assign(**{SITE: "1"}) if wells is None else wells[[PLATE, WELL]]
        planes: dict[Place, dict[str, Stored]] = {
            (str(p), normalise_well(str(w)), "1"): {} for p, w in zip(keys[PLATE], keys[WELL], strict=True)
        }
    else:
        planes = planes_of(dataset, wells)
    if "objects" in wanted:
        check_segmentation(dataset, settings.read(dataset.imaging).segmentation)
    latent = _latent(dataset) if "latent" in wanted else {}
    jobs = []
    for plate, well, site in in_order(planes):
        metadata = {PLATE: plate, WELL: well, SITE: site, **latent.get((plate, well), {})}
        own = planes[plate, well, site]
        jobs.append(Job(metadata, tuple(own.get(c.name) for c in dataset.channels)))
    return Fields(dataset, jobs, wanted, on_failure, on_quality, statistics)


def preprocessing_key(dataset: Dataset) -> dict[str, Any]:
    """Return everything that can change a pixel, a mask or a flag: readers, settings and their versions."""
    imaging = settings.read(dataset.imaging)
    readers: dict[str, str] = {}
    if dataset.images is not None:
        for uri in dataset.images["URI"].unique():
            name, reader = reader_for(uri)
            readers[name] = reader.version
    by_controls = isinstance(imaging.standardise, standardise.ByControls)
    chosen = settings.key(imaging)
    if isinstance(imaging.segmentation, segment_cellpose.Cellpose):
        check_segmentation(dataset, imaging.segmentation)
        # What the weights are counts, not where they lie.
        chosen["segmentation"]["weights"] = segment_cellpose.sha256(imaging.segmentation, dataset.root)
    return {
        "version": VERSION,
        "readers": dict(sorted(readers.items())),
        **chosen,
        **({"plate_statistics": plates.VERSION} if imaging.per_plate else {}),
        "negative_controls": negative_controls(dataset) if by_controls else None,
        "bit_depth": dataset.bit_depth,
        "channels": [[c.name, c.role] for c in dataset.channels],
        **key_of(dataset),
    }


def mask_files(dataset: Dataset, plate: str) -> list[str]:
    """Return the files that hold a plate's masks, in order; none where masks are computed."""
    config = settings.read(dataset.imaging).segmentation
    if not isinstance(config, segment_masks.Masks):
        return []
    return segment_masks.of_plate(config, dataset, plate)


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


def check_segmentation(dataset: Dataset, config: segment.Config) -> None:
    """Refuse a segmentation that the dataset's channels do not allow, before a pixel is read."""
    names = tuple(c.name for c in dataset.channels)
    if isinstance(config, segment_masks.Masks):
        segment_masks.check(config, names)
        return
    if isinstance(config, segment_cellpose.Cellpose):
        segment_cellpose.check(config, names, dataset.root)
        return
    if isinstance(config, segment.Whole):
        return
    start_channel(dataset.channels, config)
    if isinstance(config, segment_watershed.Watershed) and config.cell_channel:
        _known(config.cell_channel, names)


def start_channel(channels: tuple[Channel, ...], config: segment.Config) -> int:
    """Return the index of the channel that the segmentation starts from."""
    names = tuple(c.name for c in channels)
    if isinstance(config, segment.Foreground):
        return _known(config.channel or names[0], names)
    for i, channel in enumerate(channels):
        if channel.role == "nucleus":
            return i
    raise DatasetError(
        'no channel has role = "nucleus", which the segmentation starts from; mark one in dataset.toml, or '
        'set method = "foreground" under [imaging]'
    )


def _known(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise DatasetError(f"{TABLE}: there is no channel {name!r}; channels: {', '.join(names)}")
    return names.index(name)
