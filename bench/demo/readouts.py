"""Readouts: what is measured on the same wells, how much of it the images can know, and the truth of both.

A readout of unit u is

    y_u = μ + σ ( √c · β'z_u / sd(β'z) + √((1-c) p) · γ'w_u / sd(γ'w) + √((1-c)(1-p)) · ε_u )

with z the latent state, w the unexplained programmes, ε standard normal and sd over the treated units of the
screen. So c is the expected R² of the best predictor that knows z and nothing else: the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.demo.layout import CONTROL, Plate
from bench.demo.population import PROGRAMMES, Population, n_mechanisms
from bench.demo.settings import DIMENSIONS, KIND_DIMENSIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PROGRAMME_SHARE = 0.4
CEILINGS = (0.15, 0.85)
MISSING_CALLS = 0.1
CALL_NOISE = 0.4
TRANSCRIPTS = {**dict.fromkeys(KIND_DIMENSIONS, 32), "null": 160}
PROTEINS = {**dict.fromkeys(KIND_DIMENSIONS, 14), "null": 60}
TARGETS = {"mechanism": 16, "null": 8}
TARGET_MECHANISMS = 3


@dataclass(frozen=True, eq=False)
class Panel:
    """Loadings of T readouts on the latent state (L, T) and the programmes (U, T), and their truth.

    ``truth`` has one row per readout: ``readout``, ``layer``, ``kind``, ``null``, ``ceiling``.
    """

    truth: pd.DataFrame
    state: NDArray[np.float64]
    programmes: NDArray[np.float64]


def panel(settings: Settings, layer: str, prefix: str, kinds: dict[str, int]) -> Panel:
    """Draw the loadings of a layer: directions within each kind's dimensions, ceilings from 0.15 to 0.85."""
    rng = settings.rng(f"panel-{layer}")
    kind = rng.permutation([k for k, n in kinds.items() for _ in range(n)])
    T = len(kind)
    null = kind == "null"
    state = np.zeros((len(DIMENSIONS), T))
    for t in np.flatnonzero(~null):
        rows = [DIMENSIONS.index(d) for d in KIND_DIMENSIONS[kind[t]]]
        state[rows, t] = rng.normal(0.0, 1.0, len(rows))
    truth = pd.DataFrame(
        {
            "readout": [f"{prefix}-{t + 1:03d}" for t in range(T)],
            "layer": layer,
            "kind": kind.astype(object),
            "null": null,
            "ceiling": np.where(null, 0.0, rng.uniform(*CEILINGS, T)),
        }
    )
    return Panel(truth, state, rng.normal(0.0, 1.0, (PROGRAMMES, T)))


def measure(
    p: Panel,
    state: NDArray[np.float64],
    programmes: NDArray[np.float64],
    treated: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (n, T) values of a panel's readouts by the module's equation.

    Parameters
    ----------
    p
        Loadings and ceilings.
    state, programmes
        (n, L) and (n, U) of the units.
    treated
        (n,) units whose spread defines sd.
    rng
        Source of ε, μ ~ N(8, 1.5²) and σ ~ U(0.4, 1.2).
    """

    def unit_variance(signal: NDArray[np.float64]) -> NDArray[np.float64]:
        sd = signal[treated].std(axis=0)
        return np.asarray(signal / np.where(sd > 0, sd, 1.0))

    c = p.truth["ceiling"].to_numpy(float)
    T = len(c)
    mean, spread = rng.normal(8.0, 1.5, T), rng.uniform(0.4, 1.2, T)
    signal = np.sqrt(c) * unit_variance(state @ p.state)
    unseen = np.sqrt((1 - c) * PROGRAMME_SHARE) * unit_variance(programmes @ p.programmes)
    noise = np.sqrt((1 - c) * (1 - PROGRAMME_SHARE)) * rng.standard_normal((len(state), T))
    return np.asarray(mean + spread * (signal + unseen + noise))


def transcripts(settings: Settings, plates: list[Plate]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the well-level layer (simulated log abundance) and its truth."""
    p = panel(settings, "transcripts", "gene", TRANSCRIPTS)
    values = measure(
        p,
        np.concatenate([q.state for q in plates]),
        np.concatenate([q.programmes for q in plates]),
        np.concatenate([q.compound >= 0 for q in plates]),
        settings.rng("transcripts"),
    )
    keys = {
        "Metadata_Plate": [q.name for q in plates for _ in q.wells],
        "Metadata_Well": [w for q in plates for w in q.wells],
    }
    return _table(keys, p, values), p.truth


def proteins(
    settings: Settings, population: Population, plates: list[Plate]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the treatment-level layer (lysates pooled over the treatment's wells) and its truth.

    A pool's state is the mean of its wells' states over all plates.
    """
    p = panel(settings, "proteins", "prot", PROTEINS)
    compound = np.concatenate([q.compound for q in plates])
    dose = np.concatenate([q.dose for q in plates])
    state = np.concatenate([q.state for q in plates])
    programmes = np.concatenate([q.programmes for q in plates])
    treatments = [(c, d) for c in range(settings.compounds) for d in range(settings.doses)] + [(-1, -1)]
    pools = [(compound == c) & (dose == d) for c, d in treatments]
    treated = np.array([c >= 0 for c, _ in treatments])
    values = measure(
        p,
        np.array([state[m].mean(axis=0) for m in pools]),
        np.array([programmes[m].mean(axis=0) for m in pools]),
        treated,
        settings.rng("proteins"),
    )
    names, doses = [*population.compounds, CONTROL], [*settings.concentrations, 0.0]
    keys: dict[str, Sequence[object]] = {
        "Metadata_Compound": [names[c] for c, _ in treatments],
        "Metadata_Concentration": [doses[d] for _, d in treatments],
    }
    return _table(keys, p, values), p.truth


def regulation(settings: Settings, population: Population) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one call per compound and transcript (1 up, -1 down, 0 not, NaN missing) and its truth.

    The call is made on the top dose's expected shift δ = √c β'z + √((1-c) p) γ'w, each part scaled to
    unit variance over compounds, with noise of sd 0.4: up above 0.8, down below -0.8; 10 % are missing
    at random.
    """
    p = panel(settings, "transcripts", "gene", TRANSCRIPTS)
    c = p.truth["ceiling"].to_numpy(float)

    def scaled(shift: NDArray[np.float64]) -> NDArray[np.float64]:
        sd = np.sqrt((shift**2).mean(axis=0))
        return np.asarray(shift / np.where(sd > 0, sd, 1.0))

    shift = np.sqrt(c) * scaled(population.state[:, -1] @ p.state) + np.sqrt(
        (1 - c) * PROGRAMME_SHARE
    ) * scaled(population.programmes[:, -1] @ p.programmes)
    rng = settings.rng("regulation")
    seen = shift + rng.normal(0.0, CALL_NOISE, shift.shape)
    calls = np.where(seen > 0.8, 1.0, np.where(seen < -0.8, -1.0, 0.0))
    calls[rng.uniform(size=calls.shape) < MISSING_CALLS] = np.nan
    truth = p.truth.assign(layer="regulation", ceiling=np.nan)
    return _table({"Metadata_Compound": list(population.compounds)}, p, calls), truth


def targets(settings: Settings, population: Population) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return binary targets of compounds and their truth.

    A ``mechanism`` target is hit by 85 % of the compounds of three mechanisms and 2 % of the others; a
    ``null`` target by a tenth of all compounds, whatever they do to cells.
    """
    rng = settings.rng("targets")
    kinds = rng.permutation([k for k, n in TARGETS.items() for _ in range(n)])
    count = n_mechanisms(settings)
    owned = np.zeros((count, len(kinds)), bool)
    for t in range(len(kinds)):
        owned[rng.choice(count, min(TARGET_MECHANISMS, count - 1), replace=False), t] = True
    chance = np.where(kinds == "null", 0.1, np.where(owned[population.mechanism], 0.85, 0.02))
    hits = (rng.uniform(size=chance.shape) < chance).astype(np.float32)
    truth = pd.DataFrame(
        {
            "readout": [f"target-{t + 1:02d}" for t in range(len(kinds))],
            "layer": "targets",
            "kind": kinds.astype(object),
            "null": kinds == "null",
            "ceiling": np.nan,
        }
    )
    keys = pd.DataFrame({"Metadata_Compound": list(population.compounds)})
    return pd.concat([keys, pd.DataFrame(hits, columns=truth["readout"].tolist())], axis=1), truth


def _table(keys: Mapping[str, Sequence[object]], p: Panel, values: NDArray[np.float64]) -> pd.DataFrame:
    numbers = pd.DataFrame(values.astype(np.float32), columns=p.truth["readout"].tolist())
    return pd.concat([pd.DataFrame(keys), numbers], axis=1)
