"""Plates: which well holds what, the state of its cells, and what its position does to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.demo.settings import CHANNELS, DIMENSIONS, PLATE_COLUMNS, PLATE_ROWS, Settings
from bench.demo.structures import CONTROL_SMILES, structures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.demo.population import Population

WELL_SD = 0.3
CONTROL = "DMSO"


@dataclass(frozen=True, eq=False)
class Plate:
    """One plate; w wells in use, in row-major order; L latent dimensions.

    Parameters
    ----------
    name
        Plate name.
    row, column
        (w,) int, 0-based.
    compound, dose
        (w,) int indices into the population, -1 in a control well.
    state
        (w, L) latent state of the well's cells: compound effect plus well noise.
    programmes
        (w, U) unexplained programmes.
    crowding
        (w,) factor of position on the number of cells.
    gain
        (w, C) factor of plate and position on the intensity of each channel.
    """

    index: int
    name: str
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    compound: NDArray[np.int64]
    dose: NDArray[np.int64]
    state: NDArray[np.float64]
    programmes: NDArray[np.float64]
    crowding: NDArray[np.float64]
    gain: NDArray[np.float64]

    @property
    def wells(self) -> list[str]:
        """Well names, zero-padded."""
        return [f"{chr(65 + r)}{c + 1:02d}" for r, c in zip(self.row, self.column, strict=True)]


def plate(settings: Settings, population: Population, index: int) -> Plate:
    """Lay out one plate: randomised positions, well noise, edge and gradient effects, a gain per channel.

    A position's effect has an edge part (outermost ring: 12 % fewer cells, 10 % brighter) and a linear
    gradient in a random direction (up to 12 % of the count, 15 % of the intensity from side to
    side). It reaches the image only, not the readouts.
    """
    rng = settings.rng("layout", index)
    treated = settings.compounds * settings.doses
    used = rng.permutation(PLATE_ROWS * PLATE_COLUMNS)[: treated + settings.controls]
    content = np.concatenate([np.arange(treated), np.full(settings.controls, -1)])
    order = np.argsort(used)
    used, content = used[order], content[order]
    row, column = np.divmod(used, PLATE_COLUMNS)
    control = content < 0
    compound = np.where(control, -1, content // settings.doses)
    dose = np.where(control, -1, content % settings.doses)
    effect = np.where(control[:, None], 0.0, population.state[compound, dose])
    hidden = np.where(control[:, None], 0.0, population.programmes[compound, dose])
    noise = settings.rng("well-noise", index).normal(0.0, WELL_SD, effect.shape)

    rng = settings.rng("plate-effects", index)
    y, x = row / (PLATE_ROWS - 1) - 0.5, column / (PLATE_COLUMNS - 1) - 0.5
    edge = ((row == 0) | (row == PLATE_ROWS - 1) | (column == 0) | (column == PLATE_COLUMNS - 1)).astype(
        float
    )

    def gradient() -> NDArray[np.float64]:
        angle = rng.uniform(0.0, 2 * np.pi)
        return np.asarray(np.cos(angle) * x + np.sin(angle) * y)

    crowding = np.exp(-0.12 * edge + 0.12 * gradient())
    plate_gain = np.exp(rng.normal(0.0, 0.15, len(CHANNELS)))
    position = np.exp(0.10 * edge + 0.15 * gradient())
    gain = plate_gain[None, :] * position[:, None] * np.exp(rng.normal(0.0, 0.03, (len(row), len(CHANNELS))))
    return Plate(
        index, f"plate-{index + 1}", row, column, compound, dose, effect + noise, hidden, crowding, gain
    )


def wells_table(settings: Settings, population: Population, plates: list[Plate]) -> pd.DataFrame:
    """Return the platemap: one row per well in use, with its perturbation, structure and concentration."""
    frames = []
    smiles = np.array([*structures(settings, population), CONTROL_SMILES], dtype=object)
    for p in plates:
        control = p.compound < 0
        names = np.array([*population.compounds, CONTROL], dtype=object)
        doses = np.array([*settings.concentrations, 0.0])
        moa = np.array([*(f"moa-{m + 1:02d}" for m in population.mechanism), ""], dtype=object)
        frames.append(
            pd.DataFrame(
                {
                    "Metadata_Plate": p.name,
                    "Metadata_Well": p.wells,
                    "Metadata_pert_type": np.where(control, "negcon", "trt"),
                    "Metadata_Compound": names[p.compound],
                    "Metadata_Concentration": doses[p.dose],
                    "Metadata_Concentration_unit": "uM",
                    "Metadata_MOA": moa[p.compound],
                    "Metadata_SMILES": smiles[p.compound],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def latent_table(plates: list[Plate]) -> pd.DataFrame:
    """Return the true state of every well: ``Latent_*`` columns for the oracle."""
    frames = [
        pd.concat(
            [
                pd.DataFrame({"Metadata_Plate": p.name, "Metadata_Well": p.wells}),
                pd.DataFrame(p.state, columns=[f"Latent_{d}" for d in DIMENSIONS]),
            ],
            axis=1,
        )
        for p in plates
    ]
    return pd.concat(frames, ignore_index=True)
