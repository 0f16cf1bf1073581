"""Running a CellProfiler pipeline without a screen."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import SidecarError
from bench.sidecar.places import interpreter, sidecar_environment

LOG = "cellprofiler.log"
LAST_LINES = 12
_MODULE = re.compile(r"Image # (\d+), module (\w+) # (\d+):.* Wall_time = ([0-9.]+) secs")


@dataclass(frozen=True, slots=True)
class Done:
    """What a pipeline left.

    Parameters
    ----------
    out
        Folder of its output; ``cellprofiler.log`` there has all it said.
    files
        Names of the files it wrote there, sorted.
    image_sets
        How many image sets it went through.
    seconds
        Wall-clock seconds by ``number:module``, over all image sets, as CellProfiler reports them.
    """

    out: Path
    files: tuple[str, ...]
    image_sets: int
    seconds: dict[str, float]


def run_pipeline(
    pipeline: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    data_file: str | os.PathLike[str] | None = None,
    first: int | None = None,
    last: int | None = None,
    report: Callable[[int, int | None], None] | None = None,
    home: str | None = None,
) -> Done:
    """Run a pipeline headless.

    Parameters
    ----------
    pipeline
        ``.cppipe`` or ``.cpproj``.
    out
        Folder for its output, made when it is not there.
    images
        Default input folder; all files below are given to the pipeline's Images module.
    data_file
        CSV for its LoadData module. One of the two is needed.
    first, last
        Image sets to process, from 1.
    report
        Told the number of image sets done and, with ``data_file``, of all.
    home
        CellProfiler's environment, where it is not the configured one.

    Raises
    ------
    SidecarError
        When a file or the environment is missing, or CellProfiler fails: with its exit code and the last
        lines of its log.
    """
    python = interpreter(home)
    words, total = _words(Path(pipeline), images, data_file, first, last)
    folder = Path(out).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
        with tempfile.TemporaryDirectory(prefix="cellprofiler-") as scratch:
            status = Path(scratch) / "status"
            command = [str(python), "-m", "cellprofiler", "-c", "-r", *words, "-o", str(folder)]
            command += ["-t", scratch, "-d", str(status)]
            code, tail, seconds, seen = _follow(command, folder / LOG, total, report)
            said = status.read_text().strip() if status.is_file() else "nothing"
    except OSError as error:
        raise SidecarError(f"{folder}: {error.strerror or error}") from error
    if code or said != "Complete":
        lines = "\n  ".join(tail)
        raise SidecarError(
            f"{pipeline}: CellProfiler ended with exit code {code} and status {said!r} "
            f"(all it said: {folder / LOG})\n  {lines}"
        )
    new = [p for p in folder.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns]
    names = sorted(str(p.relative_to(folder)) for p in new if p.name != LOG)
    if not names:
        raise SidecarError(
            f"{pipeline}: CellProfiler ended well and wrote nothing to {folder}; give the pipeline an export "
            "module (ExportToSpreadsheet, ExportToDatabase) whose folder is the default output folder"
        )
    return Done(folder, tuple(names), len(seen), seconds)


def _words(
    pipeline: Path,
    images: str | os.PathLike[str] | None,
    data_file: str | os.PathLike[str] | None,
    first: int | None,
    last: int | None,
) -> tuple[list[str], int | None]:
    """Check the inputs; return CellProfiler's options for them and the number of image sets, if known."""
    if not pipeline.is_file():
        raise SidecarError(f"{pipeline}: no such pipeline; export one from CellProfiler as .cppipe")
    if images is None and data_file is None:
        raise SidecarError("neither --images FOLDER nor --data-file CSV: nothing to measure")
    words, total = ["-p", str(pipeline.absolute())], None
    if images is not None:
        if not Path(images).is_dir():
            raise SidecarError(f"--images {images}: no such folder")
        words += ["-i", str(Path(images).absolute())]
    if data_file is not None:
        if not Path(data_file).is_file():
            raise SidecarError(f"--data-file {data_file}: no such file")
        try:
            with Path(data_file).open(newline="", encoding="utf-8-sig") as stream:
                total = max(sum(1 for _ in csv.reader(stream)) - 1, 0)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SidecarError(
                f"--data-file {data_file}: not a CSV file in UTF-8 ({error}); save it as one"
            ) from error
        if not total:
            raise SidecarError(f"--data-file {data_file}: no row below its header; give one per image set")
        words += ["--data-file", str(Path(data_file).absolute())]
        total = _chosen(total, first, last)
    for letter, number in (("-f", first), ("-l", last)):
        if number is not None:
            words += [letter, str(number)]
    return words, total


def _chosen(total: int, first: int | None, last: int | None) -> int:
    """Return how many of ``total`` image sets ``first`` to ``last`` are."""
    chosen = min(last or total, total) - (first or 1) + 1
    if chosen < 1:
        raise SidecarError(
            f"no image set from --first {first or 1} to --last {last or total}: the data file has {total}"
        )
    return chosen


def _follow(
    command: list[str], log: Path, total: int | None, report: Callable[[int, int | None], None] | None
) -> tuple[int, list[str], dict[str, float], set[int]]:
    """Run it; return exit code, last lines, seconds by module and the image sets that were seen."""
    tail: deque[str] = deque(maxlen=LAST_LINES)
    seconds: dict[str, float] = {}
    seen: set[int] = set()
    with (
        log.open("w", encoding="utf-8", buffering=1) as stream,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=sidecar_environment(),
            cwd=log.parent,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                stream.write(line)
                if line.strip():
                    tail.append(line.rstrip())
                found = _MODULE.search(line)
                if found is None:
                    continue
                name = f"{found[3]}:{found[2]}"
                seconds[name] = seconds.get(name, 0.0) + float(found[4])
                if int(found[1]) not in seen:
                    if report is not None and seen:
                        report(len(seen), total)
                    seen.add(int(found[1]))
        except BaseException:
            process.terminate()
            raise
    if report is not None:
        report(len(seen), total)
    return process.returncode, list(tail), seconds, seen
