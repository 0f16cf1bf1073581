"""Flat-field profiles of a Harmony index: polynomials in the column and row of a pixel.

Harmony stores images as the camera gave them, and beside them, per channel, the illumination that it would
divide by: ``{Background: {Profile: {Coefficients: [[c00], [c10, c01], …], Dims: …, Origin: …, Scale: …,
Type: Polynomial}}}``. Row n of the coefficients holds the terms of degree n,

    p(x, y) = Σₙ Σₖ c[n][k] uⁿ⁻ᵏ vᵏ,   u = (x - Origin₀) Scale₀,   v = (y - Origin₁) Scale₁,

with x the column and y the row of a pixel in an image of ``Dims`` (width, height). That rows go by degree can
be read off real indices (only so is the mean of p over the field 1); that x comes before y is the
convention of polynomials, which no document states.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("Foreground", "Background")
"""Where a profile may stand; the first that holds a polynomial is taken: cells tell more than background."""

_LIST = r"{}\s*:\s*(\[[^:{{}}]*\])"


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A profile as the index has it: ``coefficients`` by degree, ``dims`` (width, height), origin, scale."""

    coefficients: tuple[tuple[float, ...], ...]
    dims: tuple[float, ...]
    origin: tuple[float, ...]
    scale: tuple[float, ...]


def parse(text: str, where: str) -> Polynomial | None:
    """Return the polynomial of a ``FlatfieldProfile``; None where the channel has none (``Identity``).

    Parameters
    ----------
    text
        Content of the element.
    where
        File and channel, for the message.

    Raises
    ------
    DatasetError
        When a polynomial lacks a part or its coefficients do not go by degree.
    """
    for part in PARTS:
        block = _block(text, part)
        if re.search(r"Type\s*:\s*\"?Polynomial", block):
            rows = re.search(_LIST.format("Coefficients"), block)
            found = [re.search(_LIST.format(name), block) for name in ("Dims", "Origin", "Scale")]
            try:
                coefficients = tuple(_numbers(row) for row in re.findall(r"\[([^\[\]]*)\]", rows[1]))  # type: ignore[index]
                dims, origin, scale = (_numbers(m[1].strip("[]")) for m in found)  # type: ignore[index]
            except (TypeError, ValueError) as error:
                raise DatasetError(
                    f"{where}: its flat-field profile lacks Coefficients, Dims, Origin or Scale, or they are "
                    "no numbers; export the index again, or leave --illumination out"
                ) from error
            by_degree = [len(row) for row in coefficients] == list(range(1, len(coefficients) + 1))
            if not by_degree or not len(dims) == len(origin) == len(scale) == 2:
                raise DatasetError(
                    f"{where}: the coefficients of its flat-field profile do not go by degree; leave "
                    "--illumination out"
                )
            return Polynomial(coefficients, dims, origin, scale)
    return None


def evaluate(profile: Polynomial, height: int, width: int, where: str) -> NDArray[np.float32]:
    """Return p at the pixels of an image (height, width), which may be binned against ``dims``.

    Raises
    ------
    DatasetError
        When the image has another shape than the profile, or p is not positive everywhere.
    """
    across, down = profile.dims[0] / width, profile.dims[1] / height
    if not math.isclose(across, down, rel_tol=1e-3):
        raise DatasetError(
            f"{where}: its flat-field profile is for {profile.dims[0]:g} x {profile.dims[1]:g} pixels, the "
            f"images have {width} x {height}; leave --illumination out"
        )
    # A binned pixel's centre lies between those of the pixels that it was made of.
    u = ((np.arange(width) + 0.5) * across - 0.5 - profile.origin[0]) * profile.scale[0]
    v = ((np.arange(height) + 0.5) * down - 0.5 - profile.origin[1]) * profile.scale[1]
    out = np.zeros((height, width))
    for degree, row in enumerate(profile.coefficients):
        for k, coefficient in enumerate(row):
            out += coefficient * v[:, None] ** k * u[None] ** (degree - k)
    if not out.min() > 0:
        raise DatasetError(
            f"{where}: its flat-field profile falls to {out.min():.3g}; leave --illumination out"
        )
    return out.astype(np.float32)


def _block(text: str, name: str) -> str:
    """Return what stands between the braces after ``name:``; empty where it is absent."""
    start = re.search(rf"\b{name}\s*:\s*\{{", text)
    if start is None:
        return ""
    depth = 1
    for end in range(start.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start.end() : end]
    return text[start.end() :]


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(word) for word in text.split(","))
    if not all(map(math.isfinite, values)):
        raise ValueError(text)
    return values
