"""Our measurements beside those of real CellProfiler on the same pixels and masks: equality and cost.

``python -m benchmarks.cellprofiler_parity [--data FOLDER] [--fields synthetic nf1 cloome] [--csv FILE]``

It needs the sidecar (``bench cellprofiler setup``). A value agrees when it is within 1e-4 of CellProfiler's,
relatively (plus 1e-8 of the column's largest magnitude, around zeros), or both are undefined. Every other
value is assigned one of these reasons, each tested on that very object, or stands as unexplained:

tied centre
    Radial distribution: several pixels of the object are farthest from its edge. CellProfiler takes the last
    of them in the order of an unstable sort of the whole image, we the first in reading order.
float32 sums
    Radial distribution of objects of 10,000 pixels or more, within 1 %: CellProfiler adds pixels in float32,
    one after the other. The same sums over our rings in float32 give its value within 1e-4.
tied maximum
    Location of the brightest pixel: several are equally bright; as above.
at the threshold
    Colocalisation: a pixel is within 1e-6 of 15 % of the object's maximum; CellProfiler compares in float32.
undefined
    NaN here where CellProfiler writes 0 (texture of an object that has no pixels at that distance).
axis
    Orientation: 90 and -90 degrees are one direction; where the second moments are equal, at 45 degrees,
    CellProfiler's scikit-image 0.18 has the sign wrong (mended since).
rounding
    Less than 2e-5 of the column's largest magnitude (CellProfiler's pixels and many sums are float32), or
    the phase of a moment below 2e-5 of the largest.

Cost: CellProfiler goes over the field twice in one process; its own CPU seconds per module for the second
time, without loading images, start-up and export, against the CPU seconds of ours (warm, median of three).

``--golden FOLDER`` writes the small field and CellProfiler's values that the tests compare our kernels with.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import cellprofiler_pipeline
from benchmarks.handcrafted import BenchField, cloome_field, nf1_field, synthetic_field
from featurizers.cellprofiler import radial
from featurizers.cellprofiler.config import FAMILIES, CellProfilerConfig
from featurizers.cellprofiler.distance import squared_distances
from featurizers.cellprofiler.measure import measure
from featurizers.cellprofiler.names import column_names
from featurizers.cellprofiler.objects import find_objects

RTOL, ZERO, ROUNDING, LARGE = 1e-4, 1e-8, 2e-5, 10_000
CONFIG = replace(
    CellProfilerConfig(),
    families=FAMILIES,
    border="keep",
    neighbors=("cells within 5", "nuclei within 1", "cells adjacent", "cells expand"),
)
REASONS = (
    "tied centre",
    "float32 sums",
    "tied maximum",
    "at the threshold",
    "undefined",
    "axis",
    "rounding",
    "unexplained",
)
MODULES = {
    "MeasureColocalization": "correlation, Costes",
    "MeasureGranularity": "granularity",
    "MeasureObjectIntensity": "intensity, location",
    "MeasureImageIntensity": "image",
    "MeasureObjectNeighbors": "neighbours",
    "MeasureObjectIntensityDistribution": "radial, both Zernikes",
    "MeasureObjectSizeShape": "size, shape, Zernike",
    "MeasureTexture": "texture",
}
GOLDEN_SCALES = (3, 5)
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
Columns = dict[str, np.ndarray]


def ours(field: BenchField, channels: Sequence[str], config: CellProfilerConfig = CONFIG) -> Columns:
    """Return our columns by name, each with as many rows as its compartment has objects."""
    names = column_names(channels, config)
    found: Columns = {}
    for compartment in config.compartments:
        ids = np.arange(1, field.masks[compartment].max() + 1, dtype=np.int32)
        values = measure(field.pixels, field.masks, ids, config)
        for name, column in zip(names, values.T, strict=True):
            if name.startswith(f"{compartment.capitalize()}_"):
                found[name] = column
            elif name.startswith("Image_"):
                found[name] = column[:1]
    return found


def read(folder: Path) -> Columns:
    """Return CellProfiler's columns of the first image set, in the grammar of its databases."""
    found: Columns = {}
    for name in ("Image", *cellprofiler_pipeline.OBJECTS):
        table = pd.read_csv(folder / f"{name}.csv")
        table = table[table["ImageNumber"] == 1]
        found |= {f"{name}_{column}": table[column].to_numpy() for column in table.columns}
    return found


def family(name: str) -> str:
    """Return the row of the table that a column belongs to."""
    where, group, measure_name = name.split("_")[:3]
    if where == "Image":
        return f"Image {group}"
    if group == "AreaShape":
        moments = ("Moment", "InertiaTensor")
        if any(word in measure_name for word in moments):
            return "AreaShape moments"
        return "AreaShape Zernike" if measure_name == "Zernike" else "AreaShape size and shape"
    if group == "RadialDistribution":
        return f"{group} {'Zernike' if 'Zernike' in measure_name else 'rings'}"
    return f"{group} {measure_name}" if group in ("Correlation", "Location") else group


class Judge:
    """Compares the columns of one field and says why a value differs."""

    def __init__(self, field: BenchField, channels: Sequence[str]) -> None:
        self.field, self.channels = field, list(channels)
        self._ties: dict[str, np.ndarray] = {}
        self._codes: dict[str, np.ndarray] = {}
        self._bases = {name.capitalize(): find_objects(mask) for name, mask in field.masks.items()}

    def compare(self, name: str, mine: np.ndarray, theirs: np.ndarray, size: np.ndarray | None) -> list[str]:
        """Return a word per value: empty where it agrees, else why not; ``size`` is a phase's magnitude."""
        theirs = np.asarray(theirs, np.float64)
        finite = np.abs(theirs[np.isfinite(theirs)])
        largest = finite.max(initial=0.0)
        if "CentralMoment_0_1" in name or "CentralMoment_1_0" in name:
            largest = 1.0  # the whole column is 0 but for rounding
        difference = np.abs(mine - theirs)
        if "ZernikePhase" in name:
            difference = np.abs(np.angle(np.exp(1j * (mine - theirs))))
        with np.errstate(invalid="ignore"):
            close = difference <= RTOL * np.abs(theirs) + ZERO * largest
        same = close | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        words = np.where(same, "", "unexplained").astype(object)
        for k in np.flatnonzero(~same):
            if np.isnan(mine[k]) and theirs[k] == 0:
                words[k] = "undefined"
            elif name.endswith("Orientation") and mine[k] == -theirs[k] and abs(mine[k]) in (45.0, 90.0):
                words[k] = "axis"
            elif difference[k] <= ROUNDING * largest or (
                size is not None and size[k] <= ROUNDING * np.nanmax(size)
            ):
                words[k] = "rounding"
            else:
                words[k] = self._reason(name, k, float(mine[k]), float(theirs[k]))
        return list(words)

    def _reason(self, name: str, k: int, mine: float, theirs: float) -> str:
        compartment, group, measure_name = name.split("_")[:3]
        if group == "RadialDistribution" and "Zernike" not in measure_name:
            if self._tied_centre(compartment)[k]:
                return "tied centre"
            channel, ring = name.split("_")[3:]
            again = self._rings_in_float32(compartment, k, self.channels.index(channel))
            value = again[measure_name][int(ring[0]) - 1]
            large = self._bases[compartment].area[k] >= LARGE and abs(mine - theirs) <= 0.01 * abs(theirs)
            same = abs(value - theirs) <= RTOL * abs(theirs)
            return "float32 sums" if large and same else "unexplained"
        if group == "Location" and measure_name == "MaxIntensity":
            values = self._values(compartment, k, self.channels.index(name.rsplit("_", 1)[1]))
            return "tied maximum" if (values == values.max()).sum() > 1 else "unexplained"
        if measure_name in ("Overlap", "K", "Manders", "RWC"):
            for channel in name.split("_")[-2:]:
                values = self._values(compartment, k, self.channels.index(channel))
                cut = CONFIG.colocalization_threshold / 100 * values.max()
                if (np.abs(values - cut) <= 1e-6 * cut).any():
                    return "at the threshold"
        return "unexplained"

    def _values(self, compartment: str, k: int, channel: int) -> np.ndarray:
        return self.field.pixels[channel][self.field.masks[compartment.lower()] == k + 1]

    def _rings_in_float32(self, compartment: str, k: int, channel: int) -> dict[str, np.ndarray]:
        """Return the radial distribution of one object over our rings as CellProfiler sums it."""
        base = self._bases[compartment]
        if compartment not in self._codes:
            squared = squared_distances(base)[1]
            self._codes[compartment] = radial._rings(
                base.rows, base.cols, base.start, base.box, squared, CONFIG.rings
            )
        own = slice(base.start[k], base.start[k + 1])
        code = self._codes[compartment][own].astype(np.int64)
        pixels = self.field.pixels[channel][base.rows[own], base.cols[own]].astype(np.float32)
        sums = np.zeros(8 * (CONFIG.rings + 1), np.float32)
        np.add.at(sums, code[code >= 0], pixels[code >= 0])
        by_ring = np.zeros(CONFIG.rings + 1, np.float32)
        np.add.at(by_ring, code[code >= 0] // 8, pixels[code >= 0])
        count = np.bincount(code[code >= 0], minlength=sums.size).reshape(-1, 8)
        fraction = by_ring / by_ring.sum()
        share = count.sum(axis=1) / count.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.ma.masked_array(sums.reshape(-1, 8) / count, count == 0)
            variation = means.std(axis=1) / means.mean(axis=1)
        mean = fraction / (share + np.finfo(float).eps)
        return {"FracAtD": fraction, "MeanFrac": mean, "RadialCV": np.ma.filled(variation, 0.0)}

    def _tied_centre(self, compartment: str) -> np.ndarray:
        if compartment not in self._ties:
            base = self._bases[compartment]
            distance = squared_distances(base)[1]
            bounds = zip(base.start[:-1], base.start[1:], strict=True)
            parts = [distance[a:b] for a, b in bounds]
            self._ties[compartment] = np.array([(part == part.max()).sum() > 1 for part in parts])
        return self._ties[compartment]


def table(field: BenchField, channels: Sequence[str], mine: Columns, theirs: Columns) -> pd.DataFrame:
    """Return a row per family: columns and values compared, how many agree, reasons of the rest."""
    judge = Judge(field, channels)
    rows: dict[str, Counter[str]] = {}
    for name, column in mine.items():
        if name not in theirs:
            continue
        size = mine[name.replace("ZernikePhase", "ZernikeMagnitude")] if "ZernikePhase" in name else None
        words = judge.compare(name, column, theirs[name], size)
        count = rows.setdefault(family(name), Counter())
        count.update(
            {
                "columns": 1,
                "columns agree": not any(words),
                "columns explained": "unexplained" not in words,
                "values": len(words),
                "values agree": words.count(""),
            }
        )
        count.update(word for word in words if word)
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna(0).astype(int).sort_index()
    wanted = ["columns", "columns agree", "columns explained", "values", "values agree", *REASONS]
    frame = frame.reindex(columns=wanted, fill_value=0)
    frame.loc["total"] = frame.sum()
    return frame.rename_axis("family")


def left_out(mine: Columns, theirs: Columns) -> str:
    """Return the columns that only one side has, by kind."""

    def kinds(names: Iterator[str]) -> str:
        grouped = Counter("_".join(name.split("_")[1:3]) for name in names)
        return ", ".join(f"{kind} {n}" for kind, n in sorted(grouped.items())) or "none"

    book = ("Image_",)
    missing = (n for n in theirs if n not in mine and not n.startswith(book) and "Number" not in n)
    return f"only ours: {kinds(n for n in mine if n not in theirs)}; only CellProfiler's: {kinds(missing)}"


def seconds_of_ours(field: BenchField, repeats: int = 3) -> float:
    """Return CPU seconds of one pass over the field, warm."""
    ids = np.arange(1, field.cells + 1, dtype=np.int32)
    spent = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        measure(field.pixels, field.masks, ids, CONFIG)
        spent.append(time.process_time() - begin)
    return statistics.median(spent[1:])


def seconds_of_cellprofiler(folder: Path) -> dict[str, float]:
    """Return CPU seconds per kind of module for the second image set."""
    image = pd.read_csv(folder / "Image.csv").set_index("ImageNumber").loc[2]
    spent: dict[str, float] = dict.fromkeys(MODULES.values(), 0.0)
    for name, value in image.items():
        if str(name).startswith("ExecutionTime_"):
            module = str(name).removeprefix("ExecutionTime_").lstrip("0123456789")
            if module in MODULES:
                spent[MODULES[module]] += float(value)
    return spent


def fields(names: Sequence[str], data: Path | None) -> Iterator[tuple[str, BenchField, tuple[str, ...]]]:
    """Yield name, field and channels; real fields need the data folder."""
    for name in names:
        if name == "synthetic":
            field = synthetic_field()
        elif data is None:
            print(f"{name}: no data folder (--data or WELLBENCH_REALDATA), left out")
            continue
        elif name == "nf1":
            field = nf1_field(data / "images_nf1_cellpainting")
        else:
            field = cloome_field(data / "images_cloome_example")
        yield name, field, CHANNELS[: len(field.pixels)]


def write_golden(folder: Path) -> None:
    """Write a field of four cells and two channels, and what CellProfiler measured of it, for the tests.

    ``field.tif`` holds the channels, then the masks of nuclei, cells, cytoplasm; ``cellprofiler.csv`` a row
    per feature and a column per object.
    """
    import tifffile

    field = synthetic_field(size=80, cells=4, channels=2, seed=3)
    with tempfile.TemporaryDirectory() as scratch:
        done = cellprofiler_pipeline.measure(
            field.pixels, field.masks, CHANNELS[:2], Path(scratch), scales=GOLDEN_SCALES
        )
        theirs = read(done.out)
    config = replace(CONFIG, texture_scales=GOLDEN_SCALES)
    rows: dict[str, dict[str, float]] = {}
    for name in ours(field, CHANNELS[:2], config):
        if name in theirs:
            compartment, feature = name.split("_", 1)
            for k, value in enumerate(theirs[name], 1):
                rows.setdefault(feature, {})[f"{compartment}_{k}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    planes = [
        np.rint(field.pixels * 65535),
        *(field.masks[n][None] for n in ("nuclei", "cells", "cytoplasm")),
    ]
    tifffile.imwrite(folder / "field.tif", np.concatenate(planes).astype(np.uint16), compression="zlib")
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("feature")
    frame.to_csv(folder / "cellprofiler.csv", float_format="%.8g", lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("WELLBENCH_REALDATA"))
    parser.add_argument("--fields", nargs="+", default=["synthetic", "nf1", "cloome"])
    parser.add_argument("--csv", type=Path, help="write all tables as one CSV file")
    parser.add_argument(
        "--keep", type=Path, help="keep CellProfiler's files here, and use those that are there"
    )
    parser.add_argument("--golden", type=Path, help="write the tests' golden files here, and nothing else")
    options = parser.parse_args()
    if options.golden:
        write_golden(options.golden)
        return
    tables, home = [], options.keep
    with tempfile.TemporaryDirectory() as scratch:
        for name, field, channels in fields(options.fields, options.data and Path(options.data)):
            folder = (home or Path(scratch)) / name
            if not (folder / "out" / "Image.csv").is_file():
                cellprofiler_pipeline.measure(field.pixels, field.masks, channels, folder, sets=2)
            mine, theirs = ours(field, channels), read(folder / "out")
            found = table(field, channels, mine, theirs)
            print(f"\n{name}: {field.cells} cells, {len(channels)} channels")
            print(found.to_string())
            print(left_out(mine, theirs))
            cost, fast = seconds_of_cellprofiler(folder / "out"), seconds_of_ours(field)
            told = ", ".join(f"{kind} {s:.2f}" for kind, s in sorted(cost.items(), key=lambda i: -i[1]))
            total = sum(cost.values())
            print(f"CellProfiler {total:.1f} s ({told}); {field.cells / total:.2f} cells/s")
            print(f"ours {fast:.3f} s; {field.cells / fast:.1f} cells/s; {total / fast:.1f} times as fast")
            tables.append(found.reset_index().assign(field=name))
    if options.csv and tables:
        pd.concat(tables).set_index(["field", "family"]).to_csv(options.csv)


if __name__ == "__main__":
    main()
