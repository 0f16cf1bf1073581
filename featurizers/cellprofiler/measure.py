"""All measurements of one field: from pixels and masks to one row per object."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.colocalization import Colocalization, measure_colocalization
from featurizers.cellprofiler.config import neighbor_setting
from featurizers.cellprofiler.costes import image_thresholds, measure_costes, object_thresholds
from featurizers.cellprofiler.distance import squared_distances
from featurizers.cellprofiler.granularity import GranularityConfig, measure_field_granularity
from featurizers.cellprofiler.hull import convex_hulls, enclosing_circles
from featurizers.cellprofiler.image import measure_image
from featurizers.cellprofiler.image_texture import measure_image_texture
from featurizers.cellprofiler.intensities import measure_intensity
from featurizers.cellprofiler.names import DEFINED_ADVANCED, families_of, neighbors_of
from featurizers.cellprofiler.neighbors import measure_neighbors
from featurizers.cellprofiler.objects import Objects, find_objects, gather
from featurizers.cellprofiler.radial import measure_radial_distribution
from featurizers.cellprofiler.ranks import rank_together, sort_by_intensity
from featurizers.cellprofiler.sizeshape import measure_shape
from featurizers.cellprofiler.texture import measure_texture
from featurizers.cellprofiler.vocabulary import INTENSITY, STANDARD_SHAPE
from featurizers.cellprofiler.zernike import measure_zernike

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from featurizers.cellprofiler.config import CellProfilerConfig, Compartment, Family


class _Measured:
    """One compartment, with what several families share computed at most once."""

    def __init__(
        self,
        compartment: Compartment,
        objects: Objects,
        pixels: NDArray[np.float64],
        spectrum: NDArray[np.float64] | None,
        thresholds: NDArray[np.float64] | None,
        config: CellProfilerConfig,
    ) -> None:
        self.compartment = compartment
        self.objects = objects
        self.values = gather(pixels, objects)
        self.spectrum = spectrum
        self.thresholds = thresholds
        self.config = config

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return sort_by_intensity(self.objects, self.values)

    @cached_property
    def _squared(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return squared_distances(self.objects)

    @cached_property
    def _hull(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return convex_hulls(self.objects)

    @cached_property
    def _shape(self) -> dict[str, NDArray[np.float64]]:
        return measure_shape(self.objects, self._squared[0], self._hull)

    @cached_property
    def _zernike(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        channels = self.values if "radial-zernike" in self.config.families else self.values[:0]
        return measure_zernike(self.objects, channels, enclosing_circles(*self._hull))

    @cached_property
    def _intensity(self) -> NDArray[np.float64]:
        return measure_intensity(self.objects, self.values, self._sorted[0], self.config.quantiles)

    @cached_property
    def _colocalization(self) -> Colocalization:
        rank, levels = self._sorted[1], None
        if self.config.colocalization == "field":
            rank, levels = rank_together(self.values)
        threshold = self.config.colocalization_threshold
        return measure_colocalization(self.objects, self.values, rank, threshold, levels)

    def family(self, family: Family) -> NDArray[np.float64]:
        """Return the values of one family, (n, ...) in the order of its names."""
        config, pairs = self.config, list(combinations(range(len(self.values)), 2))
        a, b = np.array(pairs, np.intp).reshape(-1, 2).T
        other = ~np.eye(len(self.values), dtype=np.bool_)  # ordered pairs, row by row as permutations go
        match family:
            case "size-shape":
                return np.stack([self._shape[name] for name in STANDARD_SHAPE], axis=1)
            case "advanced-shape":
                return np.stack([self._shape[name] for name in DEFINED_ADVANCED], axis=1)
            case "zernike":
                return self._zernike[0]
            case "correlation":
                c = self._colocalization
                symmetric = [value[:, a, b] for value in (c.correlation, c.overlap)]
                directed = [value[:, other] for value in (c.k, c.manders, c.rwc)]
                return np.concatenate(symmetric + directed, axis=1)
            case "slope":
                return self._colocalization.slope[:, a, b]
            case "costes":
                cuts = self.thresholds
                if cuts is None:
                    cuts = object_thresholds(self.objects, self.values, pairs, config.costes_scale)
                return measure_costes(self.objects, self.values, pairs, cuts)
            case "granularity":
                assert self.spectrum is not None
                return self.spectrum
            case "intensity":
                return self._intensity[:, :, : len(INTENSITY)]
            case "location":
                return self._intensity[:, :, len(INTENSITY) :]
            case "neighbors":
                settings = [neighbor_setting(words)[1:] for words in neighbors_of(self.compartment, config)]
                return np.concatenate([measure_neighbors(self.objects, *s) for s in settings], axis=1)
            case "radial":
                return measure_radial_distribution(self.objects, self.values, self._squared[1], config.rings)
            case "radial-zernike":
                return self._zernike[1]
            case "texture":
                return measure_texture(
                    self.objects, self.values, config.texture_scales, config.texture_levels
                )
        msg = f"family {family!r} is not one of objects"
        raise ValueError(msg)


def cytoplasm(
    cells: NDArray[np.int32], nuclei: NDArray[np.int32], config: CellProfilerConfig
) -> NDArray[np.int32]:
    """Return the cells without their nuclei, or without the interiors of these.

    A nucleus pixel is interior when all eight neighbours lie in the image and in the same nucleus.
    """
    inner = nuclei > 0
    if config.cytoplasm == "shrunken-nuclei":
        padded = np.pad(nuclei, 1)
        height, width = nuclei.shape
        for r in range(3):
            for c in range(3):
                inner &= padded[r : r + height, c : c + width] == nuclei
        inner[[0, -1]] = False
        inner[:, [0, -1]] = False
    return np.where(inner, np.int32(0), cells)


def measure(
    pixels: NDArray[np.float64],
    masks: Mapping[str, NDArray[np.int32]],
    ids: NDArray[np.int32],
    config: CellProfilerConfig,
) -> NDArray[np.float64]:
    """Measure one field.

    Parameters
    ----------
    pixels
        (C, H, W) in [-1, 1].
    masks
        Label images (H, W), one for each of ``config.compartments``.
    ids
        (n,) labels of the rows, in any order.
    config
        Settings.

    Returns
    -------
    (n, D) float64 in the order of :func:`~featurizers.cellprofiler.names.column_names`; NaN or infinite where
    a measurement is undefined or a compartment has no such object.
    """
    objects = [find_objects(masks[name]) for name in config.compartments]
    spectra: list[NDArray[np.float64]] = []
    spectrum_of_image = np.zeros((len(pixels), 0))
    if {"granularity", "image-granularity"} & set(config.families):
        settings = GranularityConfig(
            config.granularity_subsample,
            config.granularity_background_subsample,
            config.granularity_radius,
            config.granularity_length,
        )
        spectra, spectrum_of_image = measure_field_granularity(objects, pixels, settings)
    thresholds = None
    if "costes" in config.families and config.colocalization == "field":
        pairs = list(combinations(range(len(pixels)), 2))
        thresholds = image_thresholds(pixels, pairs, config.costes_scale)
    blocks = []
    for j, (compartment, found) in enumerate(zip(config.compartments, objects, strict=True)):
        spectrum = spectra[j] if spectra else None
        measured = _Measured(compartment, found, pixels, spectrum, thresholds, config)
        row = np.searchsorted(found.ids, ids)
        known = row < len(found)
        known[known] = found.ids[row[known]] == ids[known]
        for family in families_of(compartment, config):
            values = measured.family(family)
            values = values.reshape(len(found), int(np.prod(values.shape[1:])))
            block = np.full((len(ids), values.shape[1]), np.nan)
            block[known] = values[row[known]]
            blocks.append(block)
    whole: list[NDArray[np.float64]] = []
    if "image" in config.families:
        whole += [np.array([len(found) for found in objects], np.float64), measure_image(pixels)]
    if "image-texture" in config.families:
        whole.append(measure_image_texture(pixels, config.texture_scales, config.texture_levels))
    if "image-granularity" in config.families:
        whole.append(spectrum_of_image)
    blocks += [np.broadcast_to(part.ravel(), (len(ids), part.size)) for part in whole]
    return np.concatenate(blocks, axis=1)
