"""CellProfiler's measurements of cells, in process: a featurizer, and kernels that can be used alone.

Each kernel module (``texture``, ``granularity``, ...) takes objects (``objects.find_objects``) and their
pixels (``objects.gather``) and returns arrays. They need Numba; importing this module does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field, Level
from featurizers.cellprofiler.config import FAMILIES, CellProfilerConfig
from featurizers.cellprofiler.names import column_names
from featurizers.fields import grey_levels, where

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CellProfiler", "CellProfilerConfig"]


class CellProfiler(Featurizer):
    """One row per cell of CellProfiler's measurements, in CellProfiler's names, with JUMP's settings.

    Stored rows are finite: a value that is undefined for a cell (the texture of an object smaller than the
    scale, the correlation with a constant channel, a compartment that the cell lacks) becomes the median of
    that column over the field's other rows, where it least moves the well's median or mean, and 0 where it is
    undefined for the whole field.
    """

    card = Card(
        name="cellprofiler",
        version="1",
        title="CellProfiler measurements",
        citation=(
            "Stirling et al. 2021, CellProfiler 4, doi:10.1186/s12859-021-04344-9; "
            "settings of the JUMP production pipeline v3"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels; correlations need two",
        input_size="whole field, any size",
        trained_on="nothing",
        needs=("pixels", "objects"),
    )
    Config = CellProfilerConfig
    presets: ClassVar[Mapping[str, CellProfilerConfig]] = {
        "default": CellProfilerConfig(),
        "full": replace(CellProfilerConfig(), families=FAMILIES),
        "nuclei": replace(CellProfilerConfig(), compartments=("nuclei",), neighbors=("nuclei within 1",)),
    }
    level: ClassVar[Level] = "cell"
    config: CellProfilerConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return names by compartment, family, channel and setting, in that order."""
        return column_names([channel.name for channel in channels], self.config)

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in ascending order of ids within each field."""
        blocks: list[NDArray[np.float32]] = []
        owners: list[NDArray[np.int64]] = []
        ids: list[NDArray[np.int32]] = []
        for number, field in enumerate(fields):
            rows, objects = self._rows(field)
            blocks.append(rows)
            ids.append(objects)
            owners.append(np.full(len(objects), number, np.int64))
        if not blocks:
            return Embedding(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int32))
        return Embedding(np.concatenate(blocks), np.concatenate(owners), np.concatenate(ids))

    def _rows(self, field: Field) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the finite rows (n, D) and the ids (n,) of one field."""
        masks = self._masks(field)
        pixels = grey_levels(field, self.card.name)
        self._check_range(field, pixels)
        kept = self._kept(field, masks)
        if not kept.any():
            empty = np.zeros((0, len(self.columns(field.channels))), np.float32)
            return empty, np.zeros(0, np.int32)
        from featurizers.cellprofiler.measure import measure

        order = np.argsort(field.ids, kind="stable")
        ids = field.ids[order]
        values = measure(pixels, masks, ids, self.config)[kept[order]]
        with np.errstate(over="ignore"):
            rows = values.astype(np.float32)
        return _finite(rows), ids[kept[order]].astype(np.int32)

    def _masks(self, field: Field) -> dict[str, NDArray[np.int32]]:
        """Return a mask for each compartment, making the cytoplasm where it is not given."""
        wanted = self.config.compartments
        needed = [name for name in wanted if name != "cytoplasm"]
        if "cytoplasm" in wanted and "cytoplasm" not in field.masks:
            needed += [name for name in ("cells", "nuclei") if name not in needed]
        missing = [name for name in needed if name not in field.masks]
        if missing:
            msg = (
                f"{where(field)}: featurizer 'cellprofiler' needs masks of {', '.join(wanted)}, and "
                f"{', '.join(missing)} is not among those given ({', '.join(field.masks) or 'none'}); "
                "segment nuclei and cells, or take preset 'nuclei' or set compartments="
            )
            raise FeaturizerError(msg)
        named = {*wanted, *needed}
        masks: dict[str, NDArray[np.int32]] = {k: v for k, v in field.masks.items() if k in named}
        for name, mask in masks.items():
            if field.pixels is not None and mask.shape != field.pixels.shape[-2:]:
                msg = (
                    f"{where(field)}: the mask of {name} is {mask.shape} and the image "
                    f"{field.pixels.shape[-2:]}; segment this image again"
                )
                raise FeaturizerError(msg)
        if "cytoplasm" in wanted and "cytoplasm" not in masks:
            from featurizers.cellprofiler.measure import cytoplasm

            masks["cytoplasm"] = cytoplasm(masks["cells"], masks["nuclei"], self.config)
        return masks

    def _check_range(self, field: Field, pixels: NDArray[np.float64]) -> None:
        """Refuse pixels outside [-1, 1], which no grey level stands for."""
        for channel, image in zip(field.channels, pixels, strict=True):
            if image.max() > 1 or image.min() < -1:
                msg = (
                    f"{where(field)}: channel {channel.name} goes from {image.min():g} to {image.max():g}, "
                    "and featurizer 'cellprofiler' needs pixels within ±1; correct the dataset's bit depth "
                    f"(now {field.bit_depth}) or rescale the images"
                )
                raise FeaturizerError(msg)

    def _kept(self, field: Field, masks: Mapping[str, NDArray[np.int32]]) -> NDArray[np.bool_]:
        """Tell which of ``field.ids`` have a row."""
        if self.config.border == "keep":
            return np.ones(len(field.ids), np.bool_)
        mask = masks["nuclei"] if "nuclei" in masks else masks[self.config.compartments[0]]
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        return ~np.isin(field.ids, rim)


def _finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace undefined values by their column's median over the rows, or by 0."""
    undefined = ~np.isfinite(rows)
    for column in np.flatnonzero(undefined.any(axis=0)):
        hole = undefined[:, column]
        rows[hole, column] = 0.0 if hole.all() else np.median(rows[~hole, column])
    return rows
