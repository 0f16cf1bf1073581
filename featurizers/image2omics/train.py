"""Training of the linear head on bags of frozen tile features, in the loop that all entrants share."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.image2omics.config import NAME, Image2OmicsConfig
from featurizers.image2omics.model import BagHead, batch
from featurizers.training import parallel
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe
from featurizers.training.schedules import batch_indices, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from featurizers.resnet18_triplet.model import BagNetwork
    from featurizers.training.targets import Targets


def train_head(
    network: BagNetwork,
    features: NDArray[np.float32],
    unit: NDArray[np.int64],
    targets: Targets,
    config: Image2OmicsConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> BagHead:
    """Fit the head to bags of tiles, or go on from the checkpoint in the work folder.

    Per step the loss is the mean over observed readouts of the batch of (ŷ − z)², z standardised readouts.

    Parameters
    ----------
    features, unit
        (n, D) tile features, and the unit (row of ``targets``) that each tile is of.

    Raises
    ------
    FeaturizerError
        When no training unit has a tile.
    """
    device = parallel.join(context.device)
    units, readouts = targets.values.shape
    order = np.argsort(unit, kind="stable")
    of_unit = np.split(order, np.searchsorted(unit[order], np.arange(1, units)))
    usable = np.flatnonzero([len(own) for own in of_unit])
    if not usable.size:
        msg = f"{NAME}: no training unit has a tile; check the segmentation, or set triplet to smaller tiles"
        raise FeaturizerError(msg)
    if usable.size < units:
        warnings.warn(
            f"{NAME}: {units - usable.size} of {units} training units have no tile and are left out",
            stacklevel=2,
        )
    head = BagHead(config, network, readouts, context.seed).to(device)
    made_as = {
        "config": asdict(config) | {"class_columns": list(config.class_columns)},
        "seed": context.seed,
        "units": int(usable.size),
    }
    loop = Loop(head, _recipe(config), context, made_as)
    values, observed = torch.from_numpy(targets.values), torch.from_numpy(targets.observed)
    size = min(config.bag_units, int(usable.size))

    def accumulate(step: int) -> dict[str, Tensor]:
        places = batch_indices(context.seed, step, size, int(usable.size)).numpy()
        chosen = usable[places]
        seed = stream(context.seed, "bags of tiles", step).initial_seed()
        predicted = head(batch(features, of_unit, chosen, config, seed).to(device))
        rows = torch.from_numpy(chosen)
        seen = observed[rows].to(device)
        gap = torch.where(seen, (predicted - values[rows].to(device)).square(), 0.0)
        loss = gap.sum() / seen.sum().clamp(min=1)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.detach()}

    loop.run(accumulate, checkpoint_seconds=checkpoint_seconds)
    head.eval()
    return head


def _recipe(config: Image2OmicsConfig) -> Recipe:
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.bag_units * config.bag_tiles,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda _: config.lr,
        decay=lambda _: config.weight_decay,
        remedy="lower lr",
        memory_remedy="lower bag_units",
    )
