"""Which step's weights are kept: those whose features name the drug of held-out images best.

The held-out images are of training interventions, are not trained on, and no readout is looked at. They are
held out with all of their wells: what a well looks like would otherwise name its intervention.
"""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.base import FeaturizerError, Progress
from featurizers.chemistry import PERTURBATION
from featurizers.passes import in_memory
from featurizers.tide.config import NAME, TideConfig
from featurizers.tide.model import Reader, embedded
from featurizers.training import parallel
from featurizers.training.pixels import Statistics, prepare
from featurizers.training.schedules import stream
from featurizers.training.table import PLATE, WELL, controls

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from featurizers.training.cropfile import CropFile

Labels = Mapping[tuple[str, str], str]

TEMPERATURE = 0.07
"""Of the votes, as in DINO's k-NN evaluation (Wu et al. 2018; Caron et al. 2021)."""

PASS = 64
"""Crops per forward pass."""


class Kept(nn.Module):
    """The reader of the best check so far, and the accuracy of each check, -1 where it is still to come.

    It is part of what checkpoints hold, so a resumed training keeps the same.
    """

    scores: Tensor

    def __init__(self, reader: Reader, checks: int) -> None:
        super().__init__()
        self.reader = copy.deepcopy(reader).requires_grad_(False)  # noqa: FBT003
        self.register_buffer("scores", torch.full((checks,), -1.0, dtype=torch.float64))

    def take(self, check: int, accuracy: float, reader: Reader) -> None:
        """Note a check's accuracy; take its weights over unless an earlier one was better."""
        if accuracy >= float(self.scores.max()):
            self.reader.load_state_dict(reader.state_dict(), strict=True)
        self.scores[check] = accuracy


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images (fields, by number) of training interventions.

    Parameters
    ----------
    held_out, reference
        Images that are asked for, and those that answer, ascending.
    label
        (fields,) int64, number of each image's intervention, -1 where it has none.
    """

    held_out: NDArray[np.int64]
    reference: NDArray[np.int64]
    label: NDArray[np.int64]


def labels(table: pd.DataFrame | None) -> Labels:
    """Return the intervention of each well of a training table that names one, by plate and name.

    Raises
    ------
    FeaturizerError
        When the table names no perturbation.
    """
    if table is None or PERTURBATION not in table.columns:
        msg = f"{NAME}: checkpoint=knn asks for the training perturbations' names; set checkpoint=last"
        raise FeaturizerError(msg)
    treated = table[~controls(table) & table[PERTURBATION].notna()]
    rows = treated[[PLATE, WELL, PERTURBATION]].astype(str).itertuples(index=False, name=None)
    return {(plate, well): name for plate, well, name in rows}


def digest(named: Labels) -> str:
    """Return the sha256 of the labels."""
    return hashlib.sha256(repr(sorted(named.items())).encode()).hexdigest()


def split(crops: CropFile, named: Labels, config: TideConfig, seed: int) -> Split:
    """Hold out images of each intervention, drawn with the seed, in whole wells or one by one.

    Of the wells (or images) of an intervention so many are taken, in the order drawn, as have
    ``config.held_out`` images, at most half. An intervention with a single one holds out none, for nothing
    could answer for it; that is said, and its images are references. What is drawn of one does not depend on
    the others.

    Raises
    ------
    FeaturizerError
        When no intervention has two wells (or images) with a cell.
    """
    names = sorted(set(named.values()))
    number = {name: k for k, name in enumerate(names)}
    label = np.full(len(crops.wells), -1, np.int64)
    for field in np.unique(crops.field):
        if crops.wells[field] in named:
            label[field] = number[named[crops.wells[field]]]
    asked, few, single = [np.zeros(0, np.int64)], 0, 0
    for k, name in enumerate(names):
        parts = _parts(np.flatnonzero(label == k), crops, config)
        rng = np.random.default_rng(stream(seed, f"held-out images of {name}", 0).initial_seed())
        order = rng.permutation(len(parts))[: len(parts) // 2]
        count = 0
        for part in order:
            if count < config.held_out:
                asked.append(parts[part])
                count += len(parts[part])
        single += not count
        few += 0 < count < config.held_out
    held_out = np.sort(np.concatenate(asked))
    by_wells = config.held_out_by == "wells"
    if not len(held_out):
        msg = (
            f"{NAME}: no training perturbation has two {config.held_out_by} with a cell, of which "
            f"checkpoint=knn could hold one out; set checkpoint=last{', or held_out_by=images' * by_wells}"
        )
        raise FeaturizerError(msg)
    if few or single:
        half = "half of whose wells have no more" if by_wells else "half of whose images are no more"
        warnings.warn(
            f"{NAME}: checkpoint=knn holds out fewer than {config.held_out} images of {few} of {len(names)} "
            f"training perturbations, {half}, and none of {single} with a single "
            f"{'well' if by_wells else 'image'} or none",
            stacklevel=3,
        )
    return Split(held_out, np.setdiff1d(np.flatnonzero(label >= 0), held_out), label)


def _parts(images: NDArray[np.int64], crops: CropFile, config: TideConfig) -> list[NDArray[np.int64]]:
    """Return what of an intervention's images is held out together."""
    if config.held_out_by == "images":
        return [images[k : k + 1] for k in range(len(images))]
    own: dict[tuple[str, str], list[int]] = {}
    for image in images.tolist():
        own.setdefault(crops.wells[image], []).append(image)
    return [np.array(some, np.int64) for some in own.values()]


def accuracy(
    asked: Tensor, asked_label: Tensor, reference: Tensor, reference_label: Tensor, neighbours: int
) -> float:
    """Return the share of rows whose label the vote of their nearest references gives.

    The k references of largest cosine s vote for their own label with exp(s / 0.07); of labels with equal
    votes the first wins.

    Parameters
    ----------
    asked, reference
        (n, D) and (m, D) features.
    asked_label, reference_label
        (n,) and (m,) int64.
    neighbours
        k; all references where there are fewer.

    Source: Chen et al. 2026 take k = 20 and leave the vote open; this is DINO's.
    """
    a, b = (functional.normalize(rows.double(), dim=1) for rows in (asked, reference))
    near, index = (a @ b.T).topk(min(neighbours, len(b)), dim=1)
    count = int(torch.cat([asked_label, reference_label]).max()) + 1
    votes = near.new_zeros(len(a), count)
    votes.scatter_add_(1, reference_label[index], (near / TEMPERATURE).exp())
    return float((votes.argmax(dim=1) == asked_label).double().mean())


def steps_of_checks(config: TideConfig) -> list[int]:
    """Return after how many steps the checks are: evenly spread, the last one after the last step."""
    checks = min(config.checks, config.steps)
    return [math.ceil(config.steps * (k + 1) / checks) for k in range(checks)]


class Choice:
    """The checks of one training.

    Parameters
    ----------
    kept
        What takes over.
    read
        Returns what would be kept of the weights as they are.
    crops
        Of all images, the held-out ones too. An image is the mean over ``config.cells`` of its crops, drawn
        once, as it is for teacher and student; of one with fewer, over all.
    """

    def __init__(
        self,
        kept: Kept,
        read: Callable[[], Reader],
        config: TideConfig,
        seed: int,
        crops: CropFile,
        statistics: Statistics | None,
        device: torch.device,
        split: Split,
        report: Callable[[Progress], None],
    ) -> None:
        self.kept, self.read, self.config = kept, read, config
        self.crops, self.statistics, self.device, self.split = crops, statistics, device, split
        self.report = report
        self._checks = {step: k for k, step in enumerate(steps_of_checks(config))}
        self._images = np.concatenate([split.held_out, split.reference])
        drawn = []
        for field in self._images.tolist():
            own = np.flatnonzero(crops.field == field)
            rng = np.random.default_rng(stream(seed, "crops of an image", field).initial_seed())
            drawn.append(np.sort(rng.permutation(own)[: config.cells]))
        self._crops = np.concatenate(drawn)
        self._owner = torch.from_numpy(np.repeat(np.arange(len(drawn)), [len(own) for own in drawn]))

    def after(self, step: int) -> None:
        """Check, if one is due after this step; the first process's result counts for all."""
        check = self._checks.get(step + 1)
        if check is None:
            return
        reader = self.read()
        found = torch.tensor(self.measure(reader), dtype=torch.float64, device=self.device)
        own = found if parallel.rank() == 0 else torch.zeros_like(found)
        score = float(parallel.total(own))
        self.kept.take(check, score, reader)
        self.report(Progress("k-NN", check + 1, len(self._checks), {"accuracy": score}))

    def measure(self, reader: Reader) -> float:
        """Return how often a reader's features name the held-out images' interventions."""
        training = [module for module in reader.modules() if module.training]
        reader.eval()
        rows = []

        def forward(pixels: Tensor, inside: Tensor) -> Tensor:
            return embedded(reader, prepare(pixels, inside, self.config, self.statistics), self.config)

        for start in range(0, len(self._crops), PASS):
            index = self._crops[start : start + PASS]
            given = torch.from_numpy(self.crops.pixels[index]), torch.from_numpy(self.crops.inside[index])
            rows.append(in_memory(forward, *given, device=self.device))
        for module in training:
            module.training = True
        every = torch.cat(rows)
        total = every.new_zeros(len(self._images), every.shape[1]).index_add(0, self._owner, every)
        means = total / torch.bincount(self._owner)[:, None]
        count = len(self.split.held_out)
        label = torch.from_numpy(self.split.label[self._images])
        return accuracy(means[:count], label[:count], means[count:], label[count:], self.config.neighbours)
