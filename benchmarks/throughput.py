"""How fast networks embed and train: against a plain timm loop, and against the device's matrix product.

    python -m benchmarks.throughput [--device cpu] [--crops 16] [--batch 8] [--steps 3] [--out FILE]

**Embedding**, end to end from the crop cache on disk: reading, scaling, masking, network, rows on the host,
in passes of ``--batch`` crops of 5 channels; ViT-B/8 at 224 px (the encoder of ``mae:poster``) and ResNet18
at 128 px (the tiles of ``resnet18-triplet:paper``). Beside it timm's own network of the same kind in a bare
loop over tensors that lie in memory on the device, ready to use. Both alternate in one process; ``ratio`` is
the bare loop's best time over ours.

**Training** of ``mae`` with the poster's network and mask ratio: whole steps of the loop's own code (batch
from disk, scaling, turns, masking, forward, backward, Lion), in crops per second. ``utilisation`` is the
share of the device's matrix product rate, measured here in the same arithmetic, that the floating-point
operations of forward and backward (counted by torch) make up.

Time is the processor's with one thread on a CPU, so that other work on the machine hardly counts, and the
clock's on a GPU. Rows are appended to ``--out``, with the kind of the machine.
"""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.crops import CropCache, CropConfig, ensure
from bench.datasets import Dataset, load
from bench.demo import make
from bench.execute import Executor
from bench.imaging import field_source
from bench.store import Store
from featurizers.base import FitContext
from featurizers.mae.config import PRESETS as MAE
from featurizers.mae.embedding import rows_of
from featurizers.mae.model import MaskedAutoencoder
from featurizers.mae.train import Batches, collect_cells, gradient, recipe
from featurizers.passes import in_memory
from featurizers.resnet18_triplet.config import PRESETS as TRIPLET
from featurizers.resnet18_triplet.embedding import tile_features
from featurizers.resnet18_triplet.model import BagNetwork, channels_last
from featurizers.training.loop import Loop
from featurizers.training.schedules import stream
from featurizers.vision import prepare_timm

prepare_timm()
import timm  # noqa: E402

COLUMNS = ["what", "machine", "torch", "arithmetic", "batch", "crops_per_s", "plain_crops_per_s", "ratio"]
COLUMNS += ["utilisation", "matrix_tflop_per_s"]
CHANNELS = 5


def main() -> None:
    """Print a CSV row per measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in {"crops": 16, "batch": 8, "steps": 3, "times": 3, "training-batch": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = screen(Path(folder), given.crops)
        rows = [
            embedding("embed vit-b8", vit(given), Path(folder), dataset, given),
            embedding("embed resnet18", resnet(given), Path(folder), dataset, given),
            training(Path(folder), dataset, given),
        ]
    common = {"machine": machine(given.device), "torch": torch.__version__.partition("+")[0]}
    if given.out is None:
        write(sys.stdout, [row | common for row in rows], header=True)
        return
    header = not given.out.exists()
    with given.out.open("a", newline="", encoding="utf-8") as file:
        write(file, [row | common for row in rows], header=header)


def write(file: TextIO, rows: list[dict[str, Any]], *, header: bool) -> None:
    """Write rows as CSV."""
    table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if header:
        table.writeheader()
    table.writerows(rows)


def screen(folder: Path, crops: int) -> Dataset:
    """Return a small demo screen with about so many cells."""
    dataset = load(make(folder / "demo", plates=1, compounds=12, doses=1))
    wells = dataset.wells.head(max(1, -(-crops // 8)))
    images = dataset.images
    assert images is not None
    return replace(dataset, wells=wells, images=images[images["Metadata_Well"].isin(wells["Metadata_Well"])])


Network = tuple[int, Callable[..., torch.Tensor], torch.nn.Module]


def vit(given: argparse.Namespace) -> Network:
    """Return crop edge, our map from crops to rows, and timm's network."""
    config = replace(MAE["poster"], standardise="crop-inside-mask")
    model = MaskedAutoencoder(config, CHANNELS, stream(0, "weights", 0)).eval().to(given.device)
    plain = timm.create_model("vit_base_patch8_224", in_chans=CHANNELS, num_classes=0, global_pool="avg")
    return config.crop, rows_of(model.encoder, config, None), plain.eval().to(given.device)


def resnet(given: argparse.Namespace) -> Network:
    """Return the same of ResNet18; the bare loop is given the faster memory layout too."""
    config = TRIPLET["paper"]
    network = channels_last(BagNetwork(config, CHANNELS, 0).eval().to(given.device))
    plain: Any = timm.create_model("resnet18", in_chans=CHANNELS, num_classes=0).eval().to(given.device)
    plain = plain.to(memory_format=torch.channels_last)
    return config.crop, tile_features(network, config), plain


def embedding(
    what: str, network: Network, folder: Path, dataset: Dataset, given: argparse.Namespace
) -> dict[str, Any]:
    """Measure ours from the cache and the bare loop from memory, alternating."""
    edge, ours, plain = network
    store = Store(folder / f"store-{edge}")
    with Executor(0) as executor:
        folders, _ = ensure(store, dataset, CropConfig(edge, border="pad"), executor, lambda *_: None)
    cache = CropCache(store, folders)
    count = min(given.crops, len(cache)) // given.batch * given.batch
    order = np.random.default_rng(0).permutation(len(cache))[:count]
    ready = torch.from_numpy(cache.take(order)[0]).to(given.device)
    ready = (ready - ready.mean()) / ready.std()
    if what.endswith("resnet18"):
        ready = ready.contiguous(memory_format=torch.channels_last)

    def from_cache() -> None:
        for some in pieces(order, given.batch):
            pixels, inside = (torch.from_numpy(own).to(given.device) for own in cache.take(some))
            in_memory(ours, pixels, inside).float().cpu().numpy()

    def from_memory() -> None:
        with torch.inference_mode():
            for some in ready.split(given.batch):
                plain(some).float().cpu().numpy()

    seconds = alternating([from_cache, from_memory], given)
    speeds = [count / s for s in seconds]
    return {
        "what": what,
        "arithmetic": "float32",
        "batch": given.batch,
        "crops_per_s": f"{speeds[0]:.3g}",
        "plain_crops_per_s": f"{speeds[1]:.3g}",
        "ratio": f"{speeds[0] / speeds[1]:.2f}",
    }


def training(folder: Path, dataset: Dataset, given: argparse.Namespace) -> dict[str, Any]:
    """Measure steps of ``mae`` with the poster's network at a batch that the device takes."""
    precision = "float32" if given.device == "cpu" else "bfloat16"
    config = replace(
        MAE["poster"],
        batch=given.training_batch,
        micro_batch=0,
        batch_fields=0,
        precision=precision,
        steps=1 + given.steps * given.times,
    )
    work = folder / "training"
    work.mkdir()
    context = FitContext(work, device=given.device)
    fields = field_source(dataset, None, ("pixels", "objects"))
    model = MaskedAutoencoder(config, CHANNELS, stream(0, "weights", 0)).to(given.device)
    loop = Loop(model, recipe(config), context, {})
    crops = collect_cells(fields, config, context, loop)
    batches = Batches(config, 0, crops, crops.statistics(), torch.device(given.device))

    def step(number: int) -> Any:
        return gradient(model, config, batches, number)

    with FlopCounterMode(display=False) as counter:
        step(0)
    model.zero_grad(set_to_none=True)
    operations = counter.get_total_flops()

    def some_steps() -> None:
        for _ in range(given.steps):
            loop._one(step, None, None)  # a step of the loop without its checkpoints

    (seconds,) = alternating([some_steps], given)
    rate = matrix_rate(given, torch.float32 if precision == "float32" else torch.bfloat16)
    return {
        "what": "train mae vit-b8, mask 0.9",
        "arithmetic": precision,
        "batch": config.batch,
        "crops_per_s": f"{given.steps * config.batch / seconds:.3g}",
        "utilisation": f"{given.steps * operations / seconds / rate:.2f}",
        "matrix_tflop_per_s": f"{rate / 1e12:.3g}",
    }


def matrix_rate(given: argparse.Namespace, dtype: torch.dtype) -> float:
    """Return the device's floating-point operations per second in a large square matrix product."""
    edge = 2048 if given.device == "cpu" else 8192
    a, b = (torch.randn(edge, edge, device=given.device).to(dtype) for _ in range(2))
    (seconds,) = alternating([lambda: torch.mm(a, b)], given)
    return 2 * edge**3 / seconds


def alternating(works: list[Callable[[], object]], given: argparse.Namespace) -> list[float]:
    """Return the best time of each after one round of warming up, in turns."""
    best = [float("inf")] * len(works)
    for turn in range(given.times + 1):
        for k, work in enumerate(works):
            started = now(given)
            work()
            if turn:
                best[k] = min(best[k], now(given) - started)
    return best


def now(given: argparse.Namespace) -> float:
    """Return processor seconds of this process on a CPU, seconds of the clock on a GPU."""
    if given.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def pieces(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut an order into batches."""
    return (order[start : start + size] for start in range(0, len(order), size))


def machine(device: str) -> str:
    """Return the kind of the device."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].partition(': ')[2] if names else platform.processor()}, one thread"


if __name__ == "__main__":
    main()
