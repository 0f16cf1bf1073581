"""Training of the masked autoencoder: its batches and its objective; the loop is the shared one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from featurizers.base import FieldSource, FitContext
from featurizers.mae.config import MaeConfig
from featurizers.mae.loss import objective, to_channel_patches, to_patches
from featurizers.mae.masking import random_masking
from featurizers.mae.model import MaskedAutoencoder
from featurizers.training import parallel
from featurizers.training.ahead import Ahead
from featurizers.training.cropfile import CropFile, collect, discard
from featurizers.training.featurizer import Trained
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe, autocast
from featurizers.training.pixels import Statistics, cut_cells, dihedral, prepare
from featurizers.training.schedules import batch_indices, field_batch, one_cycle, stream


def train(
    fields: FieldSource,
    config: MaeConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained[MaskedAutoencoder]:
    """Train a masked autoencoder on the crops of ``fields``, or go on from the checkpoint in the work folder.

    Parameters
    ----------
    fields
        Training fields; read once, unless the work folder already holds their crops.
    config, context
        What to train; where, on what and from which seed.
    checkpoint_seconds
        Least time between checkpoints. It has no influence on the result.

    Returns
    -------
    Trained
        The network after ``config.steps`` steps, in evaluation mode.

    Raises
    ------
    FeaturizerError
        When there is nothing to train on, the loss is no longer finite, or the work folder belongs to another
        training.
    """
    device = parallel.join(context.device)
    made_as = {"config": asdict(config), "seed": context.seed, "channels": [c.name for c in fields.channels]}
    # drawn on the CPU and then moved, so that every device starts from the same weights
    model = MaskedAutoencoder(config, len(fields.channels), stream(context.seed, "weights", 0)).to(device)
    loop = Loop(model, recipe(config), context, made_as)
    statistics = None
    if loop.state.get("statistics") is not None:
        statistics = Statistics.from_json(loop.state["statistics"])
    if not loop.done:
        crops = collect_cells(fields, config, context, loop)
        if statistics is None and config.standardise == "dataset":
            statistics = crops.statistics(loop.report)
        batches = Batches(config, context.seed, crops, statistics, device)

        def accumulate(step: int) -> dict[str, Tensor]:
            return gradient(model, config, batches, step)

        extra = {"statistics": None if statistics is None else statistics.as_json()}
        loop.run(accumulate, extra=extra, checkpoint_seconds=checkpoint_seconds)
        del crops, batches
    discard(context.workdir)
    return Trained(model.eval(), statistics)


def collect_cells(fields: FieldSource, config: MaeConfig, context: FitContext, loop: Loop) -> CropFile:
    """Cut the training crops of every field into the work folder."""
    cutting = {name: getattr(config, name) for name in ("scale", "mask", "border", "standardise")}
    return collect(
        fields,
        lambda field: cut_cells(field, config),
        cutting,
        context.workdir,
        loop.report,
        name="mae",
        crop=config.crop,
        seed=context.seed,
        crops_per_field=config.crops_per_field,
    )


def recipe(config: MaeConfig) -> Recipe:
    """Return how the autoencoder is optimised."""

    def rate(step: int) -> float:
        return one_cycle(step, config.steps, config.lr, share=config.warmup_share, warmup=config.warmup)

    return Recipe(
        "mae",
        steps=config.steps,
        crops=config.batch,
        optimiser="lion",
        beta1=config.beta1,
        beta2=config.beta2,
        rate=rate,
        decay=lambda _: config.weight_decay,
        clip=config.clip,
        average=config.average,
        compile=config.compile,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """What a step sees, as a function of its number."""

    config: MaeConfig
    seed: int
    crops: CropFile
    statistics: Statistics | None
    device: torch.device
    ahead: Ahead = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ahead", Ahead(self.config.steps, self.device))

    def read(self, step: int) -> tuple[Tensor, ...]:
        """Return this process's crops (N, C, S, S) and masks (N, S, S), turns (N,) and noise, on the CPU."""
        config, own = self.config, parallel.share(self.config.batch)
        if config.batch_fields:
            fields, owner = config.batch_fields, self.crops.field
            everyone = field_batch(self.seed, step, fields, config.batch // fields, owner)
        else:
            everyone = batch_indices(self.seed, step, config.batch, len(self.crops.pixels))
        index = everyone[own].numpy()
        draw = stream(self.seed, "augment", step)
        element = torch.randint(8, (config.batch,), generator=draw)[own]
        agnostic = config.channel_tokens == "agnostic"
        tokens = config.tokens * (self.crops.pixels.shape[1] if agnostic else 1)
        noise = torch.rand(config.batch, tokens, generator=stream(self.seed, "mask", step))[own]
        crops = torch.from_numpy(self.crops.pixels[index]), torch.from_numpy(self.crops.inside[index])
        return (*crops, element, noise)

    def of_step(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return this process's patches, the share of each that is cell (N, L), and masking noise (N, L).

        With channel-agnostic tokens L counts every channel's.
        """
        config = self.config
        read = self.ahead(self.read, step)
        pixels, inside, element, noise = (values.to(self.device, non_blocking=True) for values in read)
        # the mask is turned with the image, as one more channel
        images = torch.cat([prepare(pixels, inside, config, self.statistics), inside[:, None].float()], dim=1)
        if config.augment == "dihedral":
            images = dihedral(images, element)
        patches = to_patches(images, config.patch)
        patches, foreground = patches[:, :, :-1], patches[:, :, -1].mean(dim=(2, 3))
        if config.channel_tokens == "agnostic":
            foreground = foreground.repeat(1, patches.shape[2])
            patches = to_channel_patches(patches)
        return patches, foreground, noise


def gradient(model: MaskedAutoencoder, config: MaeConfig, batches: Batches, step: int) -> dict[str, Tensor]:
    """Leave the gradient of this process's share of the objective; return that share and its parts."""
    batch = batches.of_step(step)
    size = config.micro_batch or config.batch
    mean = _foreground_mean(config, *batch[1:]) if config.foreground_weight else None
    figures: dict[str, Tensor] = {}
    for patches, foreground, draw in zip(*(torch.split(values, size) for values in batch), strict=True):
        with autocast(patches.device, config.precision):
            predicted, masking = model(patches, draw)
        found = objective(
            predicted.float(),
            patches,
            masking.mask,
            weight=config.fourier_weight,
            norm=config.fourier_norm,
            loss_on=config.loss_on,
            foreground=foreground,
            foreground_weight=config.foreground_weight,
            foreground_mean=mean,
        )
        share = len(patches) / config.batch
        (found.loss * share).backward()  # type: ignore[no-untyped-call]
        for name, value in found._asdict().items():
            figures[name] = figures.get(name, torch.zeros_like(value)) + value.detach() * share
    return figures


def _foreground_mean(config: MaeConfig, foreground: Tensor, noise: Tensor) -> Tensor:
    """Return the mean share of cell in the tokens that count, over the batches of all processes."""
    counted = foreground
    if config.loss_on == "masked-tokens":
        counted = foreground * random_masking(noise, config.mask_ratio).mask
    return parallel.total(counted.sum()) / (config.batch * foreground.shape[1])
