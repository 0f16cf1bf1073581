"""The ``[imaging]`` table of a dataset as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.imaging import illumination, segment, standardise
from bench.imaging.configs import choose, fill
from bench.imaging.quality import Quality


@dataclass(frozen=True, slots=True)
class Imaging:
    """What is done to pixels between the file and the featurizer; None where a step is left out."""

    method: str
    segmentation: segment.Config
    illumination: illumination.FlatField | None
    standardise: standardise.ByField | standardise.ByControls | None
    quality: Quality

    @property
    def per_plate(self) -> bool:
        """Whether a field's pixels depend on its plate's other fields."""
        return self.illumination is not None or isinstance(self.standardise, standardise.ByControls)


def read(settings: Mapping[str, Any]) -> Imaging:
    """Return the typed settings of an ``[imaging]`` table.

    Raises
    ------
    DatasetError
        For an unknown method or setting, or a value of the wrong type or sign.
    """
    rest = dict(settings)
    flat = choose(rest.pop("illumination", "none"), illumination.METHODS, "illumination")
    scale = choose(rest.pop("standardise", "none"), standardise.METHODS, "standardise")
    quality = fill(Quality, rest.pop("quality", {}), "quality")
    method, config = segment.configure(rest)
    return Imaging(method, config, flat, scale, quality)


def key(imaging: Imaging) -> dict[str, Any]:
    """Return the settings as plain values for a key document."""
    flat, scale = imaging.illumination, imaging.standardise
    by_name = {kind: name for name, kind in standardise.METHODS.items()}
    return {
        "segmentation": {"method": imaging.method, **asdict(imaging.segmentation)},
        "illumination": {"method": "none"} if flat is None else {"method": "image2omics", **asdict(flat)},
        "standardise": "none" if scale is None else by_name[type(scale)],
        "quality": asdict(imaging.quality),
    }
