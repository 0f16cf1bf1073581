"""Settings of the learnt unmixing as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.training.settings import check, check_lattice

Intensity = Literal["linear", "log1p"]
Nonlinearity = Literal["identity", "relu", "softplus", "tanh"]
Region = Literal["image", "objects"]
Start = Literal["identity", "random"]

NAME = "unmixing"

CONCENTRATIONS = 1024
"""The most that are taken: each is one more number per pixel of a step, and per row of the store."""


@dataclass(frozen=True)
class UnmixingConfig:
    """What is unmixed, into how many concentrations, and how that is trained.

    No paper has this method as it stands; it is the fluorescence counterpart of a learnt stain matrix, and
    every value below is ours.

    Parameters
    ----------
    concentrations
        K, at most 1,024; 0 for as many as there are channels.
    intensity
        Of a pixel's grey level x in [0, 1]: ``"linear"``, x itself, in which bleed-through adds up;
        ``"log1p"``, ln(1 + 65535 x). Both are centred and scaled per channel by median and spread of the
        training pixels.
    nonlinearity
        g on the concentrations of each pixel, before they are averaged. With ``"identity"`` the rows are
        linear in the mean intensities, whatever the unmixing.
    start
        ``"identity"``: concentration k begins as channel k, no bleed-through. Where K exceeds the channels
        the further columns begin as random directions of length 1; where it is smaller, all do.
        ``"random"``: all do.
    region
        Pixels of the whole image, or of ``"objects"``: those inside any mask; the whole image where a field
        has no object.
    binning, pixels
        Blocks of so many pixels squared are averaged first; so many blocks of a field are then used, a square
        number up to 1,024², on a square lattice (of objects: evenly in reading order), some twice where there
        are fewer. 0: all blocks of the image, for fields of one size.
    steps, batch, lr
        Adam: steps, wells per step, peak learning rate, which falls to 0 along a cosine.
    weights
        Folder of weights that ``save`` wrote after a training with these settings (a store keeps such folders
        under ``weights``); nothing is then trained. Empty: it is trained on this data set.
    """

    concentrations: int = 0
    intensity: Intensity = "linear"
    nonlinearity: Nonlinearity = "relu"
    start: Start = "identity"
    region: Region = "image"
    binning: int = 2
    pixels: int = 1024
    steps: int = 300
    batch: int = 64
    lr: float = 0.02
    weights: str = ""

    def __post_init__(self) -> None:
        check(NAME, self, positive=("binning", "steps", "batch"), not_negative=("pixels",), rates=("lr",))
        if self.concentrations < 0:
            msg = (
                f"{NAME}: concentrations is {self.concentrations}; it must be 1 or more, or 0 for one per "
                "channel"
            )
            raise FeaturizerError(msg)
        if self.concentrations > CONCENTRATIONS:
            msg = (
                f"{NAME}: concentrations is {self.concentrations:,}; it must be at most {CONCENTRATIONS:,}, "
                "because every pixel of a step holds so many numbers in memory"
            )
            raise FeaturizerError(msg)
        check_lattice(NAME, self.pixels)
        if self.region == "objects" and not self.pixels:
            msg = f"{NAME}: fields have different numbers of object pixels; with region=objects set pixels"
            raise FeaturizerError(msg)


_DEFAULT = UnmixingConfig()

PRESETS: Mapping[str, UnmixingConfig] = MappingProxyType(
    {
        "relu": _DEFAULT,
        "objects": replace(_DEFAULT, region="objects"),
        "log": replace(_DEFAULT, intensity="log1p"),
        "tanh": replace(_DEFAULT, nonlinearity="tanh"),
        "wide": replace(_DEFAULT, concentrations=32),
        "linear": replace(_DEFAULT, nonlinearity="identity"),
        "default": _DEFAULT,
    }
)
