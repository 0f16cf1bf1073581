"""``dataset.toml`` of a small screen, a quick protocol, settled files, for tests with tables of their own."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

QUICK = """name = "quick"
repeats = 1
outer_folds = 2
inner_folds = 2
normalisation = ["fold"]
[penalties]
num = 2
"""
"""A protocol file of two outer folds."""


def dataset_toml(*tables: str, name: str = "small") -> str:
    """Return the settings of a screen whose wells are in ``wells.csv``, with these tables beside them."""
    head = f'schema_version = 1\nname = "{name}"\nversion = "1"\nperturbation = "Metadata_Compound"\n'
    return "\n".join([head, '[wells]\ntable = "wells.csv"\n', *tables])


def profiles(name: str, table: str = "profiles.csv") -> str:
    """Return the entry of a table of ready-made profiles."""
    return f'[[features]]\nname = "{name}"\ntable = "{table}"\n'


def layer(
    name: str,
    kind: str = "abundance",
    *,
    table: str = "",
    key: tuple[str, ...] = ("Metadata_Compound",),
    **more: object,
) -> str:
    """Return the entry of a readout layer; its table is ``NAME.csv`` unless another is named."""
    settings = {"name": name, "table": table or f"{name}.csv", "kind": kind, "key": list(key), **more}
    return "[[layers]]\n" + "".join(f"{word} = {json.dumps(value)}\n" for word, value in settings.items())


def aged(folder: Path) -> Path:
    """Return the folder, its files a minute old: hashes of files that are still warm are not remembered."""
    then = time.time() - 60
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
    return folder
