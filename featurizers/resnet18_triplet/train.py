"""Training: bags of wells by class, the triplet loss, the shared loop."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurizers.base import FeaturizerError, FieldSource, FitContext
from featurizers.resnet18_triplet.config import NAME, TripletConfig
from featurizers.resnet18_triplet.loss import mine, squared_distances, triplet_loss
from featurizers.resnet18_triplet.model import BagNetwork, channels_last
from featurizers.resnet18_triplet.tiles import cut_tiles, draw, scale_tiles
from featurizers.training import parallel
from featurizers.training.cropfile import CropFile, collect, discard
from featurizers.training.loop import CHECKPOINT_SECONDS, Loop, Recipe, autocast
from featurizers.training.pixels import dihedral
from featurizers.training.schedules import stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor


def train(
    fields: FieldSource,
    table: pd.DataFrame,
    config: TripletConfig,
    context: FitContext,
    *,
    start: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> BagNetwork:
    """Train on the wells of ``table``, or go on from the checkpoint in the work folder.

    Parameters
    ----------
    fields
        Training fields; those of wells that the table does not name are not used.
    table
        One row per well: ``Metadata_Plate``, ``Metadata_Well`` and the columns that make a class.
    start
        File of weights that the backbone starts at; None: at random.

    Returns
    -------
    BagNetwork
        The network after ``config.steps`` steps, in evaluation mode.

    Raises
    ------
    FeaturizerError
        When the table lacks a column, fewer than two classes have two wells with tiles, or the loss is no
        longer finite.
    """
    device = parallel.join(context.device)
    named = classes_of(table, config)
    made_as = {
        "config": asdict(config) | {"class_columns": list(config.class_columns)},
        "seed": context.seed,
        "channels": [c.name for c in fields.channels],
    }
    network = BagNetwork(config, len(fields.channels), context.seed)
    if start is not None:
        network.start_at(start, config.first_convolution)
    network = channels_last(network.to(device))
    loop = Loop(network, _recipe(config), context, made_as)
    if not loop.done:
        cutting = ("scale", "mask", "background", "border", "scaling")
        crops = collect(
            fields,
            lambda field: cut_tiles(field, config),
            {name: getattr(config, name) for name in cutting},
            context.workdir,
            loop.report,
            name=NAME,
            crop=config.crop,
        )
        bags = Bags.of(crops, named, config, context.seed, device)

        def accumulate(step: int) -> dict[str, Tensor]:
            return _gradient(network, config, bags, step)

        loop.run(accumulate, checkpoint_seconds=checkpoint_seconds)
        del crops, bags
    discard(context.workdir)
    return network.eval()


def classes_of(table: Any, config: TripletConfig) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the class of each well of the table."""
    needed = ["Metadata_Plate", "Metadata_Well", *config.class_columns]
    missing = [name for name in needed if table is None or name not in table.columns]
    if missing:
        have = "no table" if table is None else ", ".join(map(str, table.columns[:8]))
        msg = (
            f"{NAME} learns from classes of wells and the training table has no {', '.join(missing)} (it has "
            f"{have}); set class_columns to columns that it has"
        )
        raise FeaturizerError(msg)
    rows = table[needed].astype(str).itertuples(index=False, name=None)
    return {(plate, well): tuple(labels) for plate, well, *labels in rows}


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """Wells by class, and the batch of each step.

    Parameters
    ----------
    tiles
        Tile numbers of each well, wells in order of plate and name.
    members
        Well numbers of each class that has at least two wells, classes in order of name.
    """

    crops: CropFile
    config: TripletConfig
    seed: int
    device: torch.device
    tiles: tuple[NDArray[np.int64], ...]
    members: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(
        cls,
        crops: CropFile,
        named: Mapping[tuple[str, str], tuple[str, ...]],
        config: TripletConfig,
        seed: int,
        device: torch.device,
    ) -> Bags:
        """Sort tiles into wells and wells into classes; refuse what no triplet can be made of."""
        well_of_tile = [crops.wells[k] for k in crops.field]
        wells = sorted({well for well in well_of_tile if well in named})
        number = {well: k for k, well in enumerate(wells)}
        owner = np.array([number.get(well, -1) for well in well_of_tile], np.int64)
        tiles = tuple(np.flatnonzero(owner == k) for k in range(len(wells)))
        labels = sorted({named[well] for well in wells})
        sizes = {label: [number[w] for w in wells if named[w] == label] for label in labels}
        alone = [" ".join(label) for label, own in sizes.items() if len(own) < 2]
        members = tuple(np.array(own) for own in sizes.values() if len(own) >= 2)
        if len(members) < 2:
            by = " and ".join(config.class_columns)
            msg = (
                f"{NAME}: {len(members)} of {len(labels)} classes (by {by}) have two wells with tiles; a "
                "triplet needs two such classes: choose class_columns with replicates"
            )
            raise FeaturizerError(msg)
        if alone:
            some = ", ".join(alone[:3]) + (", ..." if len(alone) > 3 else "")
            warnings.warn(
                f"{NAME}: {len(alone)} of {len(labels)} classes have one well only and no replicate to be "
                f"near to ({some}); training leaves them out",
                stacklevel=2,
            )
        return cls(crops, config, seed, device, tiles, members)

    def of_step(self, step: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Return the tile numbers of each bag of a step, and each bag's class."""
        config = self.config
        rng = np.random.default_rng(stream(self.seed, "bags", step).initial_seed())
        chosen = rng.choice(len(self.members), min(config.classes, len(self.members)), replace=False)
        bags, classes = [], []
        for label in chosen:
            own = self.members[label]
            for well in rng.choice(own, min(config.wells, len(own)), replace=False):
                tiles = self.tiles[well]
                bags.append(tiles[draw(len(tiles), config.tiles, rng)])
                classes.append(label)
        return bags, np.array(classes)

    def images(self, bags: list[NDArray[np.int64]], step: int) -> Tensor:
        """Return this process's bags (K, N, C, S, S), scaled and turned."""
        config, own = self.config, parallel.share(len(bags))
        index = np.concatenate(bags[own])
        pixels = torch.from_numpy(self.crops.pixels[index]).to(self.device)
        inside = torch.from_numpy(self.crops.inside[index]).to(self.device)
        images = scale_tiles(pixels, inside, config)
        if config.augment == "dihedral":
            everyone = torch.randint(
                8, (len(bags), config.tiles), generator=stream(self.seed, "augment", step)
            )
            images = dihedral(images, everyone[own].reshape(-1).to(self.device))
        return images.reshape(-1, config.tiles, *images.shape[1:])


def _gradient(network: BagNetwork, config: TripletConfig, bags: Bags, step: int) -> dict[str, Tensor]:
    """Leave this process's share of the gradient; the loss sees the embeddings of every process."""
    members, labels = bags.of_step(step)
    images = bags.images(members, step)
    passes = torch.split(images, config.micro_batch or len(images))
    if len(passes) == 1:
        with autocast(images.device, config.precision):
            own = network(images).float()
    else:
        own = _embedded(network, config, passes).requires_grad_()
    embeddings = parallel.gather(own, len(members))
    distances = squared_distances(embeddings)
    classes = torch.from_numpy(labels).to(images.device)
    triplets = mine(distances.detach(), classes, margin=config.margin, fallback=config.fallback)
    loss = triplet_loss(distances, triplets, config.margin)
    loss.backward()  # type: ignore[no-untyped-call]
    if len(passes) > 1 and own.grad is not None:
        for part, gradient in zip(passes, torch.split(own.grad, config.micro_batch), strict=True):
            with autocast(images.device, config.precision):
                again = network(part).float()
            again.backward(gradient)
    active = distances.detach()
    active = active[triplets.anchor, triplets.negative] - active[triplets.anchor, triplets.positive]
    share = 1 / parallel.size()  # every process holds the whole loss
    violating = (active < config.margin).float().mean() if len(active) else torch.zeros_like(loss)
    return {"loss": loss * share, "active_triplets": violating * share}


def _embedded(network: BagNetwork, config: TripletConfig, passes: Sequence[Tensor]) -> Tensor:
    """Return the embeddings of all bags, pass by pass, without a graph and without a trace in the network.

    Batch normalisation uses each pass's statistics, as the pass with a graph will; its running ones wait.
    """
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad(), autocast(passes[0].device, config.precision):
        found = torch.cat([network(part).float() for part in passes])
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return found


def _recipe(config: TripletConfig) -> Recipe:
    return Recipe(
        NAME,
        steps=config.steps,
        crops=config.batch,
        optimiser="adamw",
        beta1=0.9,
        beta2=0.999,
        rate=lambda _: config.lr,
        decay=lambda _: config.weight_decay,
        clip=config.clip,
        average=config.average,
        compile=config.compile,
        remedy="lower lr or set clip",
        memory_remedy="lower micro_batch (wells per pass), or wells, tiles or classes",
    )
