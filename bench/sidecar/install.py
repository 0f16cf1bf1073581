"""Making CellProfiler's environment, in steps that a second call goes on from."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from bench.errors import SidecarError
from bench.sidecar.places import (
    VERSION,
    environment,
    find_jdk,
    find_python,
    installed_version,
    python_of,
    sidecar_environment,
)

STATE, LOG = "wellbench-sidecar.json", "setup.log"
LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the installation.

    Parameters
    ----------
    name
        What it does, for people.
    command
        Words of the command.
    variables
        Added to the environment of the process.
    digest
        Of the command and of the files it reads: a step whose digest is recorded is not run again.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


Report = Callable[[str, int, int], None]


def requirements(name: str) -> Path:
    """Return a requirements file that ships with this package."""
    path = Path(str(resources.files("bench.sidecar"))) / "requirements" / name
    if not path.is_file():
        raise SidecarError(f"{path} is missing; install wellbench again (not from a zip file)")
    return path


def steps(base: Path, folder: Path) -> list[Step]:
    """Return the steps that make the environment ``folder`` from the Python 3.9 ``base``.

    The order matters: pip 24 and later refuse metadata of pinned packages; constraints on builds (NumPy < 2,
    Cython < 3) must not constrain the run time; CellProfiler itself goes in without its dependencies, which
    are the graphical interface.
    """
    python = str(python_of(folder))
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install")
    pinned, build = requirements("cellprofiler.txt"), requirements("cellprofiler-build.txt")
    standin = Path(__file__).with_name("mysql_standin.py")
    listed = [
        Step("environment of its own", (str(base), "-m", "venv", str(folder))),
        Step("pip < 24", (*pip, "pip<24")),
        Step(
            "CellProfiler's libraries (builds the Java bridge; minutes)",
            (*pip, "-r", str(pinned)),
            {"PIP_CONSTRAINT": str(build)},
        ),
        Step(f"CellProfiler {VERSION} without its window", (*pip, "--no-deps", f"cellprofiler=={VERSION}")),
        Step("SQLite export without MySQL", (python, str(standin))),
    ]
    return [Step(s.name, s.command, s.variables, _digest(s, pinned, build, standin)) for s in listed]


def setup(
    python: str | None = None, into: str | None = None, report: Report | None = None
) -> tuple[Path, str, list[str]]:
    """Make CellProfiler's environment, or finish one that was begun.

    Parameters
    ----------
    python
        A Python 3.9; found when not given.
    into
        Folder of the environment; the default is :func:`bench.sidecar.places.environment`.
    report
        Told each step's name, its number from 0 and the number of steps; once more when all are done.

    Returns
    -------
    The interpreter, CellProfiler's version, and the names of the steps that were run.

    Raises
    ------
    SidecarError
        When Python 3.9 or a JDK is missing, the folder holds something else, or a step fails (with the last
        lines of its output; all of it is in ``setup.log`` in the folder).
    """
    folder = environment(into)
    if folder.exists() and not (folder / STATE).is_file() and any(folder.iterdir()):
        if python_of(folder).is_file():  # made by hand
            return python_of(folder), installed_version(python_of(folder)), []
        raise SidecarError(f"{folder}: something else is there; name another folder with --into, or empty it")
    base, jdk = find_python(python), find_jdk()
    todo = steps(base, folder)
    done = _state(folder)
    ran: list[str] = []
    for number, step in enumerate(todo):
        if step.digest in done and python_of(folder).is_file():
            continue
        if report is not None:
            report(step.name, number, len(todo))
        _run(step, folder, jdk)
        done = [*done, step.digest]
        ran.append(step.name)
        _remember(folder, done)
    version = installed_version(python_of(folder))
    if report is not None:
        report("done", len(todo), len(todo))
    return python_of(folder), version, ran


def _run(step: Step, folder: Path, jdk: Path) -> None:
    """Run one step with its output in the log."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / STATE).is_file():
            _remember(folder, [])
        with (folder / LOG).open("ab") as log:
            begin = log.tell()
            log.write(f"\n== {time.strftime('%F %T')} {step.name}: {' '.join(step.command)}\n".encode())
            log.flush()
            variables = sidecar_environment({**step.variables, "JAVA_HOME": str(jdk)})
            code = subprocess.run(
                step.command, stdout=log, stderr=subprocess.STDOUT, env=variables, check=False
            ).returncode
        if code:
            text = (folder / LOG).read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            tail = "\n  ".join(text[-LAST_LINES:])
            raise SidecarError(
                f"{step.name}: {' '.join(step.command[:3])} ... ended with exit code {code} (all output: "
                f"{folder / LOG}); what went before is kept, the same command goes on from there\n  {tail}"
            )
    except OSError as error:
        raise SidecarError(f"{folder}: {error.strerror or error}; name another folder with --into") from error


def _state(folder: Path) -> list[str]:
    try:
        done = json.loads((folder / STATE).read_text(encoding="utf-8"))["done"]
        return [str(digest) for digest in done]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _remember(folder: Path, done: list[str]) -> None:
    draft = folder / f".{STATE}"
    draft.write_text(json.dumps({"schema_version": 1, "done": done}) + "\n", encoding="utf-8")
    draft.replace(folder / STATE)


def _digest(step: Step, *files: Path) -> str:
    """Return what changes with the command or with a file that it names."""
    named = {*step.command, *step.variables.values()}
    content = [path.read_text(encoding="utf-8") for path in files if str(path) in named]
    words = [Path(word).name if Path(word) in files else word for word in step.command]
    return hashlib.sha256("\0".join([*words, *content]).encode()).hexdigest()
