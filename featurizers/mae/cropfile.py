"""The training crops of a data set on disk: collected once, read by memory map, kept over a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError, FieldSource, Progress, silent
from featurizers.mae.config import MaeConfig
from featurizers.mae.pixels import Statistics, cut_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CUTTING = ("crop", "scale", "mask", "border", "standardise", "crops_per_field")


@dataclass(frozen=True, slots=True, eq=False)
class CropFile:
    """Crops of all training fields with their surroundings, not yet standardised over the data set.

    Parameters
    ----------
    pixels
        (n, C, S, S) float32, memory-mapped.
    inside
        (n, S, S) bool, memory-mapped.
    """

    pixels: NDArray[np.float32]
    inside: NDArray[np.bool_]

    def statistics(self, report: Callable[[Progress], None] = silent) -> Statistics:
        """Return mean and population standard deviation per channel over all object pixels, in float64."""
        channels = self.pixels.shape[1]
        total, squares = np.zeros(channels), np.zeros(channels)
        count = done = 0
        for pixels in self._object_pixels():
            count += pixels.shape[1]
            total += pixels.sum(axis=1)
        mean = total / count
        for pixels in self._object_pixels():
            squares += ((pixels - mean[:, None]) ** 2).sum(axis=1)
            done += pixels.shape[1]
            report(Progress("pixel statistics", done, count))
        return Statistics(mean.astype(np.float32), np.sqrt(squares / count).astype(np.float32))

    def _object_pixels(self) -> Iterator[NDArray[np.float64]]:
        """Yield the object pixels (C, pixels) of 64 crops at a time."""
        for start in range(0, len(self.pixels), 64):
            piece = slice(start, start + 64)
            yield self.pixels[piece].swapaxes(0, 1)[:, self.inside[piece]].astype(np.float64)


def collect(
    fields: FieldSource, config: MaeConfig, seed: int, folder: Path, report: Callable[[Progress], None]
) -> CropFile:
    """Cut the crops of all fields into ``folder``, or open those that an earlier call completed.

    ``crops.json`` is put in place last, by a rename: without it the other files are an interrupted collection
    and are written anew.

    Raises
    ------
    FeaturizerError
        When no field has an object, or the folder holds crops cut in another way.
    """
    cutting = {name: getattr(config, name) for name in _CUTTING}
    made_as = {
        "cutting": cutting,
        "seed": seed,
        "fields": len(fields),
        "channels": [channel.name for channel in fields.channels],
    }
    index = folder / "crops.json"
    if not index.exists():
        count = _write(fields, config, seed, folder, report)
        temporary = folder / "crops.json.part"
        temporary.write_text(json.dumps({**made_as, "count": count}))
        temporary.replace(index)
    found = json.loads(index.read_text())
    count = found.pop("count")
    if found != made_as:
        msg = f"{folder} holds crops of another data set or setting; remove it to start anew"
        raise FeaturizerError(msg)
    if count == 0:
        msg = (
            f"mae: none of {len(fields)} fields has an object to crop; check the segmentation, "
            "or choose other values for mask, crop and border"
        )
        raise FeaturizerError(msg)
    edge = config.crop
    pixels = np.memmap(
        folder / "pixels.bin", np.float32, "r", shape=(count, len(fields.channels), edge, edge)
    )
    inside = np.memmap(folder / "inside.bin", np.bool_, "r", shape=(count, edge, edge))
    return CropFile(pixels, inside)


def discard(folder: Path) -> None:
    """Remove the crops of a training that is complete; the index goes first."""
    for name in ("crops.json", "pixels.bin", "inside.bin"):
        (folder / name).unlink(missing_ok=True)


def _write(
    fields: FieldSource, config: MaeConfig, seed: int, folder: Path, report: Callable[[Progress], None]
) -> int:
    count, total = 0, len(fields)
    with (folder / "pixels.bin").open("wb") as pixels, (folder / "inside.bin").open("wb") as inside:
        for done, field in enumerate(fields):
            crops = cut_cells(field, config)
            chosen = _chosen(len(crops.ids), config.crops_per_field, seed, done)
            pixels.write(np.ascontiguousarray(crops.pixels[chosen]).tobytes())
            inside.write(np.ascontiguousarray(crops.inside[chosen]).tobytes())
            count += len(chosen)
            report(Progress("crops", done + 1, total, {"crops": count}))
    return count


def _chosen(available: int, wanted: int, seed: int, field: int) -> NDArray[np.int64]:
    if not 0 < wanted < available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, field]).choice(available, wanted, replace=False))
