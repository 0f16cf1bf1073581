"""What a demo screen is made from, and the random streams that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from bench.errors import UsageError

GENERATOR = 2
"""Raised whenever the same settings would give other bytes."""

DIMENSIONS = (
    "count",
    "nucleus_size",
    "elongation",
    "chromatin_grain",
    "er_grain",
    "mito_spread",
    "golgi_scatter",
    "rna_level",
    "mito_level",
)
"""The latent state: what of a cell population a compound can change."""

KIND_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "count": ("count",),
    "intensity": ("rna_level", "mito_level"),
    "shape": ("nucleus_size", "elongation"),
    "texture": ("chromatin_grain", "er_grain", "mito_spread", "golgi_scatter"),
    "mixed": DIMENSIONS,
}
"""Kind of linked readout to the dimensions it may follow."""

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
PLATE_ROWS, PLATE_COLUMNS = 16, 24


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes and seed of a demo screen.

    Parameters
    ----------
    plates
        384-well plates; every compound and dose has one well on each.
    compounds, doses
        Compounds and concentrations per compound (three-fold steps down from 9 µM).
    seed
        Seeds everything; at least 0.
    controls
        DMSO wells per plate.
    size
        Side of the square field, pixels.

    Raises
    ------
    UsageError
        For sizes that do not fit a plate or leave nothing to predict.
    """

    plates: int = 2
    compounds: int = 80
    doses: int = 3
    seed: int = 0
    controls: int = 32
    size: int = 176

    def __post_init__(self) -> None:
        for name, low in (("plates", 1), ("compounds", 2), ("doses", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UsageError(f"demo: {name} is {getattr(self, name)}, it must be at least {low}")
        needed = self.compounds * self.doses + self.controls
        wells = PLATE_ROWS * PLATE_COLUMNS
        if needed > wells:
            room = (wells - self.controls) // self.doses
            raise UsageError(
                f"demo: {self.compounds} compounds x {self.doses} doses + {self.controls} controls need "
                f"{needed} wells, a plate has {wells}: take at most {room} compounds, or fewer doses"
            )

    @property
    def version(self) -> str:
        """Version of the dataset: everything that decides its bytes."""
        return f"{GENERATOR}-seed{self.seed}-p{self.plates}-c{self.compounds}-d{self.doses}"

    @property
    def concentrations(self) -> tuple[float, ...]:
        """Concentrations in µM, ascending."""
        return tuple(round(9.0 / 3.0**k, 4) for k in reversed(range(self.doses)))

    def rng(self, stream: str, *index: int) -> np.random.Generator:
        """Return the generator of one named stream.

        Every plate, well and layer draws from its own stream, so no number depends on the order or the
        process in which the others are made.
        """
        return np.random.default_rng([self.seed, crc32(stream.encode()), *index])
