"""Column names in CellProfiler's grammar, without measuring anything.

``{Compartment}_{Group}_{Measure}[_{Channel}[_{Channel2}]][_{scale}_{angle}_{levels}]``, for example
``Cells_Texture_InfoMeas1_RNA_3_00_256`` or ``Nuclei_Correlation_Manders_AGP_DNA``. Columns go by compartment,
then by family in the order of :data:`~featurizers.cellprofiler.config.FAMILIES`, whatever the order in the
settings; columns of the whole image come last.
"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING

from featurizers.cellprofiler.config import FAMILIES, Compartment, Family, neighbor_setting
from featurizers.cellprofiler.vocabulary import (
    ADVANCED_SHAPE,
    HARALICK,
    IMAGE,
    INTENSITY,
    LOCATION,
    NEIGHBORS,
    ORDERS,
    RADIAL,
    STANDARD_SHAPE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurizers.cellprofiler.config import CellProfilerConfig

DEFINED_ADVANCED = tuple(
    name for name in ADVANCED_SHAPE if name not in {f"NormalizedMoment_{o}" for o in ("0_0", "0_1", "1_0")}
)
"""The moments that exist for some object."""


IMAGE_FAMILIES: tuple[Family, ...] = ("image", "image-texture", "image-granularity")
"""Those of the whole image, the same on all rows of a field; last among the columns, in this order."""


def families_of(compartment: Compartment, config: CellProfilerConfig) -> tuple[Family, ...]:
    """Return the families that are measured for one compartment, in column order."""
    return tuple(
        family
        for family in FAMILIES
        if family in config.families
        and family not in IMAGE_FAMILIES
        and (family != "location" or compartment == "nuclei")
        and (family != "neighbors" or neighbors_of(compartment, config))
    )


def neighbors_of(compartment: Compartment, config: CellProfilerConfig) -> list[str]:
    """Return the neighbour settings of one compartment."""
    return [words for words in config.neighbors if neighbor_setting(words)[0] == compartment]


def family_names(
    family: Family, compartment: Compartment, channels: Sequence[str], config: CellProfilerConfig
) -> list[str]:
    """Return the names of one family without the compartment, in the order of its values."""
    ordered, unordered = list(permutations(channels, 2)), list(combinations(channels, 2))
    match family:
        case "size-shape":
            return [f"AreaShape_{name}" for name in STANDARD_SHAPE]
        case "advanced-shape":
            return [f"AreaShape_{name}" for name in DEFINED_ADVANCED]
        case "zernike":
            return [f"AreaShape_Zernike_{n}_{m}" for n, m in ORDERS]
        case "correlation":
            symmetric = [f"Correlation_{w}_{a}_{b}" for w in ("Correlation", "Overlap") for a, b in unordered]
            return symmetric + [
                f"Correlation_{w}_{a}_{b}" for w in ("K", "Manders", "RWC") for a, b in ordered
            ]
        case "slope":
            return [f"Correlation_Slope_{a}_{b}" for a, b in unordered]
        case "costes":
            return [f"Correlation_Costes_{x}_{y}" for a, b in unordered for x, y in ((a, b), (b, a))]
        case "granularity" | "image-granularity":
            return [f"Granularity_{i + 1}_{c}" for c in channels for i in range(config.granularity_length)]
        case "intensity":
            return [f"Intensity_{name}_{c}" for c in channels for name in INTENSITY]
        case "location":
            return [f"Location_{name}_{c}" for c in channels for name in LOCATION]
        case "neighbors":
            out = []
            for setting in neighbors_of(compartment, config):
                _, method, distance = neighbor_setting(setting)
                scale = {"adjacent": "Adjacent", "expand": "Expanded"}.get(method, str(distance))
                out += [f"Neighbors_{name}_{scale}" for name in NEIGHBORS]
            return out
        case "radial":
            rings = [f"{i + 1}of{config.rings}" for i in range(config.rings)]
            return [f"RadialDistribution_{w}_{c}_{r}" for c in channels for w in RADIAL for r in rings]
        case "radial-zernike":
            words = ("ZernikeMagnitude", "ZernikePhase")
            return [f"RadialDistribution_{w}_{c}_{n}_{m}" for c in channels for w in words for n, m in ORDERS]
        case "texture" | "image-texture":
            return [
                f"Texture_{name}_{c}_{scale}_{angle:02d}_{config.texture_levels}"
                for c in channels
                for scale in config.texture_scales
                for angle in range(4)
                for name in HARALICK
            ]
        case "image":
            counts = [f"Count_{c.capitalize()}" for c in config.compartments]
            return counts + [f"Intensity_{name}_{c}" for c in channels for name in IMAGE]


def column_names(channels: Sequence[str], config: CellProfilerConfig) -> tuple[str, ...]:
    """Return all column names for images with these channels."""
    out = [
        f"{compartment.capitalize()}_{name}"
        for compartment in config.compartments
        for family in families_of(compartment, config)
        for name in family_names(family, compartment, channels, config)
    ]
    for family in IMAGE_FAMILIES:
        if family in config.families:
            out += [
                f"Image_{name}" for name in family_names(family, config.compartments[0], channels, config)
            ]
    return tuple(out)
