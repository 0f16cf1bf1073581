"""Training of student and teacher: views, objective, teacher and centre; the loop is the shared one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from featurizers.base import FieldSource, FitContext
from featurizers.dino.config import NAME, DinoConfig
from featurizers.dino.loss import distillation_loss, moved_centre, temperature
from featurizers.dino.model import Backbone, SelfDistillation
from featurizers.dino.views import Draws, view
from featurizers.training import parallel
from featurizers.training.ahead import Ahead
from featurizers.training.cropfile import CropFile, collect, discard
from featurizers.training.featurizer import Trained
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe, autocast
from featurizers.training.paths import draws as path_draws
from featurizers.training.pixels import Statistics, cut_cells
from featurizers.training.schedules import batch_indices, cosine, stream

if TYPE_CHECKING:
    from torch import Tensor


def train(
    fields: FieldSource,
    config: DinoConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained[Backbone]:
    """Train on the crops of ``fields``, or go on from the checkpoint in the work folder.

    Returns
    -------
    Trained
        The teacher's backbone after ``config.steps`` steps, in evaluation mode.

    Raises
    ------
    FeaturizerError
        When there is nothing to train on, the loss is no longer finite, or the work folder belongs to another
        training.
    """
    device = parallel.join(context.device)
    made_as = {"config": asdict(config), "seed": context.seed, "channels": [c.name for c in fields.channels]}
    network = SelfDistillation(config, len(fields.channels), context.seed).to(device)
    towers = [network.student, network.teacher]
    loop = Loop(network, recipe(config), context, made_as, groups=network.groups(), compiled=towers)
    statistics = None
    if loop.state.get("statistics") is not None:
        statistics = Statistics.from_json(loop.state["statistics"])
    if not loop.done:
        cutting = ("scale", "mask", "border", "standardise")
        crops = collect(
            fields,
            lambda field: cut_cells(field, config),
            {name: getattr(config, name) for name in cutting},
            context.workdir,
            loop.report,
            name=NAME,
            crop=config.crop,
            seed=context.seed,
            crops_per_field=config.crops_per_field,
        )
        if statistics is None and config.standardise == "dataset":
            statistics = crops.statistics(loop.report)
        training = Distillation(network, config, context.seed, crops, statistics, device)
        loop.run(
            training.accumulate,
            before=training.hold_prototypes,
            after=training.move,
            extra={"statistics": None if statistics is None else statistics.as_json()},
            checkpoint_seconds=checkpoint_seconds,
        )
        del crops, training
    discard(context.workdir)
    return Trained(network.teacher.backbone.eval(), statistics)


class Distillation:
    """One training's steps."""

    def __init__(
        self,
        network: SelfDistillation,
        config: DinoConfig,
        seed: int,
        crops: CropFile,
        statistics: Statistics | None,
        device: torch.device,
    ) -> None:
        self.network, self.config, self.seed = network, config, seed
        self.crops, self.statistics, self.device = crops, statistics, device
        self._outputs = torch.zeros_like(network.centre)
        self._ahead = Ahead(config.steps, device)
        self._branches = network.student.backbone.branches

    def read(self, step: int) -> tuple[Tensor, Tensor, Tensor, list[Draws]]:
        """Return what a step sees, on the CPU.

        This process's crops (N, C, S, S) and masks (N, S, S); of the whole batch, the draws of dropped paths
        (branches, V, B) and of each view.
        """
        config = self.config
        everyone = batch_indices(self.seed, step, config.batch, len(self.crops.pixels))
        index = everyone[parallel.share(config.batch)].numpy()
        generator = stream(self.seed, "views", step)
        channels = self.crops.pixels.shape[1]
        draws = [
            Draws.of(config, config.batch, channels, generator, small=k >= 2)
            for k in range(2 + config.local_crops)
        ]
        paths = path_draws(self.seed, "drop path", step, self._branches, len(draws), config.batch)
        pixels, inside = self.crops.pixels[index], self.crops.inside[index]
        return torch.from_numpy(pixels), torch.from_numpy(inside), paths, draws

    def accumulate(self, step: int) -> dict[str, Tensor]:
        """Leave the gradient of this process's share of the objective; return that share.

        The teacher's entropy stands beside it: log K is a uniform teacher, 0 one that knows a single answer,
        and both mean collapse when they stay.
        """
        config, network = self.config, self.network
        own = parallel.share(config.batch)
        pixels, inside, paths, draws = self._ahead(self.read, step)
        warm = temperature(
            step,
            config.steps,
            config.teacher_temperature_start,
            config.teacher_temperature,
            config.teacher_warmup_share,
        )
        self._outputs = torch.zeros_like(network.centre)
        loss, entropy = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        size = config.micro_batch or config.batch
        for start in range(own.start, own.stop, size):
            rows = slice(start, min(start + size, own.stop))
            share = (rows.stop - rows.start) / config.batch
            held = slice(rows.start - own.start, rows.stop - own.start)
            views = self._views(
                pixels[held].to(self.device, non_blocking=True),
                inside[held].to(self.device, non_blocking=True),
                [d.part(rows, self.device) for d in draws],
            )
            with autocast(self.device, config.precision):
                student = network.student(views, paths[..., rows].to(self.device)).float()
                with torch.no_grad():
                    teacher = network.teacher(views[:1]).float()
            part = share * distillation_loss(
                student,
                teacher,
                network.centre,
                student_temperature=config.student_temperature,
                teacher_temperature=warm,
            )
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
            target = ((teacher - network.centre) / warm).log_softmax(dim=-1)
            entropy += -(target.exp() * target).sum(dim=-1).mean() * share
            self._outputs += teacher.mean(dim=(0, 1)) * share
        return {"loss": loss, "teacher_entropy": entropy}

    def hold_prototypes(self, step: int) -> None:
        """Take the prototypes' gradient away during the first epochs."""
        if step * self.config.batch < self.config.frozen_epochs * len(self.crops.pixels):
            self.network.student.head.last.weight.grad = None

    def move(self, step: int) -> None:
        """Move the teacher towards the student, and the centre towards the teacher's mean output."""
        config, network = self.config, self.network
        network.move_teacher(cosine(step, config.steps, config.momentum, 1.0))
        mean = parallel.total(self._outputs)
        network.centre.copy_(moved_centre(network.centre, mean, config.centre_momentum))

    def _views(self, pixels: Tensor, inside: Tensor, draws: list[Draws]) -> list[Tensor]:
        """Return global views (2, N, C, S, S) and, if there are any, local ones (V, N, C, s, s)."""
        config = self.config

        def stacked(some: list[Draws], edge: int) -> Tensor:
            return torch.stack(
                [view(pixels, inside, own, config, self.statistics, edge=edge) for own in some]
            )

        views = [stacked(draws[:2], config.crop)]
        return [*views, stacked(draws[2:], config.local_size)] if draws[2:] else views


def recipe(config: DinoConfig) -> Recipe:
    """Return how the student is optimised."""
    warmup = int(config.warmup_share * config.steps)
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.batch,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda step: cosine(step, config.steps, config.lr, config.min_lr, warmup=warmup),
        decay=lambda step: cosine(step, config.steps, config.weight_decay, config.weight_decay_end),
        clip=config.clip,
        clip_rule=config.clip_rule,
        compile=config.compile,
        remedy="lower lr_per_256 or clip",
    )
