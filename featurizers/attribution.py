r"""Where in a crop a prediction comes from: gradients with respect to pixels, averaged over noisy copies.

With u a crop's pixels as shares of its range in each channel, x = low + (high - low) u, and

    f(u) = w · z(x(u))

the prediction that a linear head (w) makes of the crop's embedding z, the map is

    M(u) = 1/n Σ_k ∂f(u + ε_k) / ∂u,    ε_k ~ N(0, σ²)  per pixel,

the gradient itself where σ is 0. A value of M says by how much the prediction changes if that pixel moves by
the whole range of its channel, so channels can be compared.

Source: Smilkov et al. 2017, SmoothGrad: removing noise by adding noise, arXiv 1706.03825, equation of section
3; σ is their noise level, a share of x_max - x_min.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from featurizers.base import FeaturizerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from featurizers.base import Field
    from featurizers.crops import Crops

NOISE = 0.15
"""Noise level σ: the paper finds 10 to 20 % to balance sharpness of the map and structure of the image."""
SAMPLES = 50
"""Noisy copies n: the paper sees little change above 50."""
PASS = 10
"""Copies per forward pass."""


@runtime_checkable
class Differentiable(Protocol):
    """What a featurizer has whose rows are a differentiable function of crops.

    Both are asked for after :meth:`~featurizers.base.Featurizer.fit` or ``load``.
    """

    def crops(self, field: Field) -> Crops:
        """Return the crops of a field as :meth:`differentiable` takes them."""
        ...

    def differentiable(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the map from crops (N, C, S, S) and their masks (N, S, S) to rows (N, D) of ``embed``.

        Each row is a function of its own crop, and gradients pass through all of it.
        """
        ...


def smoothgrad(
    network: Callable[[Tensor, Tensor], Tensor],
    pixels: NDArray[np.float32],
    inside: NDArray[np.bool_],
    direction: NDArray[np.floating[Any]],
    *,
    noise: float = NOISE,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Return the attribution map (C, S, S) of one crop.

    Parameters
    ----------
    network
        Rows (N, D) of crops and masks, see :meth:`Differentiable.differentiable`.
    pixels
        (C, S, S) one crop.
    inside
        (S, S) its mask.
    direction
        (D,) w: the prediction is w · row, up to a constant.
    noise, samples, seed
        σ, n, and what seeds ε. A channel without a range gets no noise and a map of zeros.
    device
        Where the network's weights are.

    Raises
    ------
    FeaturizerError
        When the network's rows have another width than ``direction``, or a gradient is not finite.
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    low, high = x.amin(dim=(1, 2), keepdim=True), x.amax(dim=(1, 2), keepdim=True)
    span = high - low
    share = (x - low) / torch.where(span > 0, span, 1.0)
    weight = torch.from_numpy(np.asarray(direction, np.float32)).to(device)
    own = torch.from_numpy(np.ascontiguousarray(inside)).to(device)
    generator = torch.Generator().manual_seed(seed)
    copies = samples if noise > 0 else 1
    total = torch.zeros(x.shape, dtype=torch.float64)
    for start in range(0, copies, PASS):
        count = min(PASS, copies - start)
        moved = torch.randn((count, *x.shape), generator=generator).to(device) * noise
        u = (share + moved).requires_grad_()
        rows = network(low + span * u, own.expand(count, -1, -1))
        if rows.shape != (count, len(weight)):
            msg = f"the network gives rows of {rows.shape[1]} numbers, the head takes {len(weight)}"
            raise FeaturizerError(msg)
        (slope,) = torch.autograd.grad((rows.float() @ weight).sum(), u)
        total += slope.double().sum(dim=0).cpu()
    found: NDArray[np.float64] = (total / copies).numpy()
    if not np.isfinite(found).all():
        raise FeaturizerError("the gradient of a crop is not finite; check its pixels and the weights")
    return found
