"""What the end-to-end tests share: the installed command, the quickest whole run, a store's bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

BENCH = Path(sys.executable).with_name("bench")

Run = Callable[..., subprocess.CompletedProcess[str]]

QUICK = ("run", "-f", "intensity", "--layer", "proteins", "--controls", "cell-count,position", "-j", "2")
"""The quickest run that has everything: an entrant, two controls, permuted labels, the floor."""


def contents(store: Path) -> dict[str, bytes]:
    """Return every file of a store that must be the same for the same run."""
    exempt = ("provenance.json", ".hashes.json", "lock")
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in exempt and not {".cache", "logs"} & set(path.parts)
    }
