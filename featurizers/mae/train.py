"""The training loop: one optimiser step after another, checkpoints between them, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from featurizers.base import FeaturizerError, FieldSource, FitContext, Progress
from featurizers.mae.config import MaeConfig
from featurizers.mae.cropfile import CropFile, collect, discard
from featurizers.mae.loss import objective, to_patches
from featurizers.mae.model import MaskedAutoencoder
from featurizers.mae.pixels import Statistics, dihedral, prepare
from featurizers.mae.schedule import batch_indices, one_cycle, stream
from featurizers.mae.weights import checkpoints, read_json, read_tensors, write_checkpoint
from featurizers.vision import prepare_timm

prepare_timm()
from timm.optim import Lion  # noqa: E402

_REPORT_SECONDS = 1.0
_CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network with the pixel statistics it was trained with (None unless it uses them)."""

    model: MaskedAutoencoder
    statistics: Statistics | None


def train(
    fields: FieldSource,
    config: MaeConfig,
    context: FitContext,
    *,
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
) -> Trained:
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
    folder, report = context.workdir, _throttled(context.report)
    made_as = {"config": asdict(config), "seed": context.seed, "channels": [c.name for c in fields.channels]}
    run = _Run(config, context, len(fields.channels))
    step, statistics = run.restore(made_as)
    if step < config.steps:
        crops = collect(fields, config, context.seed, folder, report)
        if statistics is None and config.standardise == "dataset":
            statistics = crops.statistics(report)
        saved = started = time.monotonic()
        first = step
        while step < config.steps:
            value = run.step(step, crops, statistics)
            step += 1
            now = time.monotonic()
            speed = (step - first) * config.batch / max(now - started, 1e-9)
            if step == config.steps or now - saved >= checkpoint_seconds:
                run.checkpoint(step, statistics, made_as)
                saved = time.monotonic()
            report(Progress("train", step, config.steps, {"loss": value, "crops/s": speed}))
        del crops
    discard(folder)
    return Trained(run.model.eval(), statistics)


class _Run:
    """Network and optimiser of one training."""

    def __init__(self, config: MaeConfig, context: FitContext, channels: int) -> None:
        self.config, self.seed, self.folder = config, context.seed, context.workdir
        self.device = torch.device(context.device)
        # drawn on the CPU and then moved, so that every device starts from the same weights
        self.model = MaskedAutoencoder(config, channels, stream(context.seed, "weights", 0)).to(self.device)
        self.model.train()
        self.optimiser: Any = Lion(
            self.model.parameters(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )

    def step(self, step: int, crops: CropFile, statistics: Statistics | None) -> float:
        """Take one optimiser step on one batch and return the loss."""
        config = self.config
        images, noise = self._batch(step, crops, statistics)
        size = config.micro_batch or config.batch
        total = torch.zeros((), device=self.device)
        for part, draw in zip(torch.split(images, size), torch.split(noise, size), strict=True):
            loss = self._loss(part, draw) * (len(part) / config.batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        value = float(total)
        parameters = list(self.model.parameters())
        limit = config.clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        if not (math.isfinite(value) and math.isfinite(norm)):
            kept = checkpoints(self.folder)
            last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written yet"
            msg = (
                f"mae: loss {value} with gradient norm {norm} at step {step + 1} of {config.steps}; {last}; "
                "lower lr or clip"
            )
            raise FeaturizerError(msg)
        for group in self.optimiser.param_groups:
            group["lr"] = one_cycle(
                step, config.steps, config.lr, share=config.warmup_share, warmup=config.warmup
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return value

    def _batch(self, step: int, crops: CropFile, statistics: Statistics | None) -> tuple[Tensor, Tensor]:
        """Return prepared images (N, C, S, S) and masking noise (N, L) of a step."""
        config = self.config
        index = batch_indices(self.seed, step, config.batch, len(crops.pixels)).numpy()
        pixels = torch.from_numpy(crops.pixels[index]).to(self.device)
        inside = torch.from_numpy(crops.inside[index]).to(self.device)
        images = prepare(pixels, inside, config, statistics)
        if config.augment == "dihedral":
            draw = stream(self.seed, "augment", step)
            element = torch.randint(8, (len(images),), generator=draw)
            images = dihedral(images, element.to(self.device))
        noise = torch.rand(len(images), config.tokens, generator=stream(self.seed, "mask", step))
        return images, noise.to(self.device)

    def _loss(self, images: Tensor, noise: Tensor) -> Tensor:
        config = self.config
        patches = to_patches(images, config.patch)
        reduced = config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            predicted, masking = self.model(patches, noise)
        return objective(
            predicted.float(),
            patches,
            masking.mask,
            weight=config.fourier_weight,
            norm=config.fourier_norm,
            loss_on=config.loss_on,
        ).loss

    def checkpoint(self, step: int, statistics: Statistics | None, made_as: dict[str, Any]) -> None:
        """Write everything a resumed training needs."""
        scaling = None if statistics is None else statistics.as_json()
        write_checkpoint(
            self.folder,
            step,
            {"weights": self.model.state_dict(), "optimiser": self._momenta()},
            {**made_as, "step": step, "statistics": scaling},
        )

    def restore(self, made_as: dict[str, Any]) -> tuple[int, Statistics | None]:
        """Go back to the last checkpoint; return the steps done (0 without one) and its statistics."""
        found = checkpoints(self.folder)
        if not found:
            return 0, None
        state = read_json(found[-1] / "state.json")
        if {name: state.get(name) for name in made_as} != made_as:
            msg = f"{found[-1]} belongs to a training with other settings; remove {self.folder} to start anew"
            raise FeaturizerError(msg)
        device = self.device
        weights = read_tensors(found[-1] / "weights.safetensors", self.model.state_dict())
        self.model.load_state_dict(weights, strict=True)
        named = dict(self.model.named_parameters())
        momenta = read_tensors(found[-1] / "optimiser.safetensors", named)
        for name, parameter in named.items():
            self.optimiser.state[parameter]["exp_avg"] = momenta[name].to(device)
        scaling = state["statistics"]
        return int(state["step"]), None if scaling is None else Statistics.from_json(scaling)

    def _momenta(self) -> dict[str, Tensor]:
        return {name: self.optimiser.state[p]["exp_avg"] for name, p in self.model.named_parameters()}


def _throttled(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Pass on at most one report per second and stage, and always the last one."""
    last = {"": -math.inf}

    def pass_on(progress: Progress) -> None:
        now = time.monotonic()
        if progress.done >= progress.total or now - last.get(progress.stage, -math.inf) >= _REPORT_SECONDS:
            last[progress.stage] = now
            report(progress)

    return pass_on
