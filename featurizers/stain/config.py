"""Settings of Neural Stain Learning as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.training.settings import check, check_lattice

Learn = Literal["stain", "deconvolution"]
Nonlinearity = Literal["identity", "relu", "softplus", "tanh"]
Readout = Literal["one-stain", "two-stains"]
Loss = Literal["mse", "huber"]

NAME = "stain"


@dataclass(frozen=True)
class StainConfig:
    """Which of the readings of the abstract, and how it is trained.

    Only the paper's abstract could be read: a deconvolution matrix that is learnt end to end, eleven
    parameters. Every value below is our reading; names in the options say what else it may be.

    Parameters
    ----------
    learn
        What the 3 × 3 learnt numbers are: ``"stain"``, the colours M (rows: stains) whose inverse unmixes;
        ``"deconvolution"``, that inverse itself. Both start at haematoxylin, eosin and DAB.
    nonlinearity
        g on the concentrations of each pixel, before they are averaged. With ``"identity"`` the model is a
        linear regression on the mean optical density, whatever the matrix.
    readout
        The two further numbers: ``"one-stain"``, the weight of the first stain and an intercept, which
        contains least squares on mean optical density; ``"two-stains"``, the weights of the first two stains
        (haematoxylin and eosin), no intercept.
    epsilon
        In the optical density −ln((x + ε) / (1 + ε)) of x in [0, 1]; 1/255 makes it −ln((I + 1) / 256).
    pixels
        Pixels of a field that are used, on a square lattice: a square number up to 1,024²; 0 for all.
    loss
        Squared error, or Huber's with δ = 1, of standardised readouts.
    steps, batch, lr
        Adam: steps, units per step, learning rate.
    """

    learn: Learn = "stain"
    nonlinearity: Nonlinearity = "relu"
    readout: Readout = "one-stain"
    epsilon: float = 1 / 255
    pixels: int = 1024
    loss: Loss = "mse"
    steps: int = 600
    batch: int = 128
    lr: float = 0.01

    def __post_init__(self) -> None:
        check(NAME, self, positive=("epsilon", "steps", "batch"), not_negative=("pixels",), rates=("lr",))
        check_lattice(NAME, self.pixels)


_DEFAULT = StainConfig()

PRESETS: Mapping[str, StainConfig] = MappingProxyType(
    {
        "default": _DEFAULT,
        "two-stains": replace(_DEFAULT, readout="two-stains"),
        "deconvolution": replace(_DEFAULT, readout="two-stains", learn="deconvolution"),
        "linear": replace(_DEFAULT, nonlinearity="identity", learn="deconvolution"),
    }
)
