"""Settings that every foundation model shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featurizers.base import FeaturizerError
from featurizers.crops import Background, Border, MaskName
from featurizers.training.settings import check

Strategy = Literal["native", "per-channel-concat", "per-channel-mean", "adapt-patch-embed", "rgb-composite"]
Grey = Literal["percentile", "bit-depth"]


@dataclass(frozen=True)
class FoundationConfig:
    """How a network's weights are found, and how cells become its input.

    Parameters
    ----------
    weights
        File with the weights, safetensors or a checkpoint of tensors only. In the featurizer's own config it
        is replaced by ``sha256:`` and the digest of its content, so that the key of stored features knows the
        content and not the place.
    crop, scale, mask, background, border
        Single-cell crops, see :func:`featurizers.crops.cut`; ``crop`` is the edge in pixels.
    input_size
        Edge that crops are resized to (bilinear, with a Gaussian against aliasing).
    grey
        Grey levels to [0, 1]: ``"percentile"`` maps each field's 0.1st and 99.9th percentile of a channel to
        0 and 1 and clips; ``"bit-depth"`` divides by the largest grey level.
    mean, std
        Subtracted and divided by after that, one number per input plane or one for all; empty: what the
        network's class says, else 0 and 1.
    strategy
        How C channels meet a network of k input planes. ``"native"``: k = C, as they are.
        ``"per-channel-concat"``: each channel alone, repeated k times, the C embeddings side by side.
        ``"per-channel-mean"``: likewise, averaged (the stain's identity is lost). ``"adapt-patch-embed"``:
        the input weights are repeated to C planes and scaled by k / C. ``"rgb-composite"``: the k channels
        named in ``rgb``, in that order.
    rgb
        Channels of ``"rgb-composite"``; empty: the first k.
    """

    weights: str = ""
    crop: int = 64
    scale: float = 1.0
    mask: MaskName = "outermost"
    background: Background = "keep"
    border: Border = "pad"
    input_size: int = 224
    grey: Grey = "percentile"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    strategy: Strategy = "per-channel-concat"
    rgb: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(type(self).__name__, self, positive=("crop", "input_size"), factors=("scale",))
        if len(self.mean) != len(self.std) or any(s <= 0 for s in self.std):
            msg = f"mean={self.mean} and std={self.std} must be equally many, and each std positive"
            raise FeaturizerError(msg)
        if self.weights.startswith("sha256:"):
            msg = f"weights={self.weights} is a digest; name the file that holds them"
            raise FeaturizerError(msg)
