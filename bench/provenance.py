"""How a result came about: time, versions, machine. Recorded beside the content, never part of a key."""

from __future__ import annotations

import platform
import resource
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = (
    "wellbench",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scikit-image",
    "torch",
    "timm",
)


def provenance(**facts: Any) -> dict[str, Any]:
    """Return time, versions and machine, and what else is known of the work (seconds, memory)."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "libraries": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
        **facts,
    }


def peak_memory_mb() -> float:
    """Return the largest resident memory this process has had, in MiB: an upper bound for its last unit."""
    scale = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
