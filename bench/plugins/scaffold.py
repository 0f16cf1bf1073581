"""A new package outside this one: a featurizer that works, its entry point and its test."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from bench.errors import UsageError

KINDS = ("featurizer", "predictor")
"""Kinds that can be scaffolded: those with a conformance suite for the new package's test."""

_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "{module}.py": "module.py.txt",
    "tests/test_contract.py": "test_contract.py.txt",
}


def scaffold(kind: str, name: str, folder: Path) -> list[Path]:
    """Write a new package and return its files.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    name
        Name of the entrant on the command line and on the board.
    folder
        A folder that does not exist yet, or is empty.

    Raises
    ------
    UsageError
        When there is no scaffold of that kind, the name cannot be one, or the folder holds something.
    """
    if kind not in KINDS:
        raise UsageError(
            f"there is no scaffold for a {kind}, only for: {', '.join(KINDS)}; for another kind derive from "
            "its contract (featurizers.base, tasks.base, bench.imaging.readers) and register the class as an "
            f"entry point in the group wellbench.{kind}s"
        )
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} cannot be a name; use small letters and digits in words joined by '-'")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; choose another with --out")
    words = {
        "name": name,
        "module": "wellbench_" + name.replace("-", "_"),
        "class_name": "".join(word.capitalize() for word in name.split("-")),
    }
    templates = files("bench.plugins") / "templates" / kind
    written = []
    for target, source in _FILES.items():
        path = folder / target.format(**words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((templates / source).read_text(encoding="utf-8")).substitute(words)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
