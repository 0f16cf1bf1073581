"""One training in several processes: what ``torchrun`` is told, and what each process does.

The job is a folder inside the training's work folder: ``job.json`` and the tables of wells. Every process
builds the featurizer again and trains its share of each batch; the first tells of its progress in lines of
JSON and writes the weights to ``saved``. Checkpoints are those of a training in one process, so that either
may go on from the other's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.execute import THREAD_VARIABLES

if TYPE_CHECKING:
    from bench.datasets import Dataset
    from bench.entrants import Spec
    from bench.weights import Training
    from featurizers.base import Progress

SAVED = "saved"
_TABLES = ("wells", "table")
_VALUES = ("seed", "threads", "device")


def fit(
    spec: Spec,
    dataset: Dataset,
    store: Path,
    training: Training,
    work: Path,
    logs: Path | None,
    report: Callable[[Progress], None],
) -> Path:
    """Train in ``training.processes`` processes; return the folder that holds the weights.

    Raises
    ------
    BenchError
        When there are fewer GPUs than processes, or with the reason that a process gave.
    """
    from featurizers.base import Progress

    _check_devices(training)
    job = work / "job"
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir()
    for name in _TABLES:
        getattr(training, name).to_parquet(job / f"{name}.parquet")
    told = {name: getattr(training, name) for name in _VALUES} | {
        "spec": dataclasses.asdict(spec),
        "dataset": str(dataset.root),
        "store": str(store),
        "work": str(work),
        "logs": None if logs is None else str(logs),
    }
    (job / "job.json").write_text(json.dumps(told), encoding="utf-8")
    threads = str(max(1, training.threads // training.processes))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1"]
    command += [f"--nproc-per-node={training.processes}", "-m", "bench.torchrun", str(job)]
    reason = ""
    with (
        (job / "stderr").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, threads),
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said = _said(line)
                reason = said.pop("error", reason)
                if said:
                    report(Progress(**said))
        finally:
            if process.poll() is None:
                process.terminate()  # torchrun ends what it started
        code = process.wait()
        errors.seek(0)
        last = [text for text in errors.read().splitlines() if text.strip()][-5:]
    if code:
        raise BenchError(reason or f"torchrun ended with status {code}: {' | '.join(last)}")
    return job / SAVED


def _check_devices(training: Training) -> None:
    import torch

    if training.device == "cpu":
        return
    found = torch.cuda.device_count()
    if training.device != "cuda" or found < training.processes:
        raise BenchError(
            f"training in {training.processes} processes needs --device cuda and a GPU for each; device is "
            f"{training.device} and there are {found}: lower --training-processes"
        )


def _said(line: str) -> dict[str, Any]:
    """Return the JSON object on a line, empty for any other line."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and ({"stage", "error"} & value.keys()) else {}


def main(job: Path) -> int:
    """Be one process of a training; return the exit status."""
    import pandas as pd
    import torch
    import torch.distributed

    from bench.datasets import load
    from bench.entrants import Spec
    from bench.imaging import field_source
    from bench.store import Store
    from bench.weights import statistics
    from featurizers.base import FitContext
    from featurizers.training import parallel

    told = json.loads((job / "job.json").read_text(encoding="utf-8"))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    spec = told["spec"]
    overrides = tuple((key, value) for key, value in spec.pop("overrides"))
    featurizer = Spec(**spec | {"overrides": overrides, "plugins": tuple(spec["plugins"])}).build()
    wells, table = (pd.read_parquet(job / f"{name}.parquet") for name in _TABLES)

    def report(progress: Progress) -> None:
        _say(dataclasses.asdict(progress))

    logs = None if told["logs"] is None else Path(told["logs"])
    context = FitContext(Path(told["work"]), told["seed"], told["device"], report, logs)
    try:
        dataset = load(Path(told["dataset"]))
        of_plate = statistics(Store(Path(told["store"])), dataset, sorted(set(wells["Metadata_Plate"])))
        fields = field_source(dataset, wells, featurizer.card.needs, statistics=of_plate)
        featurizer.fit(fields, table, context)
        if parallel.rank() == 0:
            (job / SAVED).mkdir()
            featurizer.save(job / SAVED)
    except (ValueError, BenchError) as error:
        _say({"error": str(error)})
        return 1
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201  # the line is for the process that started this one


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
