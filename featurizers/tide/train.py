"""Training: the self-supervised term on all crops, teacher and student on those with a transcriptome."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurizers.base import FeaturizerError, FieldSource, FitContext
from featurizers.chemistry import fingerprints
from featurizers.dino.model import SelfDistillation
from featurizers.dino.train import Distillation
from featurizers.dino.train import recipe as dino_recipe
from featurizers.mae.model import MaskedAutoencoder
from featurizers.mae.train import Batches
from featurizers.mae.train import gradient as mae_gradient
from featurizers.mae.train import recipe as mae_recipe
from featurizers.tide.choice import Choice, Kept, digest, labels, split, steps_of_checks
from featurizers.tide.config import NAME, TideConfig
from featurizers.tide.loss import divergence, log_distribution, teacher_loss
from featurizers.tide.model import Guided, Reader, branches, features
from featurizers.tide.pairs import Pairs, of_table
from featurizers.training import parallel
from featurizers.training.cropfile import CropFile, collect, discard
from featurizers.training.featurizer import Trained
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe, autocast
from featurizers.training.paths import draws
from featurizers.training.pixels import Statistics, cut_cells, dihedral, prepare
from featurizers.training.schedules import batch_indices, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Accumulate = Callable[[int], dict[str, "Tensor"]]


def train(
    fields: FieldSource,
    table: Any,
    config: TideConfig,
    context: FitContext,
    file: Path | None = None,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Trained[Reader], tuple[str, ...], tuple[tuple[int, float], ...]]:
    """Train on the crops of ``fields`` and the rows of ``table``, or go on from the checkpoint.

    Parameters
    ----------
    fields
        Training fields; all their crops serve the self-supervised term, but for images that are held out
        with ``checkpoint="knn"``.
    table
        What :func:`featurizers.tide.pairs.of_table` reads. Without a pair, and for the same settings, the
        encoder ends in the weights of the self-supervised term trained alone, if β = 1 and the last step is
        kept.
    file
        Embeddings of transcriptomes, in the place of the table's readouts.

    Returns
    -------
    (Trained, tuple, tuple)
        What is kept, in evaluation mode; the drugs of the codebook (none with zero pairs); step and accuracy
        of each check that the checkpoint was chosen by (none with ``checkpoint="last"``).

    Raises
    ------
    FeaturizerError
        When the table or the settings are wrong, there is nothing to train on, the loss is no longer finite,
        or the work folder belongs to another training.
    """
    device = parallel.join(context.device)
    pairs = of_table(table, config, file)
    if pairs is None and config.read == "student":
        msg = (
            f"{NAME}: read=student needs pairs to train the student on, and there are none; set read=encoder"
        )
        raise FeaturizerError(msg)
    network = _network(config, len(fields.channels), context.seed, pairs).to(device)
    named = None
    if config.checkpoint == "knn":
        named = labels(table)
        network.kept = Kept(network.reader(config.read), len(steps_of_checks(config))).to(device)
    made_as = {
        "config": asdict(config),
        "seed": context.seed,
        "channels": [c.name for c in fields.channels],
        "pairs": None if pairs is None else pairs.digest(),
        "labels": None if named is None else digest(named),
    }
    # the image encoder alone, which embeds too, is not compiled
    called = list(network.alone.children()) if config.self_supervision == "dino" else [network.alone]
    loop = Loop(network, _recipe(config, pairs), context, made_as, network.groups(), called)
    statistics = None
    if loop.state.get("statistics") is not None:
        statistics = Statistics.from_json(loop.state["statistics"])
    if not loop.done:
        everything = crops = collect(
            fields,
            lambda field: cut_cells(field, config),
            {name: getattr(config, name) for name in ("scale", "mask", "border", "standardise")},
            context.workdir,
            loop.report,
            name=NAME,
            crop=config.crop,
            seed=context.seed,
            crops_per_field=config.crops_per_field,
        )
        images, choice = None, None
        if named is not None:
            images = split(everything, named, config, context.seed)
            crops = everything.without(images.held_out)
        if statistics is None and config.standardise == "dataset":
            statistics = crops.statistics(loop.report)
        before: Callable[[int], None] | None = None
        after: Callable[[int], None] | None = None
        alone: Accumulate
        if isinstance(network.alone, SelfDistillation):
            term = Distillation(network.alone, config, context.seed, crops, statistics, device)
            alone, before, after = term.accumulate, term.hold_prototypes, term.move
        else:
            batches = Batches(config.mae(), context.seed, crops, statistics, device)
            alone = partial(mae_gradient, network.alone, config.mae(), batches)
        guidance = None
        if pairs is not None:
            held_out = () if images is None else {crops.wells[f] for f in images.held_out}
            guidance = Guidance(network, config, context.seed, crops, statistics, device, pairs, held_out)
        if images is not None:
            assert network.kept is not None
            choice = Choice(
                network.kept,
                lambda: network.reader(config.read),
                config,
                context.seed,
                everything,
                statistics,
                device,
                images,
                loop.report,
            )
            after = _both(after, choice.after)
        loop.run(
            lambda step: _gradient(network, config, step, alone, guidance),
            before=before,
            after=after,
            extra={"statistics": None if statistics is None else statistics.as_json()},
            checkpoint_seconds=checkpoint_seconds,
        )
        del crops, everything, alone, guidance, after, choice
    discard(context.workdir)
    drugs = () if pairs is None else pairs.drugs
    if network.kept is None:
        return Trained(network.reader(config.read).eval(), statistics), drugs, ()
    checks = tuple(zip(steps_of_checks(config), network.kept.scores.tolist(), strict=True))
    return Trained(network.kept.reader.eval(), statistics), drugs, checks


def _both(first: Callable[[int], None] | None, second: Callable[[int], None]) -> Callable[[int], None]:
    def after(step: int) -> None:
        if first is not None:
            first(step)
        second(step)

    return after


def _network(config: TideConfig, channels: int, seed: int, pairs: Pairs | None) -> Guided:
    alone: SelfDistillation | MaskedAutoencoder
    if config.self_supervision == "dino":
        alone = SelfDistillation(config, channels, seed)
    else:
        alone = MaskedAutoencoder(config.mae(), channels, stream(seed, "weights", 0))
    if pairs is None:
        return Guided(config, alone, 0, 0, None, seed)
    bits = None
    if config.codebook_start == "fingerprints":
        bits = torch.from_numpy(
            fingerprints(
                pairs.smiles,
                config.radius,
                config.bits,
                config.chiral,
                kind=config.fingerprint,
                names=pairs.drugs,
            )
        )
    return Guided(config, alone, len(pairs.drugs), pairs.profiles.shape[1], bits, seed)


def _recipe(config: TideConfig, pairs: Pairs | None) -> Recipe:
    """Return the recipe of the self-supervised term, whose steps now hold the paired crops too."""
    own = dino_recipe(config) if config.self_supervision == "dino" else mae_recipe(config.mae())
    more = 0 if pairs is None else config.pairs * config.cells
    return replace(own, name=NAME, crops=own.crops + more)


def _gradient(
    network: Guided, config: TideConfig, step: int, alone: Accumulate, guidance: Guidance | None
) -> dict[str, Tensor]:
    """Leave this process's share of the gradient of L_distill + α L_teacher + β L_ssl; return the shares."""
    found = alone(step)
    term, weight = found.pop("loss"), config.self_supervision_weight
    if weight != 1:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(weight)
    own = guidance.accumulate(step) if guidance is not None else {}
    guided = sum((own[name] for name in ("distil", "guided") if name in own), torch.zeros_like(term))
    own.pop("guided", None)
    return {"loss": weight * term + guided, "self_supervision": term, **own, **found}


class Guidance:
    """Teacher and student on one training's pairs.

    Parameters
    ----------
    crops
        Of the images that are trained on.
    held_out
        Wells with images that are not, to choose the checkpoint.
    """

    def __init__(
        self,
        network: Guided,
        config: TideConfig,
        seed: int,
        crops: CropFile,
        statistics: Statistics | None,
        device: torch.device,
        pairs: Pairs,
        held_out: Collection[tuple[str, str]] = (),
    ) -> None:
        self.network, self.config, self.seed = network, config, seed
        self.crops, self.statistics, self.device, self.pairs = crops, statistics, device, pairs
        number = {well: k for k, well in enumerate(pairs.wells)}
        owner = np.array([number.get(crops.wells[f], -1) for f in crops.field], np.int64)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(pairs.wells) + 1))
        self._crops = [order[a:b] for a, b in pairwise(bounds)]
        self._wells = np.array([k for k, some in enumerate(self._crops) if len(some)], np.int64)
        if not len(self._wells):
            msg = f"{NAME}: no well with a transcriptome has a cell; check the segmentation"
            asked = [well for well in pairs.wells if well in held_out]
            if asked:
                msg = (
                    f"{NAME}: no image of a well with a transcriptome is left to pair, as those of "
                    f"{len(asked)} such wells are held out to choose the checkpoint; lower held_out, or set "
                    "checkpoint=last"
                )
            raise FeaturizerError(msg)

    def of_step(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return wells (P,), profiles (P,) and crops (P, cells) of a step's images.

        Each pass over the wells has them all once, in a new order. A well with fewer crops than ``cells``
        gives some twice.
        """
        config = self.config
        index = batch_indices(self.seed, step, config.pairs, len(self._wells)).numpy()
        wells = self._wells[index]
        rng = np.random.default_rng(stream(self.seed, "pairs", step).initial_seed())
        profiles = np.array([rng.choice(self.pairs.candidates[w]) for w in wells])
        drawn = [
            rng.choice(self._crops[w], config.cells, replace=len(self._crops[w]) < config.cells)
            for w in wells
        ]
        return wells, profiles, np.stack(drawn)

    def accumulate(self, step: int) -> dict[str, Tensor]:
        """Leave the gradient of this process's share of L_distill + α L_teacher; return the shares.

        ``guided`` is α L_teacher, ``distil`` L_distill; beside them, how often teacher and student name the
        true drug first.
        """
        config = self.config
        wells, profiles, crops = self.of_step(step)
        turns = torch.randint(8, crops.shape, generator=stream(self.seed, "pair augment", step))
        paths = draws(self.seed, "pair drop path", step, branches(self.network.encoder), *crops.shape)
        own = parallel.share(config.pairs)
        size = max(1, config.micro_batch // config.cells) if config.micro_batch else config.pairs
        figures: dict[str, Tensor] = {}
        for start in range(own.start, own.stop, size):
            rows = slice(start, min(start + size, own.stop))
            share = (rows.stop - rows.start) / config.pairs
            with autocast(self.device, config.precision):
                image = self._images(crops[rows], turns[rows], paths[:, rows])
                teacher, student = self._streams(image, wells[rows], profiles[rows])
            found = self._losses(teacher.float(), student.float(), wells[rows])
            loss = share * (found["distil"] + found["guided"])
            loss.backward()  # type: ignore[no-untyped-call]
            for name, value in found.items():
                figures[name] = figures.get(name, torch.zeros_like(value)) + value.detach() * share
        zero = torch.zeros((), device=self.device)
        names = ("distil", "guided", "teacher", "teacher_top1", "student_top1")
        return {name: figures.get(name, zero) for name in names}

    def _images(self, crops: NDArray[np.int64], turns: Tensor, paths: Tensor) -> Tensor:
        """Return (n, D): the image encoder's features of each image's crops (n, cells), averaged.

        ``paths`` (branches, n, cells) are the draws of dropped paths.
        """
        config, index = self.config, crops.reshape(-1)
        pixels = torch.from_numpy(self.crops.pixels[index]).to(self.device)
        inside = torch.from_numpy(self.crops.inside[index]).to(self.device)
        images = prepare(pixels, inside, config, self.statistics)
        if config.augment == "dihedral":
            images = dihedral(images, turns.reshape(-1).to(self.device))
        found = features(self.network.encoder, images, config, paths.flatten(1).to(self.device))
        return found.reshape(*crops.shape, -1).mean(dim=1)

    def _streams(
        self, image: Tensor, wells: NDArray[np.int64], profiles: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Return h_t and h_s, (n, d) each."""
        pairs, network = self.pairs, self.network
        assert network.teacher is not None
        assert network.student is not None

        def tensor(values: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(values).to(self.device)

        basal = tensor(pairs.basal[pairs.context[wells]]) if self.config.basal == "controls" else None
        teacher = network.teacher(
            image,
            tensor(pairs.dose[wells]),
            tensor(pairs.profiles[profiles]),
            tensor(pairs.profile_dose[profiles]),
            basal,
        )
        return teacher, network.student(image)

    def _losses(self, teacher: Tensor, student: Tensor, wells: NDArray[np.int64]) -> dict[str, Tensor]:
        config, drug = self.config, torch.from_numpy(self.pairs.drug[wells]).to(self.device)
        assert self.network.codebook is not None
        rows = self.network.codebook()
        log_teacher = log_distribution(teacher, rows, config.temperature)
        log_student = log_distribution(student, rows, config.temperature)
        own = teacher_loss(log_teacher, drug)
        return {
            "distil": divergence(log_teacher, log_student, detached=config.distil_target == "detached"),
            "guided": config.teacher_weight * own,
            "teacher": own,
            "teacher_top1": (log_teacher.argmax(dim=1) == drug).float().mean(),
            "student_top1": (log_student.argmax(dim=1) == drug).float().mean(),
        }
