"""The demo screen on disk: images made by worker processes, tables, one rename at the end."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from bench.demo import cells, optics, readouts
from bench.demo.layout import Plate, latent_table, plate, wells_table
from bench.demo.population import draw
from bench.demo.settings import CHANNELS, Settings
from bench.errors import DatasetError, UsageError
from bench.settings import usable_cores

if TYPE_CHECKING:
    from collections.abc import Generator

STAINS = {
    "DNA": ("Hoechst 33342", "nucleus"),
    "ER": ("Concanavalin A", "endoplasmic reticulum"),
    "RNA": ("SYTO 14", "nucleoli and cytoplasmic RNA"),
    "AGP": ("Phalloidin and WGA", "actin, Golgi, plasma membrane"),
    "Mito": ("MitoTracker Deep Red", "mitochondria"),
}
CHUNK = 16
ABANDONED_AFTER_S = 24 * 3600

LAYERS = (
    (
        "transcripts",
        "abundance",
        "log",
        ("Metadata_Plate", "Metadata_Well"),
        "simulated log abundance per well",
    ),
    (
        "proteins",
        "abundance",
        "log",
        ("Metadata_Compound", "Metadata_Concentration"),
        "simulated log abundance, wells of a treatment pooled over plates",
    ),
    ("regulation", "regulation", "z", ("Metadata_Compound",), "simulated calls at the top dose"),
    ("targets", "target", "z", ("Metadata_Compound",), "simulated compound targets"),
)


class Report(Protocol):
    """Told of progress by long work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of ``done`` of ``total`` units of ``stage``."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def make(
    out: Path,
    *,
    plates: int = 2,
    compounds: int = 80,
    doses: int = 3,
    seed: int = 0,
    processes: int | None = None,
    report: Report = silent,
) -> Path:
    """Make a demo screen, or reuse the one that is there.

    The same settings give the same bytes of every file, for any number of processes. The folder appears
    whole or not at all.

    Parameters
    ----------
    out
        Folder to make. If it holds a complete screen of the same settings, nothing is done.
    plates, compounds, doses, seed
        See :class:`bench.demo.settings.Settings`.
    processes
        Worker processes; None takes one per processor.
    report
        Called with stage, done, total.

    Returns
    -------
    pathlib.Path
        The folder with ``dataset.toml``.

    Raises
    ------
    bench.errors.UsageError
        For sizes that do not fit a plate.
    bench.errors.DatasetError
        If ``out`` holds something else, or cannot be written.
    """
    settings = Settings(plates=plates, compounds=compounds, doses=doses, seed=seed)
    if processes is not None and processes < 1:
        raise UsageError(f"demo: processes is {processes}, it must be at least 1")
    out = Path(os.path.abspath(out))  # noqa: PTH100 - the user's own spelling, links unresolved
    if _reusable(out, settings):
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.building-", dir=out.parent))
    except OSError as error:
        raise DatasetError(
            f"cannot write the demo screen to {out}: {error.strerror}; choose another folder"
        ) from error
    try:
        _build(folder, settings, processes or usable_cores(), report)
        folder.chmod(0o755)
        try:
            folder.rename(out)
        except OSError:
            # Someone else finished first; theirs has the same bytes.
            if not _reusable(out, settings):
                raise
    except OSError as error:
        raise DatasetError(
            f"cannot write the demo screen to {out}: {error.strerror or error}; free some "
            "space (about 120 MB for the default size) or choose another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _reusable(out: Path, settings: Settings) -> bool:
    """Whether ``out`` is a complete screen of these settings; False if there is nothing; else an error."""
    remedy = "choose another folder, or remove this one"
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    marker = out / "demo.json"
    if not marker.is_file():
        raise DatasetError(f"{out} exists and is not a demo screen: {remedy}")
    try:
        made = json.loads(marker.read_text(encoding="utf-8"))
        version, files = str(made["version"]), dict(made["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{marker} cannot be read ({error}): {remedy}") from error
    if version != settings.version:
        raise DatasetError(f"{out} holds demo screen {version}, not {settings.version}: {remedy}")
    bad = [n for n, size in files.items() if not (out / n).is_file() or (out / n).stat().st_size != size]
    if bad:
        raise DatasetError(
            f"the demo screen in {out} lacks or has changed {len(bad)} of its files, first {bad[0]}: "
            "remove the folder and run again"
        )
    return True


def _remove_abandoned(out: Path) -> None:
    """Remove what builds that were killed left beside ``out``; a day old, so no living build is touched."""
    for folder in out.parent.glob(f".{out.name}.building-*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def _build(folder: Path, settings: Settings, processes: int, report: Report) -> None:
    population = draw(settings)
    plates = [plate(settings, population, i) for i in range(settings.plates)]
    for p in plates:
        (folder / "images" / p.name).mkdir(parents=True)
    nuclei = _images(folder, settings, plates, processes, report)

    report("demo tables", 0, 1)
    wells_table(settings, population, plates).to_csv(folder / "wells.csv", index=False, lineterminator="\n")
    _parquet(_images_table(plates), folder / "images.parquet")
    _parquet(latent_table(plates), folder / "latent.parquet")
    _parquet(nuclei, folder / "nuclei.parquet")
    truths = []
    for name, (table, truth) in {
        "transcripts": readouts.transcripts(settings, plates),
        "proteins": readouts.proteins(settings, population, plates),
        "regulation": readouts.regulation(settings, population),
        "targets": readouts.targets(settings, population),
    }.items():
        _parquet(table, folder / f"{name}.parquet")
        truths.append(truth)
    _parquet(pd.concat(truths, ignore_index=True), folder / "truth.parquet")
    (folder / "dataset.toml").write_text(_toml(settings), encoding="utf-8", newline="\n")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    listing = {p.relative_to(folder).as_posix(): p.stat().st_size for p in files}
    text = json.dumps({"version": settings.version, "files": listing}, indent=0, sort_keys=True)
    (folder / "demo.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    report("demo tables", 1, 1)


def _images(
    folder: Path, settings: Settings, plates: list[Plate], processes: int, report: Report
) -> pd.DataFrame:
    """Write every image; return the true nuclei of every field."""
    jobs = [
        (folder, settings, p, range(start, min(start + CHUNK, len(p.row))))
        for p in plates
        for start in range(0, len(p.row), CHUNK)
    ]
    total, done, parts = sum(len(p.row) for p in plates), 0, []
    report("demo images", 0, total)
    # Closed here and now, so that no worker still writes when an error removes the folder.
    with contextlib.closing(_run(jobs, processes)) as results:
        for part, job in zip(results, jobs, strict=True):
            parts.append(part)
            done += len(job[3])
            report("demo images", done, total)
    return pd.concat(parts, ignore_index=True)


def _run(jobs: list[tuple[Path, Settings, Plate, range]], processes: int) -> Generator[pd.DataFrame]:
    """Yield the result of each job in order, whoever did it."""
    if processes == 1 or len(jobs) == 1:
        yield from map(_fields, jobs)
        return
    # Spawned, not forked: the parent may hold threads (torch, Arrow) that a fork would leave locked.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_ignore_interrupt)
    try:
        yield from pool.map(_fields, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent, which stops its workers after their job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fields(job: tuple[Path, Settings, Plate, range]) -> pd.DataFrame:
    """Draw and write the fields of some wells of one plate; return their true nuclei."""
    from tifffile import imwrite

    folder, settings, p, chosen = job
    light_path = optics.illumination(settings, p.index)
    names = p.wells
    parts = []
    for i in chosen:
        position = int(p.row[i]) * 100 + int(p.column[i])
        scene = cells.render(
            p.state[i], settings.rng("field", p.index, position), settings.size, p.crowding[i]
        )
        grey = optics.expose(scene.light, light_path, p.gain[i], settings.rng("camera", p.index, position))
        for channel, pixels in zip(CHANNELS, grey, strict=True):
            imwrite(
                folder / _uri(p.name, names[i], channel),
                pixels,
                compression="zlib",
                compressionargs={"level": 1},
                predictor=True,
                metadata=None,
                software=False,
                maxworkers=1,
            )
        parts.append(
            pd.DataFrame(
                {
                    "Metadata_Plate": p.name,
                    "Metadata_Well": names[i],
                    "Row": scene.centres[:, 0],
                    "Column": scene.centres[:, 1],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _uri(plate_name: str, well: str, channel: str) -> str:
    return f"images/{plate_name}/{well}_s1_{channel}.tif"


def _images_table(plates: list[Plate]) -> pd.DataFrame:
    rows = [
        (p.name, well, "1", c, _uri(p.name, well, c), 0) for p in plates for well in p.wells for c in CHANNELS
    ]
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Channel", "URI", "Plane"]
    return pd.DataFrame(rows, columns=columns).astype({"Plane": np.int64})


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Without pandas metadata: it holds library versions, which are no part of the data.
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), path)


def _toml(settings: Settings) -> str:
    lines = [
        "# A simulated Cell Painting screen; docs/demo.md says what it simulates and what it does not.",
        "schema_version = 1",
        'name = "demo"',
        f'version = "{settings.version}"',
        "bit_depth = 16",
        "pixel_size_um = 0.65",
        'perturbation = "Metadata_Compound"',
    ]
    for name in CHANNELS:
        stain, role = STAINS[name]
        lines += ["", "[[channels]]", f'name = "{name}"', f'stain = "{stain}"', f'role = "{role}"']
    for section in ("images", "wells", "latent", "truth"):
        suffix = "csv" if section == "wells" else "parquet"
        lines += ["", f"[{section}]", f'table = "{section}.{suffix}"']
    lines += ["", "[imaging]", 'method = "otsu-log"']
    for name, kind, scale, key, prepared in LAYERS:
        lines += [
            "",
            "[[layers]]",
            f'name = "{name}"',
            f'table = "{name}.parquet"',
            f'kind = "{kind}"',
            f'scale = "{scale}"',
            f"key = {json.dumps(list(key))}",
            'join = "aggregate"',
            f'dose_rule = "{"each" if len(key) == 2 else "top"}"',
            f"score_by = {json.dumps([c for c in key if c == 'Metadata_Concentration'])}",
            "fit_by = []",
            f'prepared = "{prepared}"',
        ]
    return "\n".join(lines) + "\n"
