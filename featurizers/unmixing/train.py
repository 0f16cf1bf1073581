"""Training: from the table's readouts and the pixels of their wells to the unmixing, in the shared loop."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurizers.base import FeaturizerError, FieldSource, FitContext, Progress
from featurizers.chemistry import PERTURBATION
from featurizers.training import parallel
from featurizers.training.featurizer import Trained
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe
from featurizers.training.schedules import batch_indices, cosine
from featurizers.training.table import PLATE, WELL, check_finite, controls, readouts
from featurizers.training.targets import Targets
from featurizers.unmixing.config import NAME, UnmixingConfig
from featurizers.unmixing.model import Regression, Unmixer, squared_error
from featurizers.unmixing.pixels import sampled, scale

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Wells:
    """Training wells with readouts.

    Parameters
    ----------
    names
        Plate and name of each, (n,).
    targets
        Their standardised readouts, (n, T).
    """

    names: tuple[tuple[str, str], ...]
    targets: Targets

    def digest(self) -> str:
        """Return the sha256 of everything that a training sees of the table."""
        sha = hashlib.sha256(repr(self.names).encode())
        sha.update(self.targets.values.tobytes() + self.targets.observed.tobytes())
        return sha.hexdigest()


def of_table(table: pd.DataFrame | None) -> Wells:
    """Return the treated wells of a training table that have a readout; negative controls are none.

    Raises
    ------
    FeaturizerError
        When no such well is there, or a readout is infinite.
    """
    if table is None or PERTURBATION not in table.columns or not readouts(table).shape[1]:
        msg = f"{NAME} learns from readouts, and the training table has none; name a layer with --omics"
        raise FeaturizerError(msg)
    values = readouts(table)
    check_finite(NAME, table, values)
    own = ~controls(table) & ~np.isnan(values).all(axis=1)
    if not own.any():
        msg = f"{NAME} learns from readouts, and no training well of a perturbation has one"
        raise FeaturizerError(msg)
    named = table.loc[own, [PLATE, WELL]].astype(str).itertuples(index=False, name=None)
    return Wells(tuple((plate, well) for plate, well in named), Targets.of(values[own].astype(np.float32)))


def train(
    fields: FieldSource,
    table: Any,
    config: UnmixingConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained[Unmixer]:
    """Train on the wells of ``table`` that have readouts, or go on from the checkpoint.

    With z the standardised readouts and O their observed entries in a batch of wells, a step goes down the
    gradient of the mean of (ŷ - z)² over O. Fields of other wells are not looked at, nor do they scale
    pixels.

    Returns
    -------
    Trained
        The unmixing after ``config.steps`` steps, in evaluation mode; the read-out is not kept.

    Raises
    ------
    FeaturizerError
        When the table or the pixels are wrong, no well with readouts has a field, the loss is no longer
        finite, memory ends, or the work folder belongs to another training.
    """
    device = parallel.join(context.device)
    wells = of_table(table)
    network = Regression(config, len(fields.channels), wells.targets.values.shape[1], context.seed).to(device)
    made_as = {
        "config": asdict(config),
        "seed": context.seed,
        "channels": [channel.name for channel in fields.channels],
        "wells": wells.digest(),
    }
    loop = Loop(network, _recipe(config), context, made_as)
    if not loop.done:
        with loop.memory("before the first step"):
            intensities, owner = collect(fields, wells, config, loop.report)
            step = Steps(network, config, context.seed, intensities, owner, wells.targets, device)
            if loop.step == 0:
                step.prepare([channel.name for channel in fields.channels])
        loop.run(step.accumulate, checkpoint_seconds=checkpoint_seconds)
    return Trained(network.unmixer.eval())


def collect(
    fields: FieldSource, wells: Wells, config: UnmixingConfig, report: Callable[[Progress], None]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return intensities (F, P, C) of the fields of ``wells``, and the well (F,) of each.

    Raises
    ------
    FeaturizerError
        When no well has a field, or all pixels are asked for and fields differ in size.
    """
    number = {name: k for k, name in enumerate(wells.names)}
    found: list[NDArray[np.float32]] = []
    owner: list[int] = []
    for done, field in enumerate(fields, start=1):
        metadata = field.metadata
        well = number.get((str(metadata.get(PLATE, "")), str(metadata.get(WELL, ""))))
        if well is not None:
            found.append(sampled(field, config))
            owner.append(well)
            if found[-1].shape != found[0].shape:
                msg = f"{NAME}: with pixels=0 every field must have the same size; set a number of pixels"
                raise FeaturizerError(msg)
        report(Progress("pixels", done, len(fields)))
    if not found:
        msg = f"{NAME}: no training well with a readout has an image"
        raise FeaturizerError(msg)
    return np.stack(found), np.array(owner, np.int64)


class Steps:
    """One training's steps.

    Parameters
    ----------
    intensities, owner
        Of all fields, (F, P, C), and the row (F,) of ``targets`` that each belongs to.
    """

    def __init__(
        self,
        network: Regression,
        config: UnmixingConfig,
        seed: int,
        intensities: NDArray[np.float32],
        owner: NDArray[np.int64],
        targets: Targets,
        device: torch.device,
    ) -> None:
        self.network, self.seed, self.device = network, seed, device
        self.intensities = intensities
        self.values, self.observed = torch.from_numpy(targets.values), torch.from_numpy(targets.observed)
        order = np.argsort(owner, kind="stable")
        present, first = np.unique(owner[order], return_index=True)
        self._fields = dict(zip(present.tolist(), np.split(order, first[1:]), strict=True))
        self._wells = present
        self._batch = min(config.batch, len(present))

    def prepare(self, channels: list[str]) -> None:
        """Scale the pixels, and whiten the pooled concentrations of the start."""
        median, spread = scale(self.intensities, self.seed)
        flat = [name for name, own in zip(channels, spread, strict=True) if np.isinf(own)]
        if flat:
            warnings.warn(
                f"{NAME}: channel {', '.join(flat)} has one value in all training pixels and is left out",
                stacklevel=3,
            )
        network = self.network
        network.unmixer.set_scale(torch.from_numpy(median), torch.from_numpy(spread))
        with torch.no_grad():
            pooled = [network.pooled(*self._of([well])) for well in self._wells.tolist()]
        network.set_whitening(torch.cat(pooled))

    def accumulate(self, step: int) -> dict[str, Tensor]:
        """Leave the gradient of this process's share of the loss; return that share."""
        chosen = self._wells[batch_indices(self.seed, step, self._batch, len(self._wells)).numpy()]
        own = chosen[parallel.share(self._batch)]
        if not len(own):  # more processes than wells
            return {"loss": torch.zeros((), device=self.device)}
        predicted = self.network(*self._of(own.tolist()))
        target, observed = self.values[own].to(self.device), self.observed[own].to(self.device)
        loss = squared_error(predicted, target, observed) / self.observed[chosen].sum().clamp(min=1)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.detach()}

    def _of(self, wells: list[int]) -> tuple[Tensor, Tensor, int]:
        """Return intensities of wells, the place (F,) of each field's well among them, and their count."""
        fields = [self._fields[well] for well in wells]
        unit = torch.from_numpy(np.repeat(np.arange(len(wells)), [len(own) for own in fields]))
        shown = torch.from_numpy(self.intensities[np.concatenate(fields)])
        return shown.to(self.device), unit.to(self.device), len(wells)


def _recipe(config: UnmixingConfig) -> Recipe:
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.batch,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda step: cosine(step, config.steps, config.lr, 0.0),
        decay=lambda _: 0.0,
        remedy="lower lr, or choose a bounded nonlinearity (tanh)",
        memory_remedy="lower batch, pixels or concentrations",
    )
