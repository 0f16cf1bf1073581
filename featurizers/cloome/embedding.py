"""From fields to one row each through the image tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from featurizers.base import Embedding, FeaturizerError, Field
from featurizers.cloome.images import central, prepared
from featurizers.fields import where
from featurizers.passes import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from featurizers.cloome.config import Grey, Readout, TowerSettings
    from featurizers.cloome.model import ResNet

# Windows per forward pass. Every pass has exactly this many (the last one is filled up), because a matrix
# product of another size may be computed in another order and would then differ in the last bits.
CHUNK = 8


def embed_fields(
    visual: ResNet,
    config: TowerSettings,
    grey: Grey,
    scale: Callable[[Tensor], Tensor],
    fields: Sequence[Field],
    order: Sequence[int],
) -> Embedding:
    """Return one row per field, of the window around its middle.

    Parameters
    ----------
    scale
        From grey levels of windows (N, C, h, w) to the tower's input.
    order
        Places of the tower's channels among the field's.

    Raises
    ------
    FeaturizerError
        When a field has too few planes or none, or an embedding is not finite.
    """
    device = next(visual.parameters()).device
    shape = (CHUNK, len(order), config.window_height, config.window_width)
    rows = [np.zeros((0, config.columns), np.float32)]
    for start in range(0, len(fields), CHUNK):
        windows = np.zeros(shape, np.float32)
        some = fields[start : start + CHUNK]
        for k, field in enumerate(some):
            planes = prepared(field, grey, config.rescale)
            if len(planes) <= max(order):
                msg = f"{where(field)} has {len(planes)} planes; the network reads plane {max(order) + 1}"
                raise FeaturizerError(msg)
            windows[k] = central(planes[list(order)], *shape[2:])
        found = in_memory(
            lambda w: _read(visual, scale(w), config.readout),
            torch.from_numpy(windows),
            device=device,
            unit="window",
            remedy="lower window_height and window_width",
        )
        rows.append(found[: len(some)].numpy())
    values = np.concatenate(rows)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = fields[int(np.argmin(finite))]
        msg = f"{where(bad)}: the embedding is not finite; check its pixels and the weights"
        raise FeaturizerError(msg)
    return Embedding(values, np.arange(len(fields), dtype=np.int64))


def _read(visual: ResNet, images: Tensor, readout: Readout) -> Tensor:
    """Return what is read of the tower, (N, columns)."""
    images = images.to(memory_format=torch.channels_last)
    features = visual.features(images)
    if readout == "pooled":
        return features
    projected: Tensor = visual.fc(features)
    return functional.normalize(projected, dim=1) if readout == "unit" else projected
