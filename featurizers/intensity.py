"""Per-channel intensity: the control that asks whether brightness alone explains the readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.fields import foreground, grey_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

Region = Literal["image", "objects"]
Statistic = Literal["mean", "std"]


@dataclass(frozen=True, slots=True)
class IntensityConfig:
    """Which statistics of which pixels.

    Parameters
    ----------
    regions
        ``image`` is the whole field; ``objects`` are the pixels inside any object.
    statistics
        ``mean`` and ``std`` (population standard deviation).
    percentiles
        Percentiles of the grey levels, each in [0, 100], linearly interpolated.
    """

    regions: tuple[Region, ...] = ("image", "objects")
    statistics: tuple[Statistic, ...] = ("mean", "std")
    percentiles: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)

    def __post_init__(self) -> None:
        """Refuse settings that name nothing or something unknown."""
        for label, given, known in (
            ("regions", self.regions, get_args(Region)),
            ("statistics", self.statistics, get_args(Statistic)),
        ):
            if set(given) - set(known) or len(set(given)) < len(given):
                msg = f"intensity: {label} must be distinct names out of {', '.join(known)}, not {given}"
                raise FeaturizerError(msg)
        if any(not 0 <= p <= 100 for p in self.percentiles) or len(set(self.percentiles)) < len(
            self.percentiles
        ):
            msg = f"intensity: percentiles must be distinct numbers from 0 to 100, not {self.percentiles}"
            raise FeaturizerError(msg)
        if not self.regions or not (self.statistics or self.percentiles):
            msg = "intensity: choose at least one region and one statistic or percentile"
            raise FeaturizerError(msg)


class Intensity(Featurizer):
    """Statistics of the grey levels x = g / (2^b − 1) per field, region and channel, in float64.

    mean(x); std(x) = √(mean((x − mean(x))²)); percentile p of x. The region ``objects`` is the union of
    all masks; where nothing was segmented it is the whole field, so that a field without objects gives a
    finite row that is no outlier of its own making. Column names follow CellProfiler's manner:
    ``Image_Intensity_MeanIntensity_DNA``, ``Objects_Intensity_Percentile95_ER``.
    """

    card = Card(
        name="intensity",
        version="1",
        title="Per-channel intensity",
        citation="Control of this benchmark; definitions as CellProfiler's MeasureImageIntensity.",
        licence="BSD-3-Clause",
        channel_rule="any number of channels, each measured alone",
        input_size="whole field, any size",
        trained_on="nothing",
        needs=("pixels", "objects"),
        role="control",
    )
    Config = IntensityConfig
    presets: ClassVar[Mapping[str, IntensityConfig]] = {
        "default": IntensityConfig(),
        "mean": IntensityConfig(regions=("image",), statistics=("mean",), percentiles=()),
    }
    config: IntensityConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return names by region, channel and statistic, in that order."""
        words = {"mean": "MeanIntensity", "std": "StdIntensity"}
        names = [words[s] for s in self.config.statistics]
        names += [f"Percentile{p:g}" for p in self.config.percentiles]
        return tuple(
            f"{region.capitalize()}_Intensity_{name}_{channel.name}"
            for region in self.config.regions
            for channel in channels
            for name in names
        )

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field."""
        rows = [self._row(field) for field in fields]
        values = np.stack(rows) if rows else np.zeros((0, 0))
        return Embedding(values.astype(np.float32), np.arange(len(rows), dtype=np.int64))

    def _row(self, field: Field) -> NDArray[np.float64]:
        levels = grey_levels(field, self.card.name)
        parts = []
        for region in self.config.regions:
            inside = foreground(field, self.card.name) if region == "objects" else None
            if inside is None or not inside.any():
                samples = levels.reshape(len(levels), -1)
            else:
                samples = levels[:, inside]  # (C, pixels of the region)
            parts.append(self._statistics(samples))
        return np.concatenate(parts)

    def _statistics(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduce (C, n) samples to (C · statistics,)."""
        found = [getattr(samples, s)(axis=1) for s in self.config.statistics]
        if self.config.percentiles:
            found.extend(np.percentile(samples, self.config.percentiles, axis=1))
        return np.stack(found, axis=1).ravel()
