"""Where CellProfiler's environment, a Python 3.9 and a JDK are, and how to get them where they are not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.errors import SidecarError

VARIABLE = "WELLBENCH_CELLPROFILER"
"""Environment variable: CellProfiler's environment (a folder) or the Python interpreter in it."""
VERSION = "4.2.8.1"
PYTHON = (3, 9)

PYTHON_HELP = (
    "CellProfiler 4.2.8 needs Python 3.9, which is not here. It comes from pyenv (pyenv install 3.9), conda "
    "(conda create -n py39 python=3.9), uv (uv python install 3.9) or, on Ubuntu, the deadsnakes PPA (apt "
    "install python3.9-venv python3.9-dev); Debian's own is newer. Then name it: --python .../bin/python3.9"
)
JDK_HELP = (
    "CellProfiler needs a JDK (javac, not only java), which is not here. It comes from Debian and Ubuntu "
    "(apt install default-jdk-headless), conda (conda install -c conda-forge openjdk=17) or adoptium.net; "
    "then put javac on PATH or set JAVA_HOME to the JDK's folder"
)


def environment(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of CellProfiler's environment, whether it is there or not.

    ``given``, else what ``$WELLBENCH_CELLPROFILER`` names, else ``wellbench/cellprofiler-VERSION`` in the
    user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``).
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser().absolute()
        return path.parent.parent if path.is_file() else path  # an interpreter stands in bin/
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "wellbench" / f"cellprofiler-{VERSION}"


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / "bin" / "python"


def find_sidecar(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the interpreter of the :func:`environment`, None where there is none."""
    named = given or os.environ.get(VARIABLE)
    path = Path(named).expanduser().absolute() if named else environment()
    python = path if path.is_file() else python_of(path)
    return python if python.is_file() else None


def interpreter(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the interpreter that has CellProfiler.

    Raises
    ------
    SidecarError
        When there is no environment, with the command that makes one.
    """
    python = find_sidecar(given)
    if python is None:
        raise SidecarError(
            f"{environment(given)}: CellProfiler is not installed there; run bench cellprofiler setup, "
            f"or set {VARIABLE} to an environment that has it"
        )
    return python


def installed_version(python: Path) -> str:
    """Return the version of CellProfiler that ``python`` can import.

    Raises
    ------
    SidecarError
        When it cannot be run or has no working CellProfiler.
    """
    script = "import cellprofiler.__main__, importlib.metadata as m; print(m.version('cellprofiler'))"
    try:
        done = subprocess.run(
            [python, "-c", script],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=sidecar_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SidecarError(f"{python} cannot be run: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SidecarError(f"{python} has no working CellProfiler: {last}; run bench cellprofiler setup")
    return done.stdout.strip().splitlines()[-1]


def find_python(given: str | None = None) -> Path:
    """Return a Python 3.9: ``given``, else ``python3.9`` on PATH or under pyenv.

    Raises
    ------
    SidecarError
        When there is none, or the one that is given is another version; says where it comes from.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            raise SidecarError(f"--python {given} is no program; {PYTHON_HELP}")
        version = _python_version(Path(found))
        if version != PYTHON:
            told = ".".join(map(str, version)) if version else "no Python"
            raise SidecarError(f"--python {given} is {told}; {PYTHON_HELP}")
        return Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    here = shutil.which("python3.9")
    candidates = [Path(here)] if here else []
    candidates += sorted(pyenv.glob("3.9.*/bin/python3.9"), reverse=True)
    for path in candidates:  # a pyenv shim for a version that is not selected is on PATH and does not run
        if _python_version(path) == PYTHON:
            return path
    raise SidecarError(PYTHON_HELP)


def _python_version(path: Path) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None


def find_jdk() -> Path:
    """Return the folder of a JDK: ``$JAVA_HOME``, else where ``javac`` on PATH belongs.

    Raises
    ------
    SidecarError
        When there is none; says where it comes from.
    """
    named = os.environ.get("JAVA_HOME")
    if named and (Path(named) / "bin" / "javac").is_file():
        return Path(named)
    javac = shutil.which("javac")
    if javac is None:
        wrong = f"JAVA_HOME={named} has no bin/javac; " if named else ""
        raise SidecarError(wrong + JDK_HELP)
    return Path(javac).resolve().parent.parent


def sidecar_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for a sidecar process: ours, less those that point Python here, and JAVA_HOME."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_CONSTRAINT"}
    variables = {k: v for k, v in os.environ.items() if k not in ours}
    variables.pop("DISPLAY", None)  # CellProfiler looks for a screen and does not need one
    with contextlib.suppress(SidecarError):  # a JVM alone may do for running
        variables["JAVA_HOME"] = str(find_jdk())
    return variables | dict(extra or {})
