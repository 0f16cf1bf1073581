"""The microscope's noise and illumination are what its docstrings say."""

from __future__ import annotations

import numpy as np

from bench.demo import Settings, optics


def test_grey_levels_have_the_stated_mean_and_variance():
    light = np.full((5, 120, 120), 200.0, np.float32)
    flat = np.ones_like(light)
    grey = optics.expose(light, flat, np.ones(5), np.random.default_rng(0)).astype(float)
    photons = 200.0 + optics.BACKGROUND
    assert abs(grey.mean() - (optics.OFFSET + optics.GREY_PER_PHOTON * photons)) < 2.0
    expected = optics.GREY_PER_PHOTON**2 * (photons + optics.READ_NOISE**2)
    assert abs(grey.var() / expected - 1.0) < 0.03


def test_grey_levels_saturate_instead_of_wrapping_around():
    light = np.full((1, 4, 4), 1e6, np.float32)
    grey = optics.expose(light, np.ones_like(light), np.ones(1), np.random.default_rng(0))
    assert grey.dtype == np.uint16
    assert (grey == 65535).all()


def test_gain_scales_each_channel():
    light = np.full((2, 64, 64), 100.0, np.float32)
    grey = (
        optics.expose(light, np.ones_like(light), np.array([1.0, 2.0]), np.random.default_rng(0))
        - optics.OFFSET
    )
    assert abs(grey[1].mean() / grey[0].mean() - 2.0) < 0.05


def test_illumination_differs_by_plate_and_channel_and_falls_by_15_to_60_percent():
    settings = Settings()
    frames = np.concatenate([optics.illumination(settings, plate) for plate in (0, 1)])
    assert frames.shape == (10, settings.size, settings.size)
    assert len({f.tobytes() for f in frames}) == 10
    fall = 1.0 - frames.min(axis=(1, 2)) / frames.max(axis=(1, 2))
    assert (fall > 0.1).all()
    assert (fall < 0.75).all()
