"""What a dataset's content is: digests of its tables and, per plate, of its images.

Paths enter relative to the dataset's folder, so moving the folder changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.datasets.model import Dataset
from bench.datasets.tables import PLATE, SITE, WELL, is_remote, natural
from bench.errors import DatasetError

_BLOCK = 1 << 20


def dataset_digest(dataset: Dataset) -> str:
    """Return the sha256 of settings and tables; ``[[features]]`` and comments do not count."""
    from bench.store.keys import digest

    settings = {k: v for k, v in dataset.settings.items() if k != "features"}
    tables = {k: hash_uri(v) for k, v in dataset.files.items() if not k.startswith("features/")}
    key: str = digest({"settings": settings, "tables": tables})
    return key


def image_manifest(
    dataset: Dataset, plate: str, cache: Callable[[Path], str] | None = None
) -> list[dict[str, Any]]:
    """Return one entry per image plane of a plate, sorted by well, site, channel and plane.

    Parameters
    ----------
    cache
        Gives the sha256 of a local file, perhaps remembered; None reads every file.

    Returns
    -------
    Entries with ``well``, ``site``, ``channel``, ``plane``, ``path`` (relative to the dataset's folder, or
    for files outside it to the folder that the plate's outside files share) and ``sha256``. The place is
    part of the entry because giving a file to another well changes the features of both. Where the plate's
    channel has an illumination function, its digest stands under ``illumination``; a part of an image
    stands under ``region``.

    Raises
    ------
    DatasetError
        When the dataset has no such plate of images or a file cannot be read.
    """
    rows = None if dataset.images is None else dataset.images[dataset.images[PLATE] == plate]
    if rows is None or rows.empty:
        raise DatasetError(f"dataset {dataset.name!r} has no images of plate {plate!r}")
    relative = _relative(dataset.root, rows["URI"].unique().tolist())
    hashes: dict[str, str] = {}
    for uri in relative:
        hashes[uri] = _content(uri, cache)
    functions = _functions(dataset, plate, cache)
    parts = rows["Region"] if "Region" in rows.columns else [""] * len(rows)
    entries = [
        {
            "well": w,
            "site": s,
            "channel": c,
            "plane": int(p),
            "path": relative[u],
            "sha256": hashes[u],
            **({"illumination": functions[c]} if c in functions else {}),
            **({"region": r} if r else {}),
        }
        for w, s, c, p, u, r in zip(
            rows[WELL], rows[SITE], rows["Channel"], rows["Plane"], rows["URI"], parts, strict=True
        )
    ]
    return sorted(
        entries, key=lambda e: (natural(e["well"]), natural(e["site"]), e["channel"], e["plane"], e["path"])
    )


def _functions(dataset: Dataset, plate: str, cache: Callable[[Path], str] | None) -> dict[str, str]:
    """Return the digest of each channel's illumination function."""
    if dataset.illumination is None:
        return {}
    table = dataset.illumination[dataset.illumination[PLATE] == plate]
    return {str(c): _content(u, cache) for c, u in zip(table["Channel"], table["URI"], strict=True)}


def _content(uri: str, cache: Callable[[Path], str] | None) -> str:
    """Return the sha256 of an image; a Zarr array's is that of its files' names and digests."""
    from bench.datasets.places import walk
    from bench.imaging.zarrs import files_of, is_array
    from bench.store.keys import digest

    def one(file: str) -> str:
        return hash_uri(file) if cache is None or is_remote(file) else cache(Path(file))

    names = [] if not is_array(uri) else walk(uri) if is_remote(uri) else files_of(uri)
    return str(digest({name: one(f"{uri}/{name}") for name in names})) if names else one(uri)


def hash_uri(uri: str) -> str:
    """Return the sha256 of a file's bytes, read in blocks."""
    import fsspec

    sha = hashlib.sha256()
    try:
        with fsspec.open(uri, "rb") as handle:
            while block := handle.read(_BLOCK):
                sha.update(block)
    except OSError as error:
        raise DatasetError(
            f"{uri}: cannot be read ({error.strerror or error}); check the path and its rights"
        ) from error
    return sha.hexdigest()


def _relative(root: Path, uris: list[str]) -> dict[str, str]:
    """Map each URI to a name that does not depend on where the data lies."""
    local = [u for u in uris if not is_remote(u)]
    outside = [u for u in local if not Path(u).is_relative_to(root)]
    base = os.path.commonpath([str(Path(u).parent) for u in outside]) if outside else ""
    out = {}
    for uri in uris:
        if is_remote(uri):
            out[uri] = uri
        else:
            start = Path(base) if uri in outside else root
            out[uri] = Path(uri).relative_to(start).as_posix()
    return out
