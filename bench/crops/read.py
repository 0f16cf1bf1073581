"""Reading cut crops: memory-mapped shards, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.crops.make import CELLS
from bench.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.store import Store


class CropCache:
    """Crops of some plates as one sequence.

    Parameters
    ----------
    store
        Where they are.
    folders
        Parts of one key, as :func:`bench.crops.ensure` returns them.

    Attributes
    ----------
    cells
        One row per crop: plate, well, site, object number, centre in the field, shard and offset.
    channels, size
        Names of the channels, and edge S of a crop in pixels.

    Raises
    ------
    StoreError
        When a shard is shorter than its index says, or the parts are cut differently.
    """

    def __init__(self, store: Store, folders: Sequence[str]) -> None:
        import pandas as pd

        from bench.store import read_meta, read_table

        tables: list[pd.DataFrame] = []
        shapes: list[tuple[tuple[str, ...], int]] = []
        self._pixels: list[NDArray[np.float32]] = []
        self._inside: list[NDArray[np.bool_]] = []
        for folder in folders:
            path = store.path(folder)
            meta, table = read_meta(path / CELLS), read_table(path / CELLS)
            shapes.append((tuple(meta["channels"]), int(meta["size"])))
            counts = table.groupby("shard").size()
            edge = int(meta["size"])
            for shard, count in counts.items():
                for name, dtype, shape in (
                    ("pixels", np.float32, (count, len(meta["channels"]), edge, edge)),
                    ("inside", np.bool_, (count, edge, edge)),
                ):
                    file = path / f"{name}-{shard:04d}.bin"
                    if (
                        not file.is_file()
                        or file.stat().st_size != int(np.prod(shape)) * np.dtype(dtype).itemsize
                    ):
                        raise StoreError(
                            f"{file} is not as long as its index says; remove {path} and cut again"
                        )
                    mapped: Any = np.memmap(file, dtype, "r", shape=shape)
                    (self._pixels if name == "pixels" else self._inside).append(mapped)
            tables.append(table.assign(shard=table["shard"] + len(self._pixels) - len(counts)))
        if not shapes or len(set(shapes)) > 1:
            raise StoreError("a crop cache needs parts that are cut alike, at least one")
        self.cells: pd.DataFrame = pd.concat(tables, ignore_index=True)
        self.channels, self.size = shapes[0]
        self._place = self.cells[["shard", "offset"]].to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self.cells)

    def take(
        self, positions: Sequence[int] | NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the crops (n, C, S, S) and their masks (n, S, S) at these rows of ``cells``."""
        n, edge = len(positions), self.size
        pixels = np.empty((n, len(self.channels), edge, edge), np.float32)
        inside = np.empty((n, edge, edge), np.bool_)
        for i, (shard, offset) in enumerate(self._place[np.asarray(positions, np.int64)].tolist()):
            pixels[i] = self._pixels[shard][offset]
            inside[i] = self._inside[shard][offset]
        return pixels, inside

    def shuffled(self, batch: int, seed: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield every crop once in an order that ``seed`` decides, ``batch`` at a time."""
        order = np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(order), batch):
            yield self.take(order[start : start + batch])
