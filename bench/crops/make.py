"""Crops of a dataset's cells as parts of the store, one per plate.

``crops/dataset=…/key=…/plate=…/images=…/`` holds shards of raw float32 crops (``pixels-0000.bin``) and of
their masks (``inside-0000.bin``, one byte per pixel), ``cells.parquet`` with one row per crop, and
``failures.parquet`` with the fields that could not be read. Shards are cut by size alone, so the bytes are
the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bench.errors import UsageError
from featurizers.crops import Background, Border, MaskName, cut

if TYPE_CHECKING:
    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.execute import Executor
    from bench.store import Store

VERSION = 1
"""Raised when the same settings would give other crops; part of the key."""

CELLS, FAILURES = "cells.parquet", "failures.parquet"


@dataclass(frozen=True, slots=True)
class CropConfig:
    """How crops are cut, as in :func:`featurizers.crops.cut`, and the largest size of a shard in MiB."""

    size: int = 128
    scale: float = 1.0
    mask: MaskName = "outermost"
    background: Background = "keep"
    border: Border = "drop"
    shard_mb: int = 1024

    def __post_init__(self) -> None:
        for name, menu in (("mask", MaskName), ("background", Background), ("border", Border)):
            if getattr(self, name) not in get_args(menu):
                raise UsageError(f"{name} is one of {', '.join(get_args(menu))}, not {getattr(self, name)!r}")
        if self.size < 1 or self.scale <= 0 or self.shard_mb < 1:
            raise UsageError("size, scale and shard_mb must be positive")


def ensure(
    store: Store, dataset: Dataset, config: CropConfig, executor: Executor, tick: Ticker
) -> tuple[list[str], list[str]]:
    """Cut and commit the crops of every plate that the store lacks.

    Returns
    -------
    Folders in the store, in the plates' order, and one sentence for each thing that could not be done.
    """
    from bench import featurize
    from bench.execute import Unit
    from bench.imaging import plates as of_plates
    from bench.imaging import preprocessing_key
    from bench.store import digest, escape

    document = {
        "kind": "crops",
        "version": VERSION,
        "config": asdict(config),
        "preprocessing": preprocessing_key(dataset),
    }
    above = f"crops/dataset={escape(featurize.identity(dataset))}/key={digest(document)}"
    names = featurize.plates(dataset)
    with featurize.content_hashes(store) as content_hash:
        statistics, lost = of_plates.ensure(store, dataset, names, content_hash, executor)
        contents = {
            plate: digest(featurize.plate_content(dataset, plate, ("pixels", "objects"), content_hash))
            for plate in names
        }
    folders = {p: f"{above}/plate={escape(p)}/images={contents[p]}" for p in names if p not in lost}
    units = [
        Unit(
            p, cut_plate, (str(store.root), str(dataset.root), config, p, statistics.get(p), where, document)
        )
        for p, where in folders.items()
        if not store.has(where)
    ]
    sentences = [f"plate {plate}: {reason}" for plate, reason in lost.items()]
    for done, outcome in enumerate(executor.map(units), start=1):
        if outcome.reason is not None:
            sentences.append(f"plate {outcome.unit.name}: {outcome.reason}")
        tick("plates", done, len(units))
    there = [where for where in folders.values() if store.has(where)]
    return there, sentences + _failures(store, there)


def cut_plate(
    store: str,
    root: str,
    config: CropConfig,
    plate: str,
    statistics: str | None,
    where: str,
    document: dict[str, Any],
) -> None:
    """Cut the crops of one plate and commit them; the unit of work of :func:`ensure`."""
    from bench.datasets import load
    from bench.imaging import field_source, plates
    from bench.provenance import provenance
    from bench.store import Store, write_table

    dataset = load(Path(root))
    wells = dataset.wells[dataset.wells["Metadata_Plate"] == plate]
    failures: list[dict[str, str]] = []

    def failed(metadata: dict[str, Any], reason: str) -> None:
        place = {name: str(metadata[name]) for name in ("Metadata_Plate", "Metadata_Well", "Metadata_Site")}
        failures.append({**place, "reason": reason})

    of_plate = None if statistics is None else lambda _: plates.read(statistics)

    def write(folder: Path) -> None:
        import pandas as pd

        rows: list[dict[str, Any]] = []
        crop_bytes = len(dataset.channels) * config.size**2 * 4
        per_shard = max(1, (config.shard_mb << 20) // crop_bytes)
        for field in field_source(dataset, wells, ("pixels", "objects"), failed, statistics=of_plate):
            crops = cut(
                field,
                config.size,
                scale=config.scale,
                mask=config.mask,
                background=config.background,
                border=config.border,
            )
            centres = dict(zip(field.ids.tolist(), field.centres.tolist(), strict=True))
            for pixels, inside, number in zip(crops.pixels, crops.inside, crops.ids.tolist(), strict=True):
                shard, offset = divmod(len(rows), per_shard)
                for name, array in (("pixels", pixels), ("inside", inside)):
                    with (folder / f"{name}-{shard:04d}.bin").open("ab") as file:
                        file.write(array.tobytes())
                row, column = centres[number]
                rows.append(
                    {
                        **field.metadata,
                        "Metadata_ObjectNumber": number,
                        "centre_row": row,
                        "centre_column": column,
                        "shard": shard,
                        "offset": offset,
                    }
                )
        shape = {"channels": [c.name for c in dataset.channels], "size": config.size}
        write_table(folder / CELLS, pd.DataFrame(rows, columns=_COLUMNS), shape)
        write_table(folder / FAILURES, pd.DataFrame(failures, columns=_FAILED), {})

    Store(Path(store)).commit(where, write, {"key_document": document, "provenance": provenance()})


_PLACE = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
_COLUMNS = [*_PLACE, "Metadata_ObjectNumber", "centre_row", "centre_column", "shard", "offset"]
_FAILED = [*_PLACE, "reason"]


def _failures(store: Store, folders: Sequence[str]) -> list[str]:
    from bench.store import read_table

    found = []
    for folder in folders:
        table = read_table(store.path(folder) / FAILURES)
        for plate, well, site, reason in table[_FAILED].itertuples(index=False, name=None):
            found.append(f"plate {plate}, well {well}, site {site}: {reason}")
    return found
