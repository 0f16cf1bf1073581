"""Reader throughput: our readers against plain tifffile, Pillow and zarr reading the same bytes.

``python benchmarks/readers.py`` writes files of each format to a temporary folder, reads every plane through
``bench.imaging.readers.read_plane`` and through the library alone, in turn, and prints MB of pixels per
second of the best of some rounds, and their ratio (1 = our layer costs nothing). Files come from page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image

from bench.imaging.readers import read_plane

Case = tuple[list[tuple[str, int]], Callable[[str, int], np.ndarray]]


def pixels(planes: int, side: int) -> np.ndarray:
    """Return (planes, side, side) uint16 that compress about as microscope images do."""
    noise = np.random.default_rng(0).poisson(200.0, (planes, side, side))
    slope = np.linspace(0, 2000, side)
    return (noise + slope + slope[:, None]).astype(np.uint16)


def cases(folder: Path, stack: np.ndarray) -> dict[str, Case]:
    """Write every format; return by its name the planes to read and how its library alone reads one."""
    n, side = len(stack), stack.shape[-1]
    out: dict[str, Case] = {}
    for name, options in {
        "tiff": {},
        "tiff lzw": {"compression": "lzw"},
        "tiff zlib": {"compression": "zlib"},
    }.items():
        places = []
        for i, plane in enumerate(stack):
            path = folder / f"{name.replace(' ', '-')}-{i}.tif"
            tifffile.imwrite(path, plane, **options)
            places.append((str(path), 0))
        out[name] = places, lambda uri, _: tifffile.imread(uri)
    path = folder / "pages.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    out["tiff, pages"] = [(str(path), i) for i in range(n)], lambda uri, i: tifffile.imread(uri, key=i)
    path = folder / "stack.ome.tif"
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX"})
    out["ome-tiff"] = [(str(path), i) for i in range(n)], lambda uri, i: tifffile.imread(uri, key=i)
    places = []
    for i, plane in enumerate(stack):
        path = folder / f"image-{i}.png"
        Image.fromarray(plane).save(path)
        places.append((str(path), 0))
    out["png"] = places, lambda uri, _: np.asarray(Image.open(uri))
    for version in (2, 3):
        uri = str(folder / f"v{version}.zarr" / "0")
        chunks = (1, side // 2, side // 2)
        array = zarr.create_array(uri, shape=stack.shape, dtype="uint16", chunks=chunks, zarr_format=version)
        array[:] = stack
        out[f"zarr {version}"] = (
            [(uri, i) for i in range(n)],
            lambda uri, i: np.asarray(zarr.open_array(uri, mode="r")[i]),
        )
    return out


def seconds(read: Callable[[str, int], np.ndarray], places: list[tuple[str, int]]) -> float:
    """Return the time to read all planes once."""
    start = time.perf_counter()
    for uri, plane in places:
        read(uri, plane)
    return time.perf_counter() - start


def main() -> None:
    """Write, check that both ways give the same pixels, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=8)
    parser.add_argument("--side", type=int, default=1080)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    stack = pixels(options.planes, options.side)
    print(f"{options.planes} planes of {options.side} x {options.side} uint16, best of {options.rounds}")
    print(f"{'format':<12}{'ours MB/s':>12}{'plain MB/s':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (places, plain) in cases(Path(folder), stack).items():
            for (uri, plane), expected in zip(places, stack, strict=True):
                np.testing.assert_array_equal(read_plane(uri, plane), expected)
                np.testing.assert_array_equal(plain(uri, plane), expected)
            times = [(seconds(read_plane, places), seconds(plain, places)) for _ in range(options.rounds)]
            ours, theirs = (stack.nbytes / 1e6 / min(t) for t in zip(*times, strict=True))
            print(f"{name:<12}{ours:>12.0f}{theirs:>12.0f}{ours / theirs:>8.2f}")


if __name__ == "__main__":
    main()
