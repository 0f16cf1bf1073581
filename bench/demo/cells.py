"""Cells: the light that leaves a field of cells in a given latent state, before any microscope sees it.

Every channel's total per cell is set first and a pattern then says where it goes, so a dimension that
moves shape or texture leaves the mean intensity of the field as it was. Distances are pixels,
light is in photons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bench.demo.settings import CHANNELS, DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUCLEUS_RADIUS = 6.8
CELL_RADIUS = 15.0
MEAN_COUNT = 17.0
CELL_SD = 0.35
GOLGI_SPOTS = 10
HALF_WINDOW = 29
DENSITY = {"DNA": 420.0, "ER": 130.0, "RNA": 110.0, "AGP": 120.0, "Mito": 110.0}
"""Photons per pixel: of the nominal nucleus for DNA, of the nominal cell otherwise."""

_I = {name: i for i, name in enumerate(DIMENSIONS)}
_OFFSET = np.arange(-HALF_WINDOW, HALF_WINDOW + 1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scene:
    """A field of cells.

    Parameters
    ----------
    light
        (C, H, W) float32 photons.
    centres
        (n, 2) float32, row and column of each nucleus.
    """

    light: NDArray[np.float32]
    centres: NDArray[np.float32]


def bounded(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2.5 tanh(z / 2.5): effects saturate, so no state leaves the range of plausible cells."""
    return 2.5 * np.tanh(state / 2.5)


def place(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    """Return up to n centres (n, 2), uniform but no closer than nuclei can lie; crowded fields hold fewer."""
    centres = np.zeros((n, 2))
    placed = 0
    distance = 1.85 * NUCLEUS_RADIUS
    for candidate in rng.uniform(3.0, size - 3.0, (60 * n, 2)):
        if placed == n:
            break
        if (np.hypot(*(centres[:placed] - candidate).T) >= distance).all():
            centres[placed] = candidate
            placed += 1
    return centres[:placed].astype(np.float32)


def _noise(rng: np.random.Generator, size: int, sigma: float) -> NDArray[np.float32]:
    """Return (size, size) Gaussian noise of correlation length sigma, mean 0, variance 1, periodic."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), sigma, mode="wrap")
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))), np.float32)


def _grain(
    fine: NDArray[np.float32], coarse: NDArray[np.float32], z: float, amount: float
) -> NDArray[np.float32]:
    """Mix two textures at constant variance: 1 + amount (√w fine + √(1-w) coarse), w falling with z."""
    w = 1.0 / (1.0 + np.exp(1.3 * z))
    mixed = 1.0 + amount * (np.sqrt(w) * fine + np.sqrt(1.0 - w) * coarse)
    return np.asarray(np.maximum(mixed, 0.05), np.float32)


def _blobs(angle: NDArray[np.float64], away: NDArray[np.float64], sigma: float) -> NDArray[np.float32]:
    """Return the sum of Gaussian blobs at polar positions about the centre of a window."""
    y = np.exp(-((_OFFSET[None] - (away * np.sin(angle))[:, None]) ** 2) / (2 * sigma**2))
    x = np.exp(-((_OFFSET[None] - (away * np.cos(angle))[:, None]) ** 2) / (2 * sigma**2))
    return np.asarray(y.T @ x, np.float32)


def _spots(rng: np.random.Generator, z: float, radius: float) -> NDArray[np.float32]:
    """Return Golgi spots in a window: one compact body for low z, scattered around the nucleus for high z."""
    scatter = 1.0 / (1.0 + np.exp(-1.3 * z))
    angle = rng.uniform(0.0, 2 * np.pi) + rng.normal(0.0, 0.15 + 2.4 * scatter, GOLGI_SPOTS)
    away = radius * (1.25 + rng.uniform(0.0, 0.2 + 0.5 * scatter, GOLGI_SPOTS))
    return _blobs(angle, away, 1.3)


def _nucleoli(rng: np.random.Generator, radius: float) -> NDArray[np.float32]:
    n = int(rng.integers(2, 5))
    angle, away = rng.uniform(0.0, 2 * np.pi, n), radius * rng.uniform(0.1, 0.6, n)
    return _blobs(angle, away, 1.2)


def _outline(
    rng: np.random.Generator, radius: float, log_ratio: float, tilt: float, rough: float
) -> NDArray[np.float32]:
    """Return the relative distance d (1 on the outline) over a window of an ellipse with a wavy edge.

    The area does not depend on the axis ratio exp(log_ratio).
    """
    y, x = _OFFSET[:, None], _OFFSET[None, :]
    u = x * np.cos(tilt) + y * np.sin(tilt)
    v = -x * np.sin(tilt) + y * np.cos(tilt)
    stretch = np.exp(0.5 * log_ratio)
    theta = np.arctan2(v * stretch, u / stretch)
    wave = np.ones_like(theta)
    for k in (2, 3, 5):
        wave += rng.normal(0.0, rough) * np.cos(k * theta + rng.uniform(0.0, 2 * np.pi))
    distance = np.hypot(u / stretch, v * stretch) / (radius * np.maximum(wave, 0.6))
    return np.asarray(distance, np.float32)


def _patterns(
    rng: np.random.Generator, z: NDArray[np.float64], textures: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return where each channel's light goes in one cell's window (weights, not normalised)."""
    tilt = rng.uniform(0.0, np.pi)
    log_ratio = 0.35 * np.exp(0.45 * z[_I["elongation"]])
    r_nucleus = NUCLEUS_RADIUS * np.exp(0.12 * z[_I["nucleus_size"]])
    r_cell = CELL_RADIUS * np.exp(rng.normal(0.0, 0.06))
    d_nucleus = _outline(rng, r_nucleus, 0.5 * log_ratio, tilt, 0.02)
    d_cell = _outline(rng, r_cell, log_ratio, tilt, 0.045)
    nucleus = _sigmoid((1.0 - d_nucleus) * np.float32(r_nucleus / 0.7))
    cell = np.maximum(_sigmoid((1.0 - d_cell) * np.float32(r_cell / 1.2)), nucleus)
    # Position in the cytoplasm: 0 on the nuclear envelope, 1 on the membrane.
    outside = np.maximum(d_nucleus - 1.0, 0.0) * np.float32(r_nucleus)
    inside = np.maximum(1.0 - d_cell, 0.0) * np.float32(r_cell)
    t = outside / (outside + inside + np.float32(1e-3))

    chromatin = _grain(
        textures["chromatin_fine"], textures["chromatin_coarse"], z[_I["chromatin_grain"]], 0.35
    )
    reticulum = _grain(textures["er_fine"], textures["er_coarse"], z[_I["er_grain"]], 0.35)
    reach = 0.32 * np.exp(0.6 * z[_I["mito_spread"]])
    thickness = np.float32(0.35) + np.maximum(1.0 - t, 0.0)
    cortex = np.exp(-(((d_cell - 0.93) * np.float32(r_cell / 1.6)) ** 2))
    golgi = _spots(rng, z[_I["golgi_scatter"]], r_nucleus) * cell
    agp = cell * (np.float32(0.3) * textures["soft"]) + 0.6 * cortex
    return {
        "DNA": nucleus * chromatin,
        "ER": cell * (1.0 - 0.65 * nucleus) * thickness * reticulum,
        "RNA": cell * (0.25 + 0.75 * thickness) * textures["soft"] * (1.0 - 0.35 * nucleus)
        + 2.2 * _nucleoli(rng, r_nucleus) * nucleus,
        "AGP": agp / agp.sum() + 0.8 * golgi / golgi.sum(),
        "Mito": cell * (1.0 - 0.92 * nucleus) * np.exp(-t / np.float32(reach)) * textures["filaments"],
    }


def render(state: NDArray[np.float64], rng: np.random.Generator, size: int, crowding: float = 1.0) -> Scene:
    """Draw one field of cells.

    Parameters
    ----------
    state
        (L,) latent state of the well.
    rng
        Source of everything random: number, places, heterogeneity and textures of the cells.
    size
        Side of the field, pixels.
    crowding
        Factor on the expected number of cells.
    """
    z_well = bounded(np.asarray(state, np.float64))
    expected = MEAN_COUNT * crowding * np.exp(0.3 * z_well[_I["count"]]) * (size / 176.0) ** 2
    n = int(expected * np.exp(rng.normal(0.0, 0.1)) + rng.uniform())
    centres = place(rng, n, size)
    fields = {
        "chromatin_fine": _noise(rng, size, 0.8),
        "chromatin_coarse": _noise(rng, size, 2.4),
        "er_fine": _noise(rng, size, 1.0),
        "er_coarse": _noise(rng, size, 3.2),
        "soft": np.maximum(1.0 + 0.15 * _noise(rng, size, 1.5), 0.05),
        # Ridges of smooth noise look like threads.
        "filaments": np.exp(-np.abs(_noise(rng, size, 1.4)) / np.float32(0.45)),
    }
    pad = HALF_WINDOW + 1
    light = np.zeros((len(CHANNELS), size + 2 * pad, size + 2 * pad), np.float32)
    padded = {name: np.pad(field, pad, mode="wrap") for name, field in fields.items()}
    for centre in centres:
        z = z_well + rng.normal(0.0, CELL_SD, len(z_well))
        y, x = (round(float(c)) + pad - HALF_WINDOW for c in centre)
        window = np.s_[y : y + len(_OFFSET), x : x + len(_OFFSET)]
        patterns = _patterns(rng, z, {name: field[window] for name, field in padded.items()})
        level = {
            "ER": np.exp(0.25 * z[_I["rna_level"]]),
            "RNA": np.exp(0.3 * z[_I["rna_level"]]),
            "Mito": np.exp(0.3 * z[_I["mito_level"]]),
        }
        for c, name in enumerate(CHANNELS):
            radius = NUCLEUS_RADIUS if name == "DNA" else CELL_RADIUS
            total = DENSITY[name] * np.pi * radius**2 * level.get(name, 1.0) * np.exp(rng.normal(0.0, 0.12))
            light[(c, *window)] += patterns[name] * np.float32(total / patterns[name].sum())
    return Scene(np.ascontiguousarray(light[:, pad:-pad, pad:-pad]), centres)
