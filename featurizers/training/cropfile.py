"""The training crops of a data set on disk: collected once, read by memory map, kept over a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featurizers.base import FeaturizerError, Field, FieldSource, Progress, silent
from featurizers.crops import Crops
from featurizers.training import parallel
from featurizers.training.pixels import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class CropFile:
    """Crops of all training fields with their surroundings, not yet standardised over the data set.

    Parameters
    ----------
    pixels
        (n, C, S, S) float32, memory-mapped.
    inside
        (n, S, S) bool, memory-mapped.
    field
        (n,) int64, the field that a crop is from.
    wells
        Plate and well of each field, texts.
    """

    pixels: NDArray[np.float32]
    inside: NDArray[np.bool_]
    field: NDArray[np.int64]
    wells: tuple[tuple[str, str], ...]

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

    def without(self, fields: NDArray[np.int64]) -> CropFile:
        """Return the crops of the other fields, read from the same files."""
        rows = np.flatnonzero(~np.isin(self.field, fields))
        pixels = cast("NDArray[np.float32]", _Rows(self.pixels, rows))
        inside = cast("NDArray[np.bool_]", _Rows(self.inside, rows))
        return CropFile(pixels, inside, self.field[rows], self.wells)

    def _object_pixels(self) -> Iterator[NDArray[np.float64]]:
        """Yield the object pixels (C, pixels) of 64 crops at a time."""
        for start in range(0, len(self.pixels), 64):
            piece = slice(start, start + 64)
            yield self.pixels[piece].swapaxes(0, 1)[:, self.inside[piece]].astype(np.float64)


class _Rows:
    """Some rows of an array on disk: as much of an array as training asks for, read when it is asked for."""

    def __init__(self, whole: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._whole, self._rows = whole, rows
        self.shape = (len(rows), *whole.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._whole[self._rows[index]])


def collect(
    fields: FieldSource,
    cut: Callable[[Field], Crops],
    cutting: Mapping[str, Any],
    folder: Path,
    report: Callable[[Progress], None],
    *,
    name: str,
    crop: int,
    seed: int = 0,
    crops_per_field: int = 0,
) -> CropFile:
    """Cut the crops of all fields into ``folder``, or open those that an earlier call completed.

    ``crops.json`` is put in place last, by a rename: without it the other files are an interrupted collection
    and are written anew. Of several processes that train together, the first collects.

    Parameters
    ----------
    cut
        Cuts the crops of one field, of edge ``crop``, before anything is scaled by the data set.
    cutting
        JSON values that ``cut`` depends on; crops cut in another way are refused.
    name
        The entrant, for messages.
    seed, crops_per_field
        How many crops of a field are kept, drawn with the seed; 0 for all.

    Raises
    ------
    FeaturizerError
        When no field has an object, or the folder holds crops cut in another way.
    """
    made_as = {
        "cutting": {**cutting, "crop": crop, "crops_per_field": crops_per_field},
        "seed": seed,
        "fields": len(fields),
        "channels": [channel.name for channel in fields.channels],
    }
    index = folder / "crops.json"
    if parallel.rank() == 0 and not index.exists():
        counts, wells = _write(fields, cut, crops_per_field, seed, folder, report)
        temporary = folder / "crops.json.part"
        temporary.write_text(json.dumps({**made_as, "counts": counts, "wells": wells}))
        temporary.replace(index)
    parallel.wait()
    found = json.loads(index.read_text())
    counts, wells = found.pop("counts"), found.pop("wells")
    if found != made_as:
        msg = f"{folder} holds crops of another data set or setting; remove it to start anew"
        raise FeaturizerError(msg)
    count = sum(counts)
    if count == 0:
        msg = (
            f"{name}: none of {len(fields)} fields has an object to crop; check the segmentation, "
            "or choose other values for mask, crop and border"
        )
        raise FeaturizerError(msg)
    shape = (count, len(fields.channels), crop, crop)
    pixels = np.memmap(folder / "pixels.bin", np.float32, "r", shape=shape)
    inside = np.memmap(folder / "inside.bin", np.bool_, "r", shape=(count, crop, crop))
    owner = np.repeat(np.arange(len(counts)), counts)
    return CropFile(pixels, inside, owner, tuple((plate, well) for plate, well in wells))


def discard(folder: Path) -> None:
    """Remove the crops of a training that is complete; the index goes first."""
    parallel.wait()
    if parallel.rank() == 0:
        for name in ("crops.json", "pixels.bin", "inside.bin"):
            (folder / name).unlink(missing_ok=True)


def _write(
    fields: FieldSource,
    cut: Callable[[Field], Crops],
    wanted: int,
    seed: int,
    folder: Path,
    report: Callable[[Progress], None],
) -> tuple[list[int], list[tuple[str, str]]]:
    """Write all crops; return how many each field gave, and each field's plate and well."""
    counts, wells, total = [], [], len(fields)
    with (folder / "pixels.bin").open("wb") as pixels, (folder / "inside.bin").open("wb") as inside:
        for done, field in enumerate(fields):
            crops = cut(field)
            chosen = _chosen(len(crops.ids), wanted, seed, done)
            pixels.write(np.ascontiguousarray(crops.pixels[chosen]).tobytes())
            inside.write(np.ascontiguousarray(crops.inside[chosen]).tobytes())
            counts.append(len(chosen))
            metadata = field.metadata
            wells.append((str(metadata.get("Metadata_Plate", "")), str(metadata.get("Metadata_Well", ""))))
            report(Progress("crops", done + 1, total, {"crops": sum(counts)}))
    return counts, wells


def _chosen(available: int, wanted: int, seed: int, field: int) -> NDArray[np.int64]:
    if not 0 < wanted < available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, field]).choice(available, wanted, replace=False))
