"""The training loop of every learned entrant: step after step, checkpoints between them, exact resume.

An entrant gives its network and a function that leaves the gradient of a step's objective; the loop sums
gradients over processes, clips, steps the optimiser, averages weights on request, keeps checkpoints, reports,
and stops when the loss is no longer finite. What a step draws depends on its number alone
(:mod:`featurizers.training.schedules`), so a checkpoint is weights, optimiser state and the step.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from featurizers.base import FeaturizerError, FitContext, Progress
from featurizers.training import parallel
from featurizers.training.files import checkpoints, read_json, read_tensors, write_checkpoint
from featurizers.training.metrics import Metrics
from featurizers.training.settings import ClipRule, Compile, Optimiser, Precision
from featurizers.vision import prepare_timm

prepare_timm()
from timm.optim import Lion  # noqa: E402

REPORT_SECONDS = 1.0
CHECKPOINT_SECONDS = 20.0
_CPU_FULL = "can't allocate memory"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is optimised.

    Parameters
    ----------
    name
        The entrant, for messages.
    steps, crops
        Optimiser steps, and crops per step (for the speed that is shown).
    optimiser, beta1, beta2
        Lion (Chen et al. 2023) or AdamW with their momenta.
    rate, decay
        Learning rate and weight decay of a step 0 <= t < T. Decay reaches the first parameter group only.
    clip, clip_rule
        Largest gradient norm, 0 for none: of all gradients together, or of each tensor alone.
    average
        Decay of an exponential moving average of the weights, which then is what the training returns; 0 for
        none.
    compile
        ``"default"`` compiles forward passes with ``torch.compile``.
    remedy, memory_remedy
        What to change when the loss is no longer finite, and when memory ends.
    """

    name: str
    steps: int
    crops: int
    optimiser: Optimiser
    beta1: float
    beta2: float
    rate: Callable[[int], float]
    decay: Callable[[int], float]
    clip: float = 0.0
    clip_rule: ClipRule = "global-norm"
    average: float = 0.0
    compile: Compile = "none"
    remedy: str = "lower lr or clip"
    memory_remedy: str = "lower micro_batch or batch, or choose a smaller network"


class Loop:
    """One training in one work folder.

    Parameters
    ----------
    network
        Everything that changes while training, teachers and centres included, on the device of the training.
    made_as
        JSON values that must agree for a checkpoint to be gone on from.
    groups
        Parameters to optimise; the second group has no weight decay. None: all that need a gradient.
    compiled
        Modules whose forward pass is compiled if the recipe compiles: those that a step calls, and no
        embedding, which is the same after a fit as after a load. None: the network.

    Attributes
    ----------
    step
        Steps done.
    state
        What ``run`` was given as ``extra`` when the checkpoint was written; empty without one.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        context: FitContext,
        made_as: Mapping[str, Any],
        groups: Sequence[Sequence[nn.Parameter]] | None = None,
        compiled: Sequence[nn.Module] | None = None,
    ) -> None:
        self.network, self.recipe, self.folder = network, recipe, context.workdir
        self.logs = context.logs or context.workdir
        self.made_as = dict(made_as)
        self.report = throttled(context.report)
        every = [p for p in network.parameters() if p.requires_grad]
        chosen = [list(group) for group in groups] if groups is not None else [every]
        self.optimiser = _optimiser(recipe, [group for group in chosen if group])
        self._names = {id(p): name for name, p in network.named_parameters()}
        self._average = copy.deepcopy(network) if recipe.average else None
        self.step = 0
        self.state = self._restore()
        if self._average is not None and self.done:  # a training that ended, but was not saved
            network.load_state_dict(self._average.state_dict())
        if recipe.compile == "default":
            for module in [network] if compiled is None else compiled:
                module.compile()

    @property
    def done(self) -> bool:
        """Whether every step has been taken."""
        return self.step >= self.recipe.steps

    def run(
        self,
        accumulate: Callable[[int], Mapping[str, Tensor]],
        *,
        before: Callable[[int], None] | None = None,
        after: Callable[[int], None] | None = None,
        extra: Mapping[str, Any] | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        """Take the remaining steps.

        Parameters
        ----------
        accumulate
            Leaves the gradient of this process's share of a step's objective in the parameters, and returns
            its share of ``loss`` and of other figures; both are summed over processes.
        before, after
            Called with the step before and after the optimiser moves (a frozen layer, a teacher).
        extra
            JSON values kept in checkpoints.
        checkpoint_seconds
            Least time between checkpoints. It has no influence on the result.

        Raises
        ------
        FeaturizerError
            When loss or gradient are no longer finite, or the device's memory does not suffice.
        """
        metrics = Metrics(self.logs if parallel.rank() == 0 else None, self.step)
        saved = started = time.monotonic()
        first = self.step
        self.network.train()
        while not self.done:
            with self.memory(f"in step {self.step + 1} of {self.recipe.steps}"):
                figures = self._one(accumulate, before, after)
            self.step += 1
            now = time.monotonic()
            speed = (self.step - first) * self.recipe.crops / max(now - started, 1e-9)
            metrics.add(self.step, {**figures, "crops_per_second": speed, "seconds": now - started})
            if self._due(now - saved >= checkpoint_seconds):
                self._checkpoint(dict(extra or {}))
                metrics.write()
                saved = time.monotonic()
            shown = {"loss": figures["loss"], "crops/s": speed}
            self.report(Progress("train", self.step, self.recipe.steps, shown))
        metrics.close()
        if self._average is not None:
            self.network.load_state_dict(self._average.state_dict())
        self.network.eval()

    @contextmanager
    def memory(self, when: str) -> Iterator[None]:
        """Name the setting to change where memory ends inside, the device's or NumPy's.

        Every part of a step needs memory of its own: the first of an optimiser makes its momenta, a sum over
        processes a copy of all gradients.

        Parameters
        ----------
        when
            Of the training, for the message.

        Raises
        ------
        FeaturizerError
            In the place of torch's error.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            # for a CPU's memory torch has no class of its own
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and _CPU_FULL not in str(error):
                raise
            msg = (
                f"{self.recipe.name}: the device's memory ended {when}; {self.recipe.memory_remedy}; "
                f"{self._last_good()}"
            )
            raise FeaturizerError(msg) from error

    def _one(
        self,
        accumulate: Callable[[int], Mapping[str, Tensor]],
        before: Callable[[int], None] | None,
        after: Callable[[int], None] | None,
    ) -> dict[str, float]:
        """Take one optimiser step; return loss, its parts, learning rate and gradient norm."""
        step, recipe = self.step, self.recipe
        found = accumulate(step)
        summed = parallel.total(torch.stack([v.detach().float() for v in found.values()]))
        figures = dict(zip(found, summed.tolist(), strict=True))
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        parallel.sum_gradients(parameters)
        norm = _clip(parameters, recipe)
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            msg = (
                f"{recipe.name}: loss {figures['loss']} with gradient norm {norm} at step {step + 1} of "
                f"{recipe.steps}; {self._last_good()}; {recipe.remedy}"
            )
            raise FeaturizerError(msg)
        rate, decay = recipe.rate(step), recipe.decay(step)
        for place, group in enumerate(self.optimiser.param_groups):
            group["lr"], group["weight_decay"] = rate, decay if place == 0 else 0.0
        if before is not None:
            before(step)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if after is not None:
            after(step)
        self._update_average()
        return {**figures, "lr": rate, "gradient_norm": norm}

    def _update_average(self) -> None:
        """Move the average w̄ <- a w̄ + (1 - a) w; buffers are taken over."""
        if self._average is None:
            return
        with torch.no_grad():
            for mean, current in zip(self._average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(current, 1 - self.recipe.average)
            for held, own in zip(self._average.buffers(), self.network.buffers(), strict=True):
                held.copy_(own)

    def _due(self, now: bool) -> bool:  # noqa: FBT001
        """Whether to write a checkpoint: the first process's clock decides for all."""
        if self.done:
            return True
        if parallel.size() == 1:
            return now
        device = next(self.network.parameters()).device
        return bool(parallel.total(torch.tensor(float(now and parallel.rank() == 0), device=device)) > 0)

    def _last_good(self) -> str:
        kept = checkpoints(self.folder)
        return f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written yet"

    def _checkpoint(self, extra: dict[str, Any]) -> None:
        """Write everything a resumed training needs; the first process writes."""
        if parallel.rank() == 0:
            momenta = self._momenta()
            tensors: dict[str, Mapping[str, Tensor]] = {
                "weights": self.network.state_dict(),
                "optimiser": momenta,
            }
            if self._average is not None:
                tensors["average"] = self._average.state_dict()
            state = {**self.made_as, "step": self.step, "extra": extra, "optimiser": _shapes(momenta)}
            write_checkpoint(self.folder, self.step, tensors, state)
        parallel.wait()

    def _restore(self) -> dict[str, Any]:
        """Go back to the last checkpoint, and return what was kept beside it."""
        found = checkpoints(self.folder)
        if not found:
            return {}
        state = read_json(found[-1] / "state.json")
        if {name: state.get(name) for name in self.made_as} != self.made_as:
            msg = f"{found[-1]} belongs to a training with other settings; remove {self.folder} to start anew"
            raise FeaturizerError(msg)
        weights = read_tensors(found[-1] / "weights.safetensors", self.network.state_dict())
        self.network.load_state_dict(weights, strict=True)
        expected = {name: torch.empty(shape) for name, shape in state["optimiser"].items()}
        self._set_momenta(read_tensors(found[-1] / "optimiser.safetensors", expected))
        if self._average is not None:
            average = read_tensors(found[-1] / "average.safetensors", self._average.state_dict())
            self._average.load_state_dict(average, strict=True)
        self.step = int(state["step"])
        return cast("dict[str, Any]", state["extra"])

    def _momenta(self) -> dict[str, Tensor]:
        """Return the optimiser's tensors by ``parameter/quantity``."""
        return {
            f"{self._names[id(parameter)]}/{quantity}": value
            for parameter, own in self.optimiser.state.items()
            for quantity, value in own.items()
        }

    def _set_momenta(self, found: Mapping[str, Tensor]) -> None:
        parameters = {self._names[id(p)]: p for g in self.optimiser.param_groups for p in g["params"]}
        for name, value in found.items():
            parameter, _, quantity = name.rpartition("/")
            target = parameters[parameter]
            # AdamW counts its steps on the CPU whatever the device of the weights
            where = value if quantity == "step" else value.to(target.device)
            self.optimiser.state[target][quantity] = where


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a forward pass computes in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def throttled(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Pass on at most one report per second and stage, and always the last one; the first process's only."""
    last = {"": -math.inf}

    def pass_on(progress: Progress) -> None:
        now = time.monotonic()
        if progress.done >= progress.total or now - last.get(progress.stage, -math.inf) >= REPORT_SECONDS:
            last[progress.stage] = now
            if parallel.rank() == 0:
                report(progress)

    return pass_on


def _optimiser(recipe: Recipe, groups: list[list[nn.Parameter]]) -> Any:
    betas = (recipe.beta1, recipe.beta2)
    given = [{"params": group} for group in groups]
    if recipe.optimiser == "lion":
        return Lion(given, lr=recipe.rate(0), betas=betas, weight_decay=recipe.decay(0))
    return torch.optim.AdamW(given, lr=recipe.rate(0), betas=betas, weight_decay=recipe.decay(0))


def _clip(parameters: Sequence[nn.Parameter], recipe: Recipe) -> float:
    """Clip the gradients and return the norm that they had together."""
    limit = recipe.clip or math.inf
    if recipe.clip_rule == "global-norm":
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    for parameter in parameters:
        torch.nn.utils.clip_grad_norm_([parameter], limit)
    return norm


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensors[name].shape) for name in sorted(tensors)}
