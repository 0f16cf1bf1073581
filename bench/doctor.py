"""Is this installation fit to run? Each check returns findings; nothing here imports torch.

What needs torch is asked of a second process, so that a torch that crashes on import is a finding too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench.settings import usable_cores

DISTRIBUTION = "wellbench"
PACKAGES = ("bench", "featurizers", "tasks", "leaderboard")
LOW_MEMORY_GB, LOW_DISK_GB = 4.0, 5.0

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    status
        ``ok``; ``note`` for what a user should know; ``broken`` for what keeps something from working.
    message
        What was found, and the remedy where there is one.
    """

    check: str
    status: Status
    message: str


def examine(store: Path) -> list[Finding]:
    """Return the findings of every check; ``store`` is the feature store that runs would use."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _requirements,
        _tested_versions,
        _torch,
        lambda: _machine(store),
        lambda: _store(store),
        _shadows,
        _command,
        _plugins,
        _cellprofiler,
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    try:
        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        yield Finding(
            "install", "broken", f"distribution {DISTRIBUTION!r} is not installed; run: pip install -e ."
        )
        return
    yield Finding("install", "ok", f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}")
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield Finding("python", "ok", f"{version} ({sys.executable})")
    else:
        yield Finding("python", "broken", f"{version} is not {wanted}; use another interpreter")


def _requirements() -> Iterator[Finding]:
    """Compare what is installed with what the distribution asks for."""
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    fine = 0
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            message = f"{requirement.name} is not installed; run: pip install '{requirement}'"
            yield Finding("packages", "broken", message)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fine += 1
            continue
        message = (
            f"{requirement.name} {version} is not {requirement.specifier}; run: pip install '{requirement}'"
        )
        yield Finding("packages", "broken", message)
    yield Finding("packages", "ok", f"{fine} requirements are met")


def _tested_versions() -> Iterator[Finding]:
    """Compare what is installed with the constraints file of a source checkout."""
    path = Path(__file__).parent.parent / "constraints.txt"
    if not path.is_file():
        return
    other = []
    for line in path.read_text(encoding="utf-8").splitlines():
        name, sign, tested = line.partition("#")[0].strip().partition("==")
        if not sign:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if version.partition("+")[0] != tested.partition("+")[0]:
            other.append(f"{name} {version} (tested: {tested})")
    if other:
        message = f"not as tested: {', '.join(other)}; pip install -c {path.name} -e . gives the tested ones"
        yield Finding("versions", "note", message)
    else:
        yield Finding("versions", "ok", f"as pinned in {path.name}")


_TORCH = """
import json, torch
found = {"torch": torch.__version__, "threads": torch.get_num_threads()}
found |= {"gpus": [], "torchvision": "as it is"}
if torch.cuda.is_available():
    found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
try:
    import torchvision
except Exception as error:
    from featurizers.vision import import_torchvision
    import_torchvision()
    found["torchvision"] = "with its missing operators declared, because: " + str(error).splitlines()[0]
import duckdb
found["duckdb"] = duckdb.__version__
print(json.dumps(found))
"""


def _torch() -> Iterator[Finding]:
    """Import torch, torchvision and duckdb in another process."""
    command = [sys.executable, "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{_TORCH}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        yield Finding("torch", "broken", "importing torch takes more than 5 minutes; reinstall it")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        message = f"torch, torchvision or duckdb cannot be imported: {last}; reinstall the one that is named"
        yield Finding("torch", "broken", message)
        return
    found = json.loads(done.stdout.splitlines()[-1])
    devices = ", ".join(f"cuda:{i} {name}" for i, name in enumerate(found["gpus"])) or "cpu only"
    yield Finding("torch", "ok", f"{found['torch']}, {devices}, {found['threads']} threads")
    yield Finding("torchvision", "ok", f"imports {found['torchvision']}")
    yield Finding("duckdb", "ok", found["duckdb"])
    if not found["gpus"] and shutil.which("nvidia-smi"):
        message = "an NVIDIA driver is here and this torch cannot use it; install a CUDA build of torch"
        yield Finding("device", "note", message)


def _machine(store: Path) -> Iterator[Finding]:
    import psutil

    limit = os.environ.get("OMP_NUM_THREADS")
    yield Finding("cpu", "ok", f"{usable_cores()} cores" + (f", OMP_NUM_THREADS={limit}" if limit else ""))
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    status: Status = "ok" if free >= LOW_MEMORY_GB else "note"
    hint = "" if status == "ok" else "; large screens may not fit, use fewer --processes"
    yield Finding("memory", status, f"{free:.1f} of {total:.1f} GiB free{hint}")
    disk = shutil.disk_usage(_existing(store)).free / 2**30
    status = "ok" if disk >= LOW_DISK_GB else "note"
    hint = "" if status == "ok" else "; put the store elsewhere with --store"
    yield Finding("disk", status, f"{disk:.1f} GiB free for the store{hint}")


def _existing(path: Path) -> Path:
    """Return the path itself or its nearest ancestor that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _store(store: Path) -> Iterator[Finding]:
    """Write a file that has no name where the store is, or would be made."""
    place = _existing(store)
    remedy = "name another with --store or WELLBENCH_STORE"
    if not place.is_dir():
        yield Finding("store", "broken", f"{place} is a file, not a folder; {remedy}")
        return
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(b"x" * 4096)
    except OSError as error:
        yield Finding("store", "broken", f"{place} cannot be written: {error.strerror or error}; {remedy}")
        return
    yield Finding("store", "ok", f"{store} {'is' if store.exists() else 'can be made and'} writable")


def _shadows() -> Iterator[Finding]:
    """Look along the path of this process for other packages with our names."""
    home = Path(__file__).resolve().parent.parent
    clean = True
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parent.parent != home:
            clean = False
            where = origin or "nowhere"
            message = f"package {name!r} is imported from {where}, not from {home}; remove or rename that one"
            yield Finding("shadow", "broken", message)
            continue
        for other in _same_name(name, home):
            clean = False
            message = (
                f"{other} has the name of our package {name!r}; ours is imported here, but not where that "
                "folder comes first"
            )
            yield Finding("shadow", "note", message)
    if clean:
        yield Finding("shadow", "ok", f"no foreign {', '.join(PACKAGES)}")


def _same_name(name: str, home: Path) -> Iterator[Path]:
    """Yield modules and packages called ``name`` outside ``home`` on ``sys.path``."""
    for folder in {Path(entry or ".").resolve(): None for entry in sys.path}:
        for candidate in (folder / name / "__init__.py", folder / f"{name}.py"):
            if folder != home and candidate.is_file():
                yield candidate


def _command() -> Iterator[Finding]:
    """Say whose ``bench`` the shell would run."""
    found = shutil.which("bench")
    ours = Path(sys.executable).parent
    if found is None:
        message = f"no 'bench' on PATH; use {ours / 'bench'} or python -m bench"
        yield Finding("command", "note", message)
    elif Path(found).parent.resolve() != ours.resolve():
        message = f"'bench' on PATH is {found}, another program; use 'wellbench' or {ours / 'bench'}"
        yield Finding("command", "note", message)
    else:
        yield Finding("command", "ok", found)


def _plugins() -> Iterator[Finding]:
    """Import everything that is registered."""
    from bench.registry import KINDS, Registry

    registry, working = Registry(), 0
    for kind in KINDS:
        for listing in registry.probe(kind):
            if listing.error is None:
                working += 1
            else:
                yield Finding("plugins", "broken", listing.error)
    yield Finding("plugins", "ok", f"{working} featurizers, predictors, tasks, heads and readers work")


def _cellprofiler() -> Iterator[Finding]:
    """Ask the sidecar interpreter for its CellProfiler."""
    from bench.errors import SidecarError
    from bench.sidecar.places import VARIABLE, environment, find_sidecar, installed_version

    python = find_sidecar()
    if python is None:
        message = f"no sidecar in {environment()} (optional); bench cellprofiler setup makes one"
        yield Finding("cellprofiler", "broken" if os.environ.get(VARIABLE) else "note", message)
        return
    try:
        version = installed_version(python)
    except SidecarError as error:
        yield Finding("cellprofiler", "broken", str(error))
        return
    yield Finding("cellprofiler", "ok", f"{version} ({python})")
