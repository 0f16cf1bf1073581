"""From a field's cells to standardised pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from featurizers.base import Field
from featurizers.crops import Background, Border, Crops, MaskName, checked_pixels, cut
from featurizers.training.settings import Standardise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class CellSettings(Protocol):
    """The settings of an entrant that say how its cells are cut and scaled; see the entrants' configs."""

    @property
    def crop(self) -> int: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def mask(self) -> MaskName: ...  # noqa: D102
    @property
    def background(self) -> Background: ...  # noqa: D102
    @property
    def border(self) -> Border: ...  # noqa: D102
    @property
    def standardise(self) -> Standardise: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Mean and standard deviation per channel, (C,) float32 each, over all training crops' object pixels."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def as_json(self) -> dict[str, list[float]]:
        """Return plain lists; a float32 survives the way through JSON exactly."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[float]]) -> Statistics:
        """Undo :meth:`as_json`."""
        return cls(np.array(value["mean"], np.float32), np.array(value["std"], np.float32))


def cut_cells(field: Field, config: CellSettings) -> Crops:
    """Cut a field's crops with their surroundings; with ``standardise="field"`` the field is scaled first."""
    if config.standardise == "field":
        pixels = checked_pixels(field).astype(np.float64)
        mean = pixels.mean(axis=(1, 2), keepdims=True)
        std = pixels.std(axis=(1, 2), keepdims=True)
        scaled = (pixels - mean) / np.where(std > 0, std, 1.0)
        field = dataclasses.replace(field, pixels=scaled.astype(np.float32))
    return cut(
        field, config.crop, scale=config.scale, mask=config.mask, background="keep", border=config.border
    )


def prepare(pixels: Tensor, inside: Tensor, config: CellSettings, statistics: Statistics | None) -> Tensor:
    """Standardise crops, then set their background to 0; each crop's result depends on that crop only.

    ``"crop-inside-mask"``: (x - m) / s with m and s the mean and population standard deviation of x over the
    crop's own object, per channel. ``"dataset"``: m and s are ``statistics``. ``"field"``: done before
    cutting. A channel without variance becomes 0. Scaling comes first because a zeroed background would
    otherwise dominate m and s.

    Parameters
    ----------
    pixels
        (N, C, S, S) float32.
    inside
        (N, S, S) bool.
    statistics
        Needed for ``standardise="dataset"``.

    Returns
    -------
    Tensor
        (N, C, S, S) float32.
    """
    own = inside[:, None]
    if config.standardise == "crop-inside-mask":
        count = own.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        mean = (pixels * own).sum(dim=(2, 3), keepdim=True) / count
        centred = pixels - mean
        std = ((centred * own).square().sum(dim=(2, 3), keepdim=True) / count).sqrt()
        # rounding leaves a constant channel with a tiny spread that must not be blown up
        flat = std <= 1e-6 * mean.abs()
        pixels = torch.where(flat, 0.0, centred / torch.where(flat, 1.0, std))
    elif config.standardise == "dataset":
        assert statistics is not None
        mean = torch.as_tensor(statistics.mean, device=pixels.device)[None, :, None, None]
        std = torch.as_tensor(statistics.std, device=pixels.device)[None, :, None, None]
        pixels = torch.where(std > 0, (pixels - mean) / torch.where(std > 0, std, 1.0), 0.0)
    return pixels * own if config.background == "zero" else pixels


def dihedral(images: Tensor, element: Tensor) -> Tensor:
    """Apply element 0-7 of the square's symmetries to each image: quarter turns, then a mirror for 4-7.

    Parameters
    ----------
    images
        (N, C, S, S).
    element
        (N,) int64.
    """
    turned = torch.empty_like(images)
    for code in torch.unique(element).tolist():
        chosen = element == code
        result = torch.rot90(images[chosen], code % 4, dims=(2, 3))
        turned[chosen] = result.flip(3) if code >= 4 else result
    return turned
