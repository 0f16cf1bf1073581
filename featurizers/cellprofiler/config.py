"""What to measure, and with which settings: JUMP's by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featurizers.base import FeaturizerError

Compartment = Literal["cells", "cytoplasm", "nuclei"]
Family = Literal[
    "size-shape",
    "advanced-shape",
    "zernike",
    "correlation",
    "slope",
    "costes",
    "granularity",
    "intensity",
    "location",
    "neighbors",
    "radial",
    "radial-zernike",
    "texture",
    "image",
    "image-texture",
    "image-granularity",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
OPTIONAL = ("advanced-shape", "slope", "costes", "radial-zernike", "image-texture", "image-granularity")
JUMP_FAMILIES: tuple[Family, ...] = tuple(f for f in FAMILIES if f not in OPTIONAL)


@dataclass(frozen=True, slots=True)
class CellProfilerConfig:
    """Settings of the measurements; the defaults are those of the JUMP production pipeline (v3).

    Parameters
    ----------
    compartments
        Objects to measure. ``cytoplasm`` is taken from the masks, or made of ``cells`` and ``nuclei``.
    families
        Groups of measurements. JUMP has no Costes, no advanced shapes (moments) and no intensity Zernikes;
        CellProfiler gives the slope for images only. ``location`` is measured for nuclei only, as JUMP
        exports it. Texture and granularity of the whole image, which JUMP has, are not in the default.
    cytoplasm
        ``shrunken-nuclei``: cells without the nuclei's interiors, so that the nuclei's outlines belong to the
        cytoplasm too (JUMP); ``whole-nuclei``: cells without nuclei.
    border
        ``drop`` leaves out the cells whose nucleus (without nuclei: the first compartment) touches the border
        of the field, after they have counted as neighbours (JUMP); ``keep`` measures all.
    texture_scales, texture_levels
        Distances in pixels; grey levels, 2 to 256.
    granularity_subsample, granularity_background_subsample, granularity_radius, granularity_length
        As in :class:`~featurizers.cellprofiler.granularity.GranularityConfig`.
    rings
        Rings of the radial distribution.
    colocalization_threshold
        Percent of the object's maximum.
    colocalization
        Whose pixels the ranks of RWC and the thresholds of Costes come from: ``field`` ranks the pixels of
        all objects together and finds one threshold in the whole image (CellProfiler); ``object`` looks at
        each object alone (cp-measure).
    costes_scale
        Candidate thresholds between 0 and 1.
    quantiles
        ``cellprofiler`` (position n q) or ``linear`` (NumPy's).
    neighbors
        Each ``COMPARTMENT adjacent``, ``COMPARTMENT expand`` or ``COMPARTMENT within PIXELS``.
    """

    compartments: tuple[Compartment, ...] = ("cells", "cytoplasm", "nuclei")
    families: tuple[Family, ...] = JUMP_FAMILIES
    cytoplasm: Literal["shrunken-nuclei", "whole-nuclei"] = "shrunken-nuclei"
    border: Literal["drop", "keep"] = "drop"
    texture_scales: tuple[int, ...] = (3, 5, 10)
    texture_levels: int = 256
    granularity_subsample: float = 0.5
    granularity_background_subsample: float = 0.5
    granularity_radius: int = 10
    granularity_length: int = 16
    rings: int = 4
    colocalization_threshold: float = 15.0
    colocalization: Literal["field", "object"] = "field"
    costes_scale: int = 65535
    quantiles: Literal["cellprofiler", "linear"] = "cellprofiler"
    neighbors: tuple[str, ...] = ("cells within 5", "nuclei within 1", "cells adjacent")

    def __post_init__(self) -> None:
        """Refuse settings that name nothing or something unknown."""
        for label, given, known in (
            ("compartments", self.compartments, get_args(Compartment)),
            ("families", self.families, FAMILIES),
        ):
            if not given or set(given) - set(known) or len(set(given)) < len(given):
                msg = f"cellprofiler: {label} must be distinct names out of {', '.join(known)}, not {given}"
                raise FeaturizerError(msg)
        for value, choices in (
            (self.cytoplasm, ("shrunken-nuclei", "whole-nuclei")),
            (self.border, ("drop", "keep")),
            (self.quantiles, ("cellprofiler", "linear")),
            (self.colocalization, ("field", "object")),
        ):
            if value not in choices:
                msg = f"cellprofiler: {value!r} is none of {', '.join(choices)}"
                raise FeaturizerError(msg)
        self._check_numbers()
        if len(set(self.neighbors)) < len(self.neighbors):
            msg = f"cellprofiler: neighbors must be distinct, not {self.neighbors}"
            raise FeaturizerError(msg)
        for words in self.neighbors:
            neighbor_setting(words)

    def _check_numbers(self) -> None:
        ranges = {
            "texture_levels": (2, 256),
            "granularity_radius": (1, 1000),
            "granularity_length": (1, 1000),
            "rings": (1, 100),
            "costes_scale": (2, 2**32 - 1),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                msg = f"cellprofiler: {name} must lie in {low} ... {high}, not {getattr(self, name)}"
                raise FeaturizerError(msg)
        if not self.texture_scales or min(self.texture_scales) < 1 or max(self.texture_scales) > 1000:
            msg = f"cellprofiler: texture_scales must be 1 to 1000 pixels, not {self.texture_scales}"
            raise FeaturizerError(msg)
        if not (0 < self.granularity_subsample <= 1 and 0 < self.granularity_background_subsample <= 1):
            msg = "cellprofiler: the granularity's subsampling factors must lie in (0, 1]"
            raise FeaturizerError(msg)
        if not 0 <= self.colocalization_threshold < 100:
            msg = (
                "cellprofiler: colocalization_threshold is a percentage from 0 to below 100, not "
                f"{self.colocalization_threshold}"
            )
            raise FeaturizerError(msg)


def neighbor_setting(words: str) -> tuple[Compartment, Literal["adjacent", "within", "expand"], int]:
    """Read ``"cells within 5"`` as compartment, method and distance (1 where the method has none).

    Raises
    ------
    FeaturizerError
        When the words are none of the three forms.
    """
    parts = words.split()
    if len(parts) >= 2 and parts[0] in get_args(Compartment):
        compartment: Compartment = parts[0]  # type: ignore[assignment]
        if parts[1:] == ["adjacent"]:
            return compartment, "adjacent", 1
        if parts[1:] == ["expand"]:
            return compartment, "expand", 1
        if len(parts) == 3 and parts[1] == "within" and parts[2].isdecimal() and int(parts[2]) > 0:
            return compartment, "within", int(parts[2])
    msg = (
        "cellprofiler: neighbors are written 'cells adjacent', 'cells expand' or 'cells within 5' "
        f"(cells, cytoplasm or nuclei), not {words!r}"
    )
    raise FeaturizerError(msg)
