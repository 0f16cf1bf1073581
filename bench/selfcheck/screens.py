"""One simulated screen: readouts, features of three entrants, and which readouts have a link to the images.

Perturbations have a state Z that images show and programmes U that they do not; readouts follow both, so that
they depend on each other,

    Y = Z B + 0.7 U C + 0.7 noise per well (+ plate),        B = 0 for readouts without a link,

and an entrant's features are Z with noise per perturbation, nuisance dimensions and noise per well (+ plate).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from tasks.base import TaskData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.selfcheck.designs import Design

CONTROLS = 16
"""Negative controls on every plate, where there are plate effects."""

HIDDEN, WELL, SEEN_WELL = 0.7, 0.7, 0.5
"""Standard deviations of the programmes' part, of a well's readout noise and of a well's feature noise."""

ROWS = 8
"""Rows of a plate."""


@dataclass(frozen=True, eq=False)
class Screen:
    """A table of readouts, (N, D) features by entrant, and (T,) bool: readouts with a link to the images."""

    data: TaskData
    features: dict[str, NDArray[np.float32]]
    linked: NDArray[np.bool_]


def simulate(design: Design, seed: int) -> Screen:
    """Return screen number ``seed`` of a design: the same bytes whenever it is asked for."""
    rng = np.random.default_rng([seed, _number(design.name)])
    to_state, to_programmes = loadings(design)
    n = design.perturbations
    strength = np.exp(design.heavy * rng.normal(size=(n, 1)))
    state = strength * _related(rng, design, design.latent)
    programmes = strength * _related(rng, design, design.programmes)
    wells = _wells(rng, design)
    owner = wells["owner"].to_numpy()
    treated = owner >= 0
    values = WELL * rng.normal(size=(len(wells), design.readouts))
    values[treated] += (state @ to_state + HIDDEN * programmes @ to_programmes)[owner[treated]]
    values += _places(rng, design, wells, design.readouts, WELL)
    if design.centred:
        for plate in wells["plate"].unique():
            own = (wells["plate"] == plate).to_numpy()
            values[own] -= values[own & ~treated].mean(axis=0)
    features = {}
    for name, noise in zip("ABC", design.noise, strict=True):
        seen = state + noise * strength * _related(rng, design, design.latent)
        seen = np.hstack([seen, strength * _related(rng, design, design.nuisance)])
        X = SEEN_WELL * rng.normal(size=(len(wells), seen.shape[1]))
        X[treated] += seen[owner[treated]]
        features[name] = (X + _places(rng, design, wells, seen.shape[1], SEEN_WELL)).astype(np.float32)
    if design.kind == "calls":
        values = _calls(design, values, to_state, to_programmes)
    return Screen(_table(design, wells, values), features, np.asarray((to_state != 0).any(axis=0)))


def loadings(design: Design) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return B (latent, T) and C (programmes, T), fixed for a design."""
    rng = np.random.default_rng([99, _number(design.name)])
    to_state = rng.normal(size=(design.latent, design.readouts)) / np.sqrt(design.latent)
    to_state[:, : design.readouts - round(design.linked * design.readouts)] = 0.0
    to_programmes = rng.normal(size=(design.programmes, design.readouts)) / np.sqrt(design.programmes)
    return to_state, to_programmes


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _related(rng: np.random.Generator, design: Design, width: int) -> NDArray[np.float64]:
    """(n, width) standard normal values, of which families share the part ``kinship`` of the variance."""
    own = rng.normal(size=(design.perturbations, width))
    if design.family == 1:
        return own
    family = np.arange(design.perturbations) // design.family
    common = rng.normal(size=(int(family[-1]) + 1, width))[family]
    kin: NDArray[np.float64] = np.sqrt(design.kinship) * common + np.sqrt(1.0 - design.kinship) * own
    return kin


def _wells(rng: np.random.Generator, design: Design) -> pd.DataFrame:
    """One row per well: ``owner`` (-1 for a control), ``plate`` and ``row``."""
    owner = np.repeat(np.arange(design.perturbations), design.wells)
    plate = np.zeros(len(owner), np.int64)
    if design.layout == "replicates-over-plates":
        plate = np.tile(np.arange(design.wells), design.perturbations)
    elif design.layout == "perturbation-on-one-plate":
        plate = owner % 4
    if design.plate_effect:
        plates = int(plate.max()) + 1
        owner = np.concatenate([owner, np.full(plates * CONTROLS, -1)])
        plate = np.concatenate([plate, np.repeat(np.arange(plates), CONTROLS)])
    return pd.DataFrame({"owner": owner, "plate": plate, "row": rng.integers(0, ROWS, len(owner))})


def _places(
    rng: np.random.Generator, design: Design, wells: pd.DataFrame, width: int, unit: float
) -> NDArray[np.float64] | float:
    """(N, width) shifts by plate and gradients over rows."""
    if not design.plate_effect:
        return 0.0
    size = design.plate_effect * unit
    shift = size * rng.normal(size=(int(wells["plate"].max()) + 1, width))
    slope = size / 2 * rng.normal(size=width)
    height = (wells["row"].to_numpy() - (ROWS - 1) / 2) / (ROWS / 2)
    moved: NDArray[np.float64] = shift[wells["plate"].to_numpy()] + height[:, None] * slope
    return moved


def _calls(
    design: Design,
    values: NDArray[np.float64],
    to_state: NDArray[np.float64],
    to_programmes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """1 for the upper ``prevalence`` of each readout's population, 0 below."""
    from scipy.stats import norm

    spread = np.sqrt((to_state**2).sum(axis=0) + HIDDEN**2 * (to_programmes**2).sum(axis=0) + WELL**2)
    calls: NDArray[np.float64] = (values > norm.isf(design.prevalence) * spread).astype(np.float64)
    return calls


def _smiles(family: int, member: int) -> str:
    """A ring of a size of its own per family, with a side chain per member: a scaffold is a family."""
    return "C" * (member + 1) + "C1" + "C" * (family + 1) + "C1"


def _table(design: Design, wells: pd.DataFrame, values: NDArray[np.float64]) -> TaskData:
    owner = wells["owner"].to_numpy()
    unit = owner // design.family if design.split == "family" else owner
    names = pd.DataFrame(
        {
            "Metadata_Plate": [f"P{p}" for p in wells["plate"]],
            "Metadata_Well": [f"{chr(ord('A') + r)}{c % 99 + 1:02d}" for c, r in enumerate(wells["row"])],
        }
    )
    if design.split == "scaffold":
        names["Metadata_SMILES"] = [_smiles(o // design.family, o % design.family) for o in owner]
    return TaskData(
        wells=names,
        units=names,
        members=sparse.identity(len(wells), format="csr"),
        Y=values.astype(np.float32),
        readouts=tuple(f"g{i:04d}" for i in range(values.shape[1])),
        groups=np.array(["control" if o < 0 else f"p{u:04d}" for o, u in zip(owner, unit, strict=True)]),
        control=owner < 0,
        well_control=owner < 0,
        layer="simulated",
    )
