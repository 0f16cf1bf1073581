import numpy as np
import pytest

from featurizers.cellprofiler.hull import convex_hulls, enclosing_circles
from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.zernike import ORDERS, measure_zernike


def measure(mask, pixels):
    objects = find_objects(mask)
    return measure_zernike(objects, gather(pixels, objects), enclosing_circles(*convex_hulls(objects)))


def polynomial(n, m, x, y):
    from math import factorial as f

    rho = np.hypot(x, y)
    radial = sum(
        (-1) ** k * f(n - k) / (f(k) * f((n + m) // 2 - k) * f((n - m) // 2 - k)) * rho ** (n - 2 * k)
        for k in range((n - m) // 2 + 1)
    )
    return radial * np.exp(1j * m * np.arctan2(x, y))


def test_moments_equal_sums_of_the_polynomials_in_polar_form(field):
    objects = find_objects(field.cells)
    circle = enclosing_circles(*convex_hulls(objects))
    shape, intensity = measure(field.cells, field.pixels[:1])
    for k in (1, 4):
        row, col, radius = circle[k]
        own = np.argwhere(field.cells == objects.ids[k])
        y, x = ((own - [row, col]) / radius).T
        inside = x * x + y * y <= 1
        for i, (n, m) in enumerate(ORDERS):
            basis = polynomial(n, m, x[inside], y[inside])
            moment = (basis * field.pixels[0][tuple(own[inside].T)]).sum()
            assert shape[k, i] == pytest.approx(abs(basis.sum()) / (np.pi * radius**2), abs=1e-10)
            assert intensity[k, 0, 0, i] == pytest.approx(abs(moment) / len(own), abs=1e-10)
            assert np.exp(1j * intensity[k, 0, 1, i]) == pytest.approx(
                1j * np.conj(moment) / abs(moment), abs=1e-8
            )


def assert_phases_equal(ours, theirs, magnitude, mean, name):
    """Phases agree on the circle, except where the moment is a rounding residue of the pixels' sum."""
    defined = magnitude > 1e-10 * np.maximum(mean, 1e-300)
    turn = np.angle(np.exp(1j * (ours - theirs)))[defined]
    np.testing.assert_allclose(turn, 0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("compartment", ["nuclei", "cells", "cytoplasm"])
def test_zernike_moments_equal_cp_measure(field, compartment, assert_equal_values):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    mask = getattr(field, compartment)
    shape, intensity = measure(mask, field.pixels)
    theirs = core["zernike"](mask, None)
    for i, (n, m) in enumerate(ORDERS):
        assert_equal_values(shape[:, i], theirs[f"Zernike_{n}_{m}"], f"Zernike_{n}_{m}")
    for c, image in enumerate(field.pixels):
        theirs = core["radial_zernikes"](mask, image)
        for i, (n, m) in enumerate(ORDERS):
            size = theirs[f"RadialDistribution_ZernikeMagnitude_{n}_{m}"]
            assert_equal_values(intensity[:, c, 0, i], size, f"ZernikeMagnitude_{n}_{m}")
            phase = theirs[f"RadialDistribution_ZernikePhase_{n}_{m}"]
            mean = theirs["RadialDistribution_ZernikeMagnitude_0_0"]
            assert_phases_equal(intensity[:, c, 1, i], phase, size, mean, f"ZernikePhase_{n}_{m}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tiny_objects_and_black_channels_equal_cp_measure(tiny_objects):
    core = pytest.importorskip("cp_measure.bulk").get_core_measurements()
    pixels = np.stack([np.random.default_rng(0).random(tiny_objects.shape), 0.0 * tiny_objects])
    shape, intensity = measure(tiny_objects, pixels)
    theirs = core["zernike"](tiny_objects, None)
    for i, (n, m) in enumerate(ORDERS):
        np.testing.assert_allclose(shape[:, i], theirs[f"Zernike_{n}_{m}"], rtol=1e-6, atol=1e-9)
        for c, image in enumerate(pixels):
            magnitude = core["radial_zernikes"](tiny_objects, image)[
                f"RadialDistribution_ZernikeMagnitude_{n}_{m}"
            ]
            np.testing.assert_allclose(intensity[:, c, 0, i], magnitude, rtol=1e-6, atol=1e-9)
    assert np.isnan(shape[0]).all()  # one pixel: its circle is a point
