"""Seconds per field of the preprocessing steps and segmentations, on simulated fields and public ones.

    OMP_NUM_THREADS=1 python -m benchmarks.imaging
    OMP_NUM_THREADS=1 python -m benchmarks.imaging --edge 2160 --data FOLDER

Then crops are cut from a small demo screen and read back shuffled, in wall-clock time.

Times are CPU seconds of one process, the shortest of ``--repeats``. The flat field is estimated once per
plate and channel; everything else is per field. With FOLDER (or WELLBENCH_REALDATA) holding
``images_nf1_cellpainting``, the segmentations also run on its five fields, and their F1 against the published
nuclei is printed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from bench.imaging import illumination, quality, segment, segment_watershed, standardise
from bench.imaging.readers import read_plane
from featurizers.base import Channel
from featurizers.synthetic import synthetic_fields

CHANNELS = 5


def field(edge: int) -> np.ndarray:
    """Return (5, edge, edge) 16-bit: synthetic cells side by side."""
    channels = [Channel(n, role="nucleus" if n == "DNA" else "") for n in ("DNA", "ER", "RNA", "AGP", "Mito")]
    tile = synthetic_fields(channels, [12])[0].pixels
    repeats = -(-edge // min(tile.shape[1:]))
    return np.tile(tile, (1, repeats, repeats))[:, :edge, :edge]


def seconds(call, repeats: int) -> float:
    best = np.inf
    for _ in range(repeats):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return best


def f1(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Return pairs with an intersection over union above 0.5, and the objects of each side."""
    overlap = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(overlap, (truth.ravel(), found.ravel()), 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    return int((overlap / union > 0.5)[1:, 1:].sum()), int(found.max()), int(truth.max())


def segmentations(border: str) -> dict:
    return {
        "otsu-log": lambda px: segment.otsu_log(px[0], px, segment.OtsuLog(border=border)),
        "otsu-watershed": lambda px: segment_watershed.otsu_watershed(
            px[0], px, segment_watershed.Watershed(border=border)
        ),
        "foreground": lambda px: segment.foreground(px[0], segment.Foreground()),
    }


def crops(repeats: int) -> None:
    """Cut the crops of a small demo screen, and read them shuffled from the page cache."""
    from bench.crops import CropCache, CropConfig, ensure
    from bench.datasets import load
    from bench.demo import make
    from bench.execute import Executor
    from bench.store import Store

    with tempfile.TemporaryDirectory() as folder:
        screen = load(make(Path(folder) / "screen", plates=1, compounds=12, doses=3, seed=1, processes=1))
        store = Store(Path(folder) / "store")
        config = CropConfig(size=96, border="pad")
        started = time.perf_counter()
        folders, _ = ensure(store, screen, config, Executor(0), lambda *_: None)
        spent = time.perf_counter() - started
        cache = CropCache(store, folders)
        nbytes = sum(array.nbytes for batch in cache.shuffled(64, 0) for array in batch)
        best = np.inf
        for seed in range(max(3, repeats)):
            started = time.perf_counter()
            for _ in cache.shuffled(64, seed):
                pass
            best = min(best, time.perf_counter() - started)
    print(f"crops: {len(cache)} of 5 x 96 x 96 in {nbytes / 2**20:.0f} MiB")
    print(f"  {'read, segmented, cut, committed':36s}{len(cache) / spent:8.0f} crops/s")
    print(f"  {'read shuffled, batches of 64':36s}{nbytes / best / 1e9:8.2f} GB/s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge", type=int, default=1080)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--data", default=os.environ.get("WELLBENCH_REALDATA", ""))
    asked = parser.parse_args()
    pixels = field(asked.edge)
    names = tuple("abcde")
    mean = pixels.astype(float)
    config = illumination.FlatField()
    flat = illumination.flat_field(mean, config)
    steps = {
        "flat field, estimate per channel": lambda: illumination.flat_field(mean[:1], config),
        "flat field, divide": lambda: illumination.correct(pixels, flat, "none", 65535.0),
        "quality": lambda: quality.measure(pixels, names, 65535.0),
        "standardise by field": lambda: standardise.standardise(pixels, standardise.moments([pixels])),
        **{name: lambda run=run: run(pixels) for name, run in segmentations("keep").items()},
    }
    print(f"{CHANNELS} x {asked.edge} x {asked.edge} 16-bit, CPU seconds")
    for name, call in steps.items():
        print(f"  {name:36s}{seconds(call, asked.repeats):8.2f}")
    crops(asked.repeats)
    nf1 = Path(asked.data) / "images_nf1_cellpainting"
    if not asked.data or not nf1.is_dir():
        return
    print("NF1, 5 fields of 904 x 1224: CPU seconds per field, F1 at IoU 0.5")
    images = sorted((nf1 / "Plate_2_images").glob("*DAPI*.tif"))
    for name, run in list(segmentations("drop").items())[:2]:
        hits = found = true = 0
        spent = 0.0
        for path in images:
            nuclei = read_plane(str(path), 0)
            truth = ndimage.label(
                read_plane(str(nf1 / "Plate_2_masks" / f"{path.stem}_MaskNuclei.tiff"), 0) > 0
            )[0]
            started = time.process_time()
            labels = run(nuclei[None]).masks["nuclei"]
            spent += time.process_time() - started
            counts = f1(truth, labels)
            hits, found, true = hits + counts[0], found + counts[1], true + counts[2]
        print(f"  {name:36s}{spent / len(images):8.2f}{2 * hits / (found + true):8.3f}")


if __name__ == "__main__":
    main()
