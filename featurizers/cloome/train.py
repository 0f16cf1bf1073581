"""Training: pairs of image and molecule, the contrastive objective, the shared loop."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from featurizers.base import FieldSource, FitContext
from featurizers.cloome.config import NAME, CloomeConfig
from featurizers.cloome.images import scaled
from featurizers.cloome.loss import cloob, info_nce
from featurizers.cloome.model import Towers
from featurizers.cloome.pairs import Images, Molecules, Pairs, discard
from featurizers.training import parallel
from featurizers.training.featurizer import Trained
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe, autocast
from featurizers.training.pixels import Statistics

if TYPE_CHECKING:
    from torch import Tensor, nn


def train(
    fields: FieldSource,
    table: Any,
    config: CloomeConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained[Towers]:
    """Train on the fields of the wells of ``table`` whose compound has a structure.

    A checkpoint in the work folder is gone on from.

    Parameters
    ----------
    table
        One row per well: ``Metadata_Plate``, ``Metadata_Well``, ``perturbation`` and ``Metadata_SMILES``.

    Returns
    -------
    Trained
        The towers after ``config.steps`` steps, and the pixel statistics with ``scaling="dataset"``.

    Raises
    ------
    FeaturizerError
        When structures are missing or wrong, fewer than two molecules have a field, or the loss is no longer
        finite.
    """
    device = parallel.join(context.device)
    molecules = Molecules.of(table, config)
    made_as = {
        "config": asdict(config) | {"blocks": list(config.blocks)},
        "seed": context.seed,
        "channels": [c.name for c in fields.channels],
    }
    towers = channels_last(Towers(config, len(fields.channels), context.seed).to(device))
    towers.logit_inv_tau.requires_grad_(config.learn_inverse_tau == "yes")
    loop = Loop(towers, recipe(config), context, made_as, parameter_groups(towers))
    kept = loop.state.get("statistics")
    statistics = None if kept is None else Statistics.from_json(kept)
    if not loop.done:
        images = Images.collect(fields, molecules, config, context.workdir, loop.report)
        if statistics is None and config.scaling == "dataset":
            statistics = images.statistics(loop.report)
        pairs = Pairs(images, molecules, config, context.seed, device)

        def accumulate(step: int) -> dict[str, Tensor]:
            return gradient(towers, config, pairs, statistics, step)

        loop.run(
            accumulate,
            after=lambda _: towers.clamp(),
            extra={"statistics": None if statistics is None else statistics.as_json()},
            checkpoint_seconds=checkpoint_seconds,
        )
        del images, pairs
    discard(context.workdir)
    return Trained(towers.eval(), statistics)


def gradient(
    towers: Towers, config: CloomeConfig, pairs: Pairs, statistics: Statistics | None, step: int
) -> dict[str, Tensor]:
    """Leave this process's share of the gradient; the objective sees the embeddings of every process.

    Beside the loss it returns the share of images whose own molecule is the nearest of the batch.
    """
    chosen = pairs.of_step(step)
    windows = scaled(pairs.windows(chosen, step), config.scaling, statistics)
    windows = windows.to(memory_format=torch.channels_last)
    with autocast(windows.device, config.precision):
        own = towers(windows, pairs.fingerprints(chosen))
    images, molecules = (parallel.gather(rows, len(chosen)) for rows in own)
    inverse_tau = towers.logit_inv_tau.exp()
    if config.objective == "cloob":
        loss = cloob(images, molecules, inverse_tau, config.beta)
    else:
        loss = info_nce(images, molecules, inverse_tau)
    loss.backward()  # type: ignore[no-untyped-call]
    if towers.logit_inv_tau.grad is not None:
        # towers have the gradient of their own rows, the temperature that of all: once per process
        towers.logit_inv_tau.grad /= parallel.size()
    nearest = (images @ molecules.T).argmax(dim=1)
    matched = (nearest == torch.arange(len(chosen), device=nearest.device)).float().mean()
    share = 1 / parallel.size()  # every process holds the whole loss
    return {"loss": loss.detach() * share, "matched": matched * share}


def channels_last(towers: Towers) -> Towers:
    """Return the towers with convolutions in the layout that they are fastest in.

    The layout decides which kernel runs, hence the last bits: the same after a fit and after a load.
    """
    relayout: Any = towers.to  # torch's types do not know this use
    relayout(memory_format=torch.channels_last)
    return towers


def parameter_groups(towers: Towers) -> list[list[nn.Parameter]]:
    """Return the parameters with and without weight decay.

    As in the released code those with ``bn`` or ``bias`` in their names have none: the norms of shortcuts and
    of the molecule tower, named otherwise, do.
    """
    spared = [name for name, _ in towers.named_parameters() if "bn" in name or "bias" in name]
    named = dict(towers.named_parameters())
    return [
        [p for name, p in named.items() if name not in spared and p.requires_grad],
        [named[name] for name in spared],
    ]


def rate(step: int, config: CloomeConfig) -> float:
    """Return the learning rate of step 0 <= t < T.

    η t / W for t < W, the warm-up; then η (1 + cos(π (c p mod 1))) / 2 with p = (t − W) / (T − W) and c
    cycles: a cosine to 0, for c > 1 with hard restarts.
    """
    warmup = round(config.warmup_share * config.steps)
    if step < warmup:
        return config.lr * step / warmup
    done = config.cycles * (step - warmup) / max(config.steps - warmup, 1)
    return config.lr * (1 + math.cos(math.pi * (done % 1.0))) / 2


def recipe(config: CloomeConfig) -> Recipe:
    """Return how the towers are optimised."""
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.batch,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda step: rate(step, config),
        decay=lambda _: config.weight_decay,
        clip=config.clip,
        average=config.average,
        compile=config.compile,
        remedy="lower lr or set clip",
        memory_remedy="lower batch, or window_height and window_width",
    )
