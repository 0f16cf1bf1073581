"""A small synthetic field with awkward objects, and what "equal" means against cp-measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from featurizers.cellprofiler.objects import find_objects, gather


@dataclass(frozen=True)
class SyntheticField:
    """Pixels (C, H, W) on the 16-bit grid in [0, 1] and masks with shared ids 1 ... n."""

    pixels: np.ndarray
    nuclei: np.ndarray
    cells: np.ndarray

    @property
    def cytoplasm(self) -> np.ndarray:
        return np.where(self.nuclei > 0, 0, self.cells)


def make_field(size: int = 120, side: int = 3, channels: int = 3, seed: int = 0) -> SyntheticField:
    """Touching, lobed cells on a jittered grid (the outer ones touch the border), nuclei inside them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    step = size / side
    cells = np.zeros((size, size), np.int32)
    nuclei = np.zeros_like(cells)
    nearest = np.full((size, size), np.inf)
    for k in range(side * side):
        row, col = (np.array(divmod(k, side)) + 0.5) * step + rng.normal(0, step * 0.08, 2)
        major, minor = step * rng.uniform(0.42, 0.62), step * rng.uniform(0.35, 0.5)
        turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        u = (y - row) * np.cos(turn) + (x - col) * np.sin(turn)
        v = (x - col) * np.cos(turn) - (y - row) * np.sin(turn)
        radius = np.hypot(u / major, v / minor) * (1 + 0.12 * np.sin(3 * np.arctan2(v, u) + phase))
        inside = (radius < 1) & (radius < nearest)
        cells[inside] = k + 1
        nearest[inside] = radius[inside]
        nuclei[radius < 0.45] = k + 1
    nuclei[nuclei != cells] = 0
    pixels = []
    for c in range(channels):
        texture = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.2 + 0.6 * c)
        base = np.where(nuclei > 0, 0.35 - 0.1 * (c % 2), np.where(cells > 0, 0.12 + 0.05 * c, 0.02))
        plane = ndimage.gaussian_filter(base, 1.0) * (1 + 0.25 * texture / texture.std())
        pixels.append(np.clip(plane + rng.normal(0, 0.004, plane.shape), 0, 1))
    return SyntheticField(np.rint(np.stack(pixels) * 65535) / 65535, nuclei, cells)


@pytest.fixture(scope="session")
def field() -> SyntheticField:
    return make_field()


@pytest.fixture(scope="session")
def measured(field):
    """Objects and gathered values of the three compartments of the synthetic field."""
    masks = {"nuclei": field.nuclei, "cells": field.cells, "cytoplasm": field.cytoplasm}
    found = {name: find_objects(mask) for name, mask in masks.items()}
    return {name: (masks[name], objects, gather(field.pixels, objects)) for name, objects in found.items()}


@pytest.fixture(scope="session")
def tiny_objects() -> np.ndarray:
    """Objects of 1 and 2 pixels, lines, a square, a ring, a diagonal and labels with gaps: 3, 7, 8, ..."""
    mask = np.zeros((40, 44), np.int32)
    mask[1, 1] = 3
    mask[1, 4:6] = 7
    mask[4, 4:14] = 8
    mask[4:14, 1] = 11
    mask[7:11, 4:8] = 12
    mask[7:14, 12:19] = 20
    mask[9:12, 14:17] = 0
    mask[np.arange(16, 26), np.arange(2, 12)] = 21
    mask[16:24, 16:30] = 22  # touches the next one
    mask[16:24, 30:36] = 30
    mask[36:40, 40:44] = 31  # in the corner
    mask[30, 5] = mask[34, 9] = 40  # two pieces
    return mask


@pytest.fixture(scope="session")
def assert_equal_values():
    """Compare with the stated tolerance: rtol 1e-6 plus atol 1e-9 of the column's largest magnitude.

    Around exact zeros no relative tolerance can hold: a central moment of a symmetric object is 0 in one
    order of summation and 1e-13 in another. The 1e-12 is for columns that hold nothing but such residues.
    """

    def compare(ours, theirs, name: str, atol: float = 1e-9, rtol: float = 1e-6) -> None:
        ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
        finite = theirs[np.isfinite(theirs)]
        scale = np.abs(finite).max(initial=0.0)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * scale + 1e-12, err_msg=name)

    return compare
