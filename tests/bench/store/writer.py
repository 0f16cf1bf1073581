"""A process that is told to write a store, and can be killed while it does.

A line of standard input names a store and an order of plates; a forked child (so that imports are paid once)
writes them and its process id is printed. The line ``end`` waits for it and prints its exit status; until
then its id is its own, so that a late kill hits nobody else.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas as pd

from bench.store import PartKey, Store, digest, write_part, write_table

DOCUMENT = {"entrant": "noise"}


def write(root: Path, plates: list[str]) -> None:
    """Write one part per plate, with cells, then a table of scores."""
    store = Store(root)
    columns = [f"c{i}" for i in range(100)]
    for plate in plates:
        rng = np.random.default_rng(sum(plate.encode()))
        wells = pd.DataFrame({"Metadata_Well": [f"A{i:02d}" for i in range(24)], "n_cells": np.arange(24)})
        cells = pd.DataFrame({"Metadata_Well": np.repeat(wells["Metadata_Well"].to_numpy(), 10)})
        values = rng.normal(size=(24, 100)).astype(np.float32)
        cell_values = rng.normal(size=(240, 100)).astype(np.float32)
        extra = {"key_document": DOCUMENT, "provenance": {"process": os.getpid()}}
        part = PartKey("d", "noise", digest(DOCUMENT), plate)
        write_part(store, part, wells, values, columns, extra, cells=(cells, cell_values))
    frame = pd.DataFrame({"readout": [f"g{i}" for i in range(1000)], "skill": np.linspace(0, 1, 1000)})
    store.commit("scores/run=r", lambda folder: write_table(folder / "scores.parquet", frame, {}), {})


child = 0
for line in sys.stdin:
    if line == "end\n":
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    target, _, order = line.rstrip("\n").partition("\t")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            write(Path(target), order.split(","))
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    print(child, flush=True)
