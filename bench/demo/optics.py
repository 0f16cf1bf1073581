"""The microscope: illumination, gain, shot and read noise, offset, and 16-bit grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.demo.settings import CHANNELS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = 12.0
READ_NOISE = 3.0
GREY_PER_PHOTON = 6.0
OFFSET = 250.0


def illumination(settings: Settings, plate: int) -> NDArray[np.float32]:
    """Return (C, H, W) illumination of one plate: 1 - v r² about an off-centre point, v from 0.15 to 0.4."""
    rng = settings.rng("illumination", plate)
    y, x = np.mgrid[-1.0 : 1.0 : settings.size * 1j, -1.0 : 1.0 : settings.size * 1j]
    frames = []
    for _ in CHANNELS:
        cy, cx = rng.uniform(-0.35, 0.35, 2)
        depth = rng.uniform(0.15, 0.4)
        frames.append(1.0 - depth * ((y - cy) ** 2 + (x - cx) ** 2) / 2.0)
    return np.asarray(frames, np.float32)


def expose(
    light: NDArray[np.float32],
    illumination: NDArray[np.float32],
    gain: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Turn light into grey levels.

    grey = round(offset + 6 (n + read noise)), n ~ N(m, m) for m = gain · illumination · (light + background):
    the Gaussian limit of photon counting.

    Parameters
    ----------
    light
        (C, H, W) photons.
    illumination
        (C, H, W).
    gain
        (C,) of the well.
    rng
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        (C, H, W) uint16.
    """
    mean = gain.astype(np.float32)[:, None, None] * illumination * (light + np.float32(BACKGROUND))
    noise = rng.standard_normal(light.shape, np.float32) * np.sqrt(mean + np.float32(READ_NOISE**2))
    grey = OFFSET + GREY_PER_PHOTON * (mean + noise)
    levels: NDArray[np.uint16] = np.clip(np.rint(grey), 0, 65535).astype(np.uint16)
    return levels
