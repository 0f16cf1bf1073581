"""Training of all genes' stain regressors at once, in the loop that all entrants share."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurizers.base import FeaturizerError, FieldSource, FitContext, Progress
from featurizers.passes import in_memory
from featurizers.stain.config import NAME, StainConfig
from featurizers.stain.model import StainRegressors, losses, sampled
from featurizers.training import parallel
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe
from featurizers.training.schedules import batch_indices

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from featurizers.training.targets import Targets


def densities(
    fields: FieldSource, config: StainConfig, report: Callable[[Progress], None]
) -> NDArray[np.float32]:
    """Return (F, P, 3) optical densities of every field.

    Raises
    ------
    FeaturizerError
        When all pixels are asked for and fields differ in size.
    """
    found: list[NDArray[np.float32]] = []
    for done, field in enumerate(fields, start=1):
        found.append(sampled(field, NAME, config))
        if found[-1].shape != found[0].shape:
            msg = f"{NAME}: with pixels=0 every field must have the same size; set a number of pixels"
            raise FeaturizerError(msg)
        report(Progress("optical density", done, len(fields)))
    return np.stack(found) if found else np.zeros((0, 1, 3), np.float32)


def train(
    fields: FieldSource,
    unit: NDArray[np.int64],
    targets: Targets,
    config: StainConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> StainRegressors:
    """Fit standardised readouts of units by Adam, or go on from the checkpoint in the work folder."""
    device = parallel.join(context.device)
    units, genes = targets.values.shape
    network = StainRegressors(config, genes).to(device)
    loop = Loop(network, _recipe(config), context, {"config": asdict(config), "seed": context.seed})
    if not loop.done:
        density = torch.from_numpy(densities(fields, config, loop.report))
        order = np.argsort(unit, kind="stable")
        of_unit = np.split(order, np.searchsorted(unit[order], np.arange(1, units)))
        values, observed = torch.from_numpy(targets.values), torch.from_numpy(targets.observed)
        batch = min(config.batch, units)

        def accumulate(step: int) -> dict[str, Tensor]:
            chosen = batch_indices(context.seed, step, batch, units)
            own = [of_unit[k] for k in chosen.tolist()]
            owner = torch.from_numpy(np.repeat(np.arange(batch), [len(f) for f in own])).to(device)
            shown = density[torch.from_numpy(np.concatenate(own))].to(device)
            predicted = network(shown, owner, batch)
            each = losses(predicted, values[chosen].to(device), observed[chosen].to(device), config)
            each.sum().backward()  # type: ignore[no-untyped-call]
            return {"loss": each.detach().mean()}

        loop.run(accumulate, checkpoint_seconds=checkpoint_seconds)
    network.eval()
    return network


def predict(network: StainRegressors, density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (F, G) predictions of single fields (F, P, 3), each computed alone."""
    device = network.readout.device
    rows = np.zeros((len(density), len(network.readout)), np.float32)

    def alone(field: Tensor) -> Tensor:
        predicted: Tensor = network(field, torch.zeros(1, dtype=torch.int64, device=device), 1)
        return predicted

    for k, own in enumerate(density):
        given = torch.from_numpy(own[None])
        rows[k] = in_memory(alone, given, device=device, unit="field", remedy="lower pixels")[0].numpy()
    return rows


def _recipe(config: StainConfig) -> Recipe:
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.batch,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda _: config.lr,
        decay=lambda _: 0.0,
        remedy="lower lr, or set learn=deconvolution, which inverts no matrix",
        memory_remedy="lower batch or pixels",
    )
