"""What training sees: fields of compounds of known structure, on disk, and the pairs of each step."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurizers.base import FeaturizerError, FieldSource, Progress
from featurizers.chemistry import PERTURBATION, fingerprints, structures
from featurizers.cloome.config import NAME, CloomeConfig
from featurizers.cloome.images import central, prepared
from featurizers.training import parallel
from featurizers.training.pixels import Statistics, dihedral
from featurizers.training.schedules import batch_indices, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_FILES = ("images.json", "images.bin")
_CHUNK = 16


@dataclass(frozen=True, slots=True, eq=False)
class Molecules:
    """The different molecules of a training table.

    Parameters
    ----------
    bits
        (M, B) float32 fingerprints, no two rows equal.
    of_well
        Row of ``bits`` by plate and well.
    """

    bits: NDArray[np.float32]
    of_well: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, table: Any, config: CloomeConfig) -> Molecules:
        """Read the structures of a table: one row per well, with plate, well, perturbation and SMILES.

        Compounds with equal fingerprints are one molecule: the network cannot tell them apart.

        Raises
        ------
        FeaturizerError
            Without a column or a structure, for what is no SMILES, and with fewer than two molecules.
        """
        known, without = structures(table, NAME)
        if without:
            some = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            warnings.warn(
                f"{NAME}: {len(without)} of {len(known) + len(without)} perturbations have no SMILES and are "
                f"left out of training ({some})",
                stacklevel=3,
            )
        names = list(known)
        try:
            every = fingerprints([known[name] for name in names], config.radius, config.bits, names=names)
        except FeaturizerError as error:
            msg = f"{NAME}: {error}"
            raise FeaturizerError(msg) from error
        bits, row = np.unique(every, axis=0, return_inverse=True)
        if len(bits) < 2:
            msg = (
                f"{NAME}: {len(names)} perturbations with a SMILES have {len(bits)} different fingerprints; "
                "a contrast needs two molecules"
            )
            raise FeaturizerError(msg)
        number = dict(zip(names, row.reshape(-1).tolist(), strict=True))
        keys = ["Metadata_Plate", "Metadata_Well", PERTURBATION]
        wells = table[keys].astype(str).itertuples(index=False, name=None)
        return cls(bits, {(plate, well): number[name] for plate, well, name in wells if name in number})


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Grey levels of the training fields.

    Parameters
    ----------
    pixels
        (n, C, H, W) uint8 or float32, memory-mapped.
    molecule
        (n,) int64, the molecule of each field.
    """

    pixels: NDArray[Any]
    molecule: NDArray[np.int64]

    @classmethod
    def collect(
        cls,
        fields: FieldSource,
        molecules: Molecules,
        config: CloomeConfig,
        folder: Path,
        report: Callable[[Progress], None],
    ) -> Images:
        """Prepare the fields of wells with a molecule into ``folder``, or open those of an earlier call.

        All have the shape of the first; a field of another size is cut or padded to it around its middle.
        ``images.json`` is put in place last: without it, an interrupted collection is made anew. Of several
        processes that train together, the first collects.

        Raises
        ------
        FeaturizerError
            When the fields show fewer than two molecules.
        """
        index = folder / _FILES[0]
        exact = config.grey != "raw" and config.rescale == 1.0  # 256 levels that nothing has mixed
        dtype = np.dtype(np.uint8 if exact else np.float32)
        if parallel.rank() == 0 and not index.exists():
            part = folder / f"{_FILES[0]}.part"
            part.write_text(json.dumps(_write(fields, molecules, config, folder, dtype, report)))
            part.replace(index)
        parallel.wait()
        found = json.loads(index.read_text())
        molecule = np.array(found["molecule"], np.int64)
        seen = len(np.unique(molecule))
        if seen < 2:
            msg = (
                f"{NAME}: {len(molecule)} of {len(fields)} fields show a compound with a SMILES, {seen} "
                "different molecules in all; a contrast needs two"
            )
            raise FeaturizerError(msg)
        pixels = np.memmap(folder / _FILES[1], dtype, "r", shape=(len(molecule), *found["shape"]))
        return cls(pixels, molecule)

    def statistics(self, report: Callable[[Progress], None]) -> Statistics:
        """Return mean and population standard deviation per channel over all pixels, in float64."""
        count = len(self.pixels)
        total, squares = np.zeros((2, self.pixels.shape[1]))
        area = count * self.pixels.shape[2] * self.pixels.shape[3]
        for squared in (False, True):
            mean = total / area
            for start in range(0, count, _CHUNK):
                levels = self.pixels[start : start + _CHUNK].astype(np.float64)
                if squared:
                    squares += ((levels - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3))
                    report(Progress("pixel statistics", min(start + _CHUNK, count), count))
                else:
                    total += levels.sum(axis=(0, 2, 3))
        return Statistics((total / area).astype(np.float32), np.sqrt(squares / area).astype(np.float32))


def discard(folder: Path) -> None:
    """Remove the images of a training that is complete; the index goes first."""
    parallel.wait()
    if parallel.rank() == 0:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)


def _write(
    fields: FieldSource,
    molecules: Molecules,
    config: CloomeConfig,
    folder: Path,
    dtype: np.dtype[Any],
    report: Callable[[Progress], None],
) -> dict[str, Any]:
    """Write the levels of every field that has a molecule; return their shape and molecules."""
    shape: Sequence[int] = (0, 0, 0)
    owner: list[int] = []
    with (folder / _FILES[1]).open("wb") as file:
        for done, field in enumerate(fields):
            well = (str(field.metadata.get("Metadata_Plate")), str(field.metadata.get("Metadata_Well")))
            if well in molecules.of_well:
                planes = prepared(field, config.grey, config.rescale)
                shape = shape if owner else planes.shape
                file.write(np.ascontiguousarray(central(planes, *shape[1:]), dtype).tobytes())
                owner.append(molecules.of_well[well])
            report(Progress("images", done + 1, len(fields)))
    return {"shape": list(shape), "molecule": owner}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of each step: a function of its number."""

    images: Images
    molecules: Molecules
    config: CloomeConfig
    seed: int
    device: torch.device

    def of_step(self, step: int) -> NDArray[np.int64]:
        """Return the images of a step's batch; for what it may hold twice see ``batches`` of the config."""
        batch, owner = self.config.batch, self.images.molecule
        if self.config.batches == "images":
            return batch_indices(self.seed, step, min(batch, len(owner)), len(owner)).numpy()
        rng = np.random.default_rng(stream(self.seed, "molecules", step).initial_seed())
        known = np.unique(owner)
        drawn = rng.choice(known, min(batch, len(known)), replace=False)
        return np.array([rng.choice(np.flatnonzero(owner == molecule)) for molecule in drawn], np.int64)

    def windows(self, chosen: NDArray[np.int64], step: int) -> Tensor:
        """Return this process's windows (K, C, h, w) of the chosen images, float32 grey levels."""
        config, own = self.config, parallel.share(len(chosen))
        size = np.array([config.window_height, config.window_width])
        # every process draws for the whole batch, so that a pair's window does not depend on who holds it
        places = torch.rand((len(chosen), 2), generator=stream(self.seed, "windows", step)).numpy()
        cut = []
        for image, place in zip(chosen[own], places[own], strict=True):
            planes = self.images.pixels[image].astype(np.float32)
            free = np.maximum(np.array(planes.shape[1:]) - size + 1, 1)
            if config.view == "random":
                top, left = (place * free).astype(int).tolist()
                planes = planes[:, top : top + size[0], left : left + size[1]]
            cut.append(central(planes, *size.tolist()))
        windows = torch.from_numpy(np.stack(cut)).to(self.device)
        if config.augment == "dihedral":
            turns = torch.randint(8, (len(chosen),), generator=stream(self.seed, "augment", step))
            windows = dihedral(windows, turns[own].to(self.device))
        return windows

    def fingerprints(self, chosen: NDArray[np.int64]) -> Tensor:
        """Return this process's fingerprints (K, B) of the chosen images' molecules."""
        own = self.images.molecule[chosen[parallel.share(len(chosen))]]
        return torch.from_numpy(self.molecules.bits[own]).to(self.device)
