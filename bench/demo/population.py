"""Compounds: what each does to the latent state of the cells, and to what the images do not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.demo.settings import DIMENSIONS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROGRAMMES = 5
MECHANISM_DIMENSIONS = 3
MECHANISM_SD = 1.6
SPECIFIC_SD = 1.0


@dataclass(frozen=True, eq=False)
class Population:
    """The compounds of a screen; P compounds, d doses, L latent dimensions, U programmes.

    Parameters
    ----------
    compounds
        P names.
    mechanism
        (P,) int, the mechanism each compound belongs to.
    state
        (P, d, L) shift of the latent state; DMSO has 0.
    programmes
        (P, d, U) unexplained programmes: seen by readouts, never by an image.
    """

    compounds: tuple[str, ...]
    mechanism: NDArray[np.int64]
    state: NDArray[np.float64]
    programmes: NDArray[np.float64]


def n_mechanisms(settings: Settings) -> int:
    """Return the number of mechanisms: about one per four compounds, at least two."""
    return max(2, settings.compounds // 4)


def hill(
    concentration: NDArray[np.float64], ec50: NDArray[np.float64], slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (P, d) response h = c^n / (c^n + EC50^n), between 0 and 1.

    Parameters
    ----------
    concentration
        (d,) µM.
    ec50, slope
        (P,) µM and dimensionless.
    """
    ratio = (concentration[None, :] / ec50[:, None]) ** slope[:, None]
    return ratio / (1.0 + ratio)


def _response(settings: Settings, stream: str) -> NDArray[np.float64]:
    rng = settings.rng(stream)
    ec50 = np.exp(rng.uniform(np.log(0.4), np.log(6.0), settings.compounds))
    slope = rng.uniform(1.0, 2.5, settings.compounds)
    return hill(np.array(settings.concentrations), ec50, slope)


def draw(settings: Settings) -> Population:
    """Draw the compounds of a screen.

    A compound's full effect is a = m[mechanism] + s: the mechanism moves three dimensions (sd 1.6), the
    compound itself all of them (sd 1). The state at dose c is h(c) a. Programmes belong to the
    compound alone, never to the mechanism, and have dose responses of their own: given everything an
    image could show, their expectation is 0.
    """
    P, L = settings.compounds, len(DIMENSIONS)
    rng = settings.rng("mechanisms")
    count = n_mechanisms(settings)
    # Dimensions are dealt like cards, so that none is moved by many mechanisms and another by none.
    hands = -(-count * MECHANISM_DIMENSIONS // L)
    deck = np.concatenate([rng.permutation(L) for _ in range(hands)])
    moved = deck[: count * MECHANISM_DIMENSIONS].reshape(count, MECHANISM_DIMENSIONS)
    shared = np.zeros((count, L))
    np.put_along_axis(shared, moved, rng.normal(0.0, MECHANISM_SD, moved.shape), axis=1)
    rng = settings.rng("compounds")
    mechanism = rng.permutation(np.arange(P) % count)
    full = shared[mechanism] + rng.normal(0.0, SPECIFIC_SD, (P, L))
    state = _response(settings, "state-response")[:, :, None] * full[:, None, :]
    unseen = settings.rng("programmes").normal(0.0, 1.0, (P, PROGRAMMES))
    programmes = _response(settings, "programme-response")[:, :, None] * unseen[:, None, :]
    names = tuple(f"cpd-{i + 1:03d}" for i in range(P))
    return Population(names, mechanism, state, programmes)
