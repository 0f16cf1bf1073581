"""Cost per cell of CellProfiler's measurements, by family: this package's kernels against cp-measure.

Run from the repository:
``OMP_NUM_THREADS=1 python -m benchmarks.handcrafted [--data FOLDER] [--fields synthetic cloome nf1]``.
Both sides measure the same pixels and masks in one process, nuclei, cells and cytoplasm, all channels and
pairs, with cp-measure's default settings (granularity subsampled to 1/4, neighbours by expansion) and
CellProfiler's quantiles. Neighbours by expansion differ: cp-measure expands the objects and not their
neighbours, CellProfiler and this package expand both. Times are CPU seconds of this one process, so a busy
machine distorts them little: ours warm (compiled), the median of ``--repeats`` runs, cp-measure once. Each
column is compared too: equal within rtol 1e-6 plus 1e-9 of the column's largest magnitude.

FOLDER (or WELLBENCH_REALDATA) holds ``images_cloome_example`` and ``images_nf1_cellpainting``; without it
only the synthetic field runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from scipy import ndimage

from featurizers.cellprofiler import (
    colocalization,
    costes,
    distance,
    granularity,
    hull,
    intensities,
    neighbors,
    objects,
    radial,
    ranks,
    sizeshape,
    texture,
    vocabulary,
    zernike,
)

CP_GRANULARITY = granularity.GranularityConfig(subsample=0.25, background_subsample=0.25)


@dataclass
class BenchField:
    """Pixels (C, H, W) in [0, 1] and label images without gaps by compartment."""

    pixels: np.ndarray
    masks: dict[str, np.ndarray]

    @property
    def cells(self) -> int:
        return int(self.masks["cells"].max())


def cytoplasm_of(cells: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    return np.where(nuclei > 0, 0, cells)


def without_gaps(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: objects.find_objects(mask).labels for name, mask in masks.items()}


def synthetic_field(size: int = 512, cells: int = 57, channels: int = 5, seed: int = 0) -> BenchField:
    """Lobed, touching cells on a jittered grid with correlated texture, on the 16-bit grid."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    side = int(np.ceil(np.sqrt(cells)))
    step = size / side
    body = np.zeros((size, size), np.int32)
    nuclei = np.zeros_like(body)
    nearest = np.full((size, size), np.inf)
    for k in range(cells):
        row, col = (np.array(divmod(k, side)) + 0.5) * step + rng.normal(0, 0.12 * step, 2)
        major, minor, turn = (
            rng.uniform(0.4, 0.6) * step,
            rng.uniform(0.35, 0.5) * step,
            rng.uniform(0, np.pi),
        )
        u = (y - row) * np.cos(turn) + (x - col) * np.sin(turn)
        v = (x - col) * np.cos(turn) - (y - row) * np.sin(turn)
        radius = np.hypot(u / major, v / minor) * (
            1 + 0.12 * np.sin(3 * np.arctan2(v, u) + rng.uniform(0, 6))
        )
        inside = (radius < 1) & (radius < nearest)
        body[inside] = k + 1
        nearest[inside] = radius[inside]
        nuclei[radius < 0.45] = k + 1
    nuclei[nuclei != body] = 0
    shared = ndimage.gaussian_filter(rng.normal(size=(size, size)), 2.0)
    planes = []
    for c in range(channels):
        own = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.0 + 0.5 * c)
        grain = shared / shared.std() + own / own.std()
        base = np.where(nuclei > 0, 0.3 if c == 0 else 0.18, np.where(body > 0, 0.12, 0.02))
        plane = ndimage.gaussian_filter(base, 1.0) * (1 + 0.15 * grain) + rng.normal(0, 0.003, body.shape)
        planes.append(np.rint(np.clip(plane, 0, 1) * 65535) / 65535)
    return BenchField(
        np.stack(planes),
        without_gaps({"nuclei": nuclei, "cells": body, "cytoplasm": cytoplasm_of(body, nuclei)}),
    )


def cloome_field(folder: Path) -> BenchField:
    """The 5-channel field; nuclei by Otsu and watershed on Hoechst, cells by watershed on the RNA stain."""
    import tifffile
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    names = ("Hoechst", "ERSyto", "ERSytoBleed", "Ph_golgi", "Mito")
    pixels = np.stack([tifffile.imread(folder / f"{name}.tif") for name in names]) / 65535.0
    smooth = ndimage.gaussian_filter(pixels[0], 1.5)
    bright = ndimage.binary_opening(smooth > threshold_otsu(smooth), iterations=2)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(bright), 1.0)
    peaks = peak_local_max(depth, min_distance=6, labels=ndimage.label(bright)[0])
    seeds = np.zeros(bright.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    nuclei = watershed(-depth, seeds, mask=bright).astype(np.int32)
    body = ndimage.gaussian_filter(pixels[2], 2.0)
    cells = watershed(-body, nuclei, mask=(body > threshold_otsu(body)) | (nuclei > 0)).astype(np.int32)
    cytoplasm = cytoplasm_of(cells, nuclei)
    return BenchField(pixels, without_gaps({"nuclei": nuclei, "cells": cells, "cytoplasm": cytoplasm}))


def nf1_field(folder: Path) -> BenchField:
    """Field D6 with the authors' masks: 17 large cells, 3 channels."""
    import tifffile

    names = ("1_2_DAPI", "2_2_GFP", "3_2_RFP")
    planes = [tifffile.imread(folder / "Plate_2_images" / f"D6_01_{name}_001.tif") for name in names]
    files = {"nuclei": "1_2_DAPI_001_MaskNuclei", "cells": "3_2_RFP_001_MaskCells"}
    files["cytoplasm"] = "3_2_RFP_001_MaskCytoplasm"
    masks = {
        key: ndimage.label(tifffile.imread(folder / "Plate_2_masks" / f"D6_01_{name}.tiff"))[0]
        for key, name in files.items()
    }
    return BenchField(np.stack(planes) / 65535.0, without_gaps(masks))


Columns = dict[str, np.ndarray]


def ours(field: BenchField) -> tuple[dict[str, float], dict[str, Columns]]:
    """Measure everything once; return seconds and columns (named as cp-measure names them) per family."""
    seconds: dict[str, float] = {}
    found: dict[str, Columns] = {}
    channels = range(len(field.pixels))

    def timed(family, function):
        begin = time.process_time()
        result = function()
        seconds[family] = seconds.get(family, 0.0) + time.process_time() - begin
        return result

    def prepare(mask):
        base = objects.find_objects(mask)
        values = objects.gather(field.pixels, base)
        return base, values, ranks.sort_by_intensity(base, values), distance.squared_distances(base)

    prepared = {name: timed("preparation", lambda m=mask: prepare(m)) for name, mask in field.masks.items()}
    bases = [entry[0] for entry in prepared.values()]
    spectra = timed(
        "granularity", lambda: granularity.measure_granularity(bases, field.pixels, CP_GRANULARITY)
    )
    for spectrum, name in zip(spectra, field.masks, strict=True):
        for c in channels:
            for n in range(spectrum.shape[2]):
                found.setdefault("granularity", {})[f"{name} {c} Granularity_{n + 1}"] = spectrum[:, c, n]
    pairs = list(permutations(channels, 2))
    for name, (base, values, (order, rank), (bounded, open_ended)) in prepared.items():

        def put(family, label, value, name=name):
            found.setdefault(family, {})[f"{name} {label}"] = value

        haralick = timed("texture", lambda b=base, v=values: texture.measure_texture(b, v))
        for c in channels:
            for s, scale in enumerate((3, 5, 10)):
                for d in range(4):
                    for f, feature in enumerate(vocabulary.HARALICK):
                        put("texture", f"{c} {feature}_{scale}_{d:02d}_256", haralick[:, c, s, d, f])

        rings = timed(
            "radial distribution",
            lambda b=base, v=values, q=open_ended: radial.measure_radial_distribution(b, v, q),
        )
        for c in channels:
            for f, feature in enumerate(radial.FEATURES):
                for r in range(4):
                    label = f"{c} RadialDistribution_{feature}_{r + 1}of4"
                    put("radial distribution", label, rings[:, c, f, r])

        outline = timed("Zernike", lambda b=base: hull.convex_hulls(b))
        shape, moments = timed(
            "Zernike",
            lambda b=base, v=values, o=outline: zernike.measure_zernike(b, v, hull.enclosing_circles(*o)),
        )
        for i, (n, m) in enumerate(zernike.ORDERS):
            put("Zernike", f"Zernike_{n}_{m}", shape[:, i])
            for c in channels:
                put("Zernike", f"{c} RadialDistribution_ZernikeMagnitude_{n}_{m}", moments[:, c, 0, i])
                put("Zernike", f"{c} RadialDistribution_ZernikePhase_{n}_{m}", moments[:, c, 1, i])

        intensity = timed(
            "intensity, correlation",
            lambda b=base, v=values, o=order: intensities.measure_intensity(b, v, o),
        )
        for c in channels:
            for f, feature in enumerate(intensities.FEATURES):
                put("intensity, correlation", f"{c} Intensity_{feature}", intensity[:, c, f])
            for f, feature in enumerate(intensities.LOCATIONS, len(intensities.FEATURES)):
                put("intensity, correlation", f"{c} Location_{feature}", intensity[:, c, f])

        both = timed(
            "intensity, correlation",
            lambda b=base, v=values, r=rank: colocalization.measure_colocalization(b, v, r),
        )
        for a, b in pairs:
            put("intensity, correlation", f"{a} {b} Correlation_Pearson", both.correlation[:, a, b])
            put("intensity, correlation", f"{a} {b} Correlation_Slope", both.slope[:, a, b])
        for a, b in combinations(channels, 2):
            for side, (i, j) in enumerate(((a, b), (b, a))):
                put(
                    "intensity, correlation", f"{a} {b} Correlation_Manders_{side + 1}", both.manders[:, i, j]
                )
                put("intensity, correlation", f"{a} {b} Correlation_RWC_{side + 1}", both.rwc[:, i, j])

        automatic = timed(
            "Costes",
            lambda b=base, v=values: costes.measure_costes(
                b, v, pairs, costes.object_thresholds(b, v, pairs)
            ),
        )
        for j, (a, b) in enumerate(pairs):
            for side in range(2):
                put("Costes", f"{a} {b} Correlation_Costes_{side + 1}", automatic[:, j, side])

        sizes = timed(
            "size, shape, Feret",
            lambda b=base, q=bounded, o=outline: sizeshape.measure_shape(b, q, o),
        )
        for feature, value in sizes.items():
            put("size, shape, Feret", feature, value)

        near = timed("neighbours", lambda b=base: neighbors.measure_neighbors(b))
        for f, feature in enumerate(neighbors.FEATURES):
            put("neighbours", f"Neighbors_{feature}_Expanded", near[:, f])
    return seconds, found


def theirs(field: BenchField) -> tuple[dict[str, float], dict[str, Columns]]:
    """The same with cp-measure's default backend."""
    from cp_measure.bulk import get_core_measurements, get_correlation_measurements
    from cp_measure.multimask.measureobjectneighbors import measureobjectneighbors

    core = get_core_measurements(legacy=True, sanitize=False)
    pair = get_correlation_measurements(sanitize=False)
    seconds: dict[str, float] = {}
    found: dict[str, Columns] = {}
    channels = range(len(field.pixels))

    def timed(family, prefix, function, *args, **settings):
        begin = time.process_time()
        result = function(*args, **settings)
        seconds[family] = seconds.get(family, 0.0) + time.process_time() - begin
        columns = {f"{prefix} {key}": np.asarray(value, float) for key, value in result.items()}
        found.setdefault(family, {}).update(columns)

    for name, mask in field.masks.items():
        timed("size, shape, Feret", name, core["sizeshape"], mask, None)
        timed("size, shape, Feret", name, core["feret"], mask, None)
        timed("Zernike", name, core["zernike"], mask, None)
        timed("neighbours", name, measureobjectneighbors, mask, mask)
        for c in channels:
            image, prefix = field.pixels[c], f"{name} {c}"
            timed("intensity, correlation", prefix, core["intensity"], mask, image)
            for scale in (3, 5, 10):
                timed("texture", prefix, core["texture"], mask, image, scale=scale)
            timed("granularity", prefix, core["granularity"], mask, image)
            timed("radial distribution", prefix, core["radial_distribution"], mask, image)
            timed("Zernike", prefix, core["radial_zernikes"], mask, image)
        for a, b in permutations(channels, 2):
            two, prefix = (field.pixels[a], field.pixels[b], mask), f"{name} {a} {b}"
            timed("intensity, correlation", prefix, pair["pearson"], *two)
            timed("Costes", prefix, pair["costes"], *two, scale_max=65535)
            if a < b:
                timed("intensity, correlation", prefix, pair["manders_fold"], *two)
                timed("intensity, correlation", prefix, pair["rwc"], *two)
    return seconds, found


def differing(mine: Columns, other: Columns) -> list[str]:
    """Return the columns of ``other`` that are not equal within the tolerance."""
    out = []
    for name, expected in other.items():
        if name.endswith("_Z"):
            continue  # always 0 in two dimensions
        if name not in mine:
            out.append(name)
            continue
        value = mine[name]
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if name.endswith(("CentralMoment_0_1", "CentralMoment_1_0")):
            scale = 1e3  # 0 but for rounding
        if "InfoMeas2" in name:
            scale = 100.0  # the square root of a residue: 1e-7 where 0 is meant
        if "ZernikePhase" in name:  # on the circle, and only where the moment is more than rounding
            size = other[name.replace("Phase", "Magnitude")]
            mean = other[name.rsplit("Zernike", 1)[0] + "ZernikeMagnitude_0_0"]
            value = np.where(size > 1e-9 * mean, np.angle(np.exp(1j * (value - expected))), 0.0)
            expected = np.zeros_like(expected)
            scale = np.pi
        if not np.allclose(value, expected, rtol=1e-6, atol=1e-9 * scale + 1e-12, equal_nan=True):
            out.append(name)
    return out


def report(title: str, field: BenchField, repeats: int, *, compare: bool) -> None:
    """Print the table of one field."""
    area = [int((mask > 0).sum() / max(mask.max(), 1)) for mask in field.masks.values()]
    areas = dict(zip(field.masks, area, strict=True))
    print(f"\n{title}: {field.cells} cells, {len(field.pixels)} channels, mean areas {areas}")
    ours(field)  # compile
    runs = [ours(field) for _ in range(repeats)]
    fast = {family: statistics.median(run[0][family] for run in runs) for family in runs[0][0]}
    slow, expected = theirs(field) if compare else ({}, {})
    print(f"{'family':24s}{'cp-measure':>12s}{'ours':>10s}{'ratio':>8s}   columns equal  (ms per cell)")
    per_cell = 1e3 / field.cells
    for family, seconds in sorted(fast.items(), key=lambda item: -slow.get(item[0], 0.0)):
        line = f"{family:24s}{slow.get(family, 0.0) * per_cell:12.3f}{seconds * per_cell:10.3f}"
        if family in slow:
            wrong = differing(runs[0][1][family], expected[family])
            total = sum(not name.endswith("_Z") for name in expected[family])
            line += f"{slow[family] / seconds:8.1f}   {total - len(wrong)} of {total}  {', '.join(wrong[:3])}"
        print(line)
    total, other = sum(fast.values()), sum(slow.values())
    print(f"{'total':24s}{other * per_cell:12.3f}{total * per_cell:10.3f}{other / total:8.1f}")
    rates = [field.cells / seconds if seconds else float("nan") for seconds in (other, total)]
    print(f"{'cells per second':24s}{rates[0]:12.2f}{rates[1]:10.1f}")
    if compare:
        total, other = total - fast["Costes"], other - slow["Costes"]
        print(f"{'without Costes':24s}{other * per_cell:12.3f}{total * per_cell:10.3f}{other / total:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("WELLBENCH_REALDATA"))
    parser.add_argument("--fields", nargs="+", default=["synthetic", "cloome", "nf1"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true", help="skip cp-measure")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    for name in options.fields:
        if name == "synthetic":
            field = synthetic_field()
        elif options.data is None:
            print(f"\n{name}: no data folder (--data or WELLBENCH_REALDATA), left out")
            continue
        elif name == "cloome":
            field = cloome_field(Path(options.data) / "images_cloome_example")
        else:
            field = nf1_field(Path(options.data) / "images_nf1_cellpainting")
        report(name, field, options.repeats, compare=not options.only_ours)


if __name__ == "__main__":
    main()
