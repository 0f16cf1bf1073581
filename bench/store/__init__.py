"""The feature store: content-keyed Parquet parts on a local disk, committed whole or not at all.

Importing this package loads neither numpy, pandas, pyarrow nor duckdb; a name is imported on its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.store.hashes import HashCache, file_digest
    from bench.store.keys import canonical_json, digest
    from bench.store.names import escape, unescape
    from bench.store.parts import (
        FeatureSet,
        PartKey,
        read_cells,
        read_features,
        read_folders,
        read_parts,
        write_part,
    )
    from bench.store.source import code_digest
    from bench.store.store import Problem, Store
    from bench.store.tables import read_matrix, read_meta, read_table, write_matrix, write_table
    from bench.store.views import connect
    from bench.store.why import Difference, find

_HOME = {
    "Difference": "why",
    "FeatureSet": "parts",
    "HashCache": "hashes",
    "PartKey": "parts",
    "Problem": "store",
    "Store": "store",
    "canonical_json": "keys",
    "code_digest": "source",
    "connect": "views",
    "digest": "keys",
    "escape": "names",
    "file_digest": "hashes",
    "find": "why",
    "read_cells": "parts",
    "read_features": "parts",
    "read_folders": "parts",
    "read_parts": "parts",
    "read_matrix": "tables",
    "read_meta": "tables",
    "read_table": "tables",
    "unescape": "names",
    "write_matrix": "tables",
    "write_part": "parts",
    "write_table": "tables",
}

__all__ = [
    "Difference",
    "FeatureSet",
    "HashCache",
    "PartKey",
    "Problem",
    "Store",
    "canonical_json",
    "code_digest",
    "connect",
    "digest",
    "escape",
    "file_digest",
    "find",
    "read_cells",
    "read_features",
    "read_folders",
    "read_matrix",
    "read_meta",
    "read_parts",
    "read_table",
    "unescape",
    "write_matrix",
    "write_part",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
