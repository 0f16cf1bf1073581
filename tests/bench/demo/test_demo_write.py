"""The screen on disk: equal bytes for equal settings, whole or not there, never over someone's data."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.datasets import load
from bench.demo import make, write
from bench.errors import DatasetError, UsageError

SIZES = {"plates": 1, "compounds": 6, "doses": 1}


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_two_processes_write_the_same_bytes_as_one(tiny, tmp_path):
    other = make(tmp_path / "again", **SIZES, seed=3, processes=2)
    first, second = files(tiny), files(other)
    assert len(first) == (6 + 32) * 5 + 11
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_another_seed_gives_other_images_and_readouts(tiny, tmp_path):
    other = make(tmp_path / "other", **SIZES, seed=4, processes=1)
    for name in ("transcripts.parquet", "latent.parquet", "wells.csv"):
        assert (tiny / name).read_bytes() != (other / name).read_bytes()
    images = {p.read_bytes() for p in (tiny / "images").rglob("*.tif")}
    assert not images & {p.read_bytes() for p in (other / "images").rglob("*.tif")}


def test_the_dataset_loads_and_every_image_is_there(tiny):
    dataset = load(tiny)
    assert [c.name for c in dataset.channels] == ["DNA", "ER", "RNA", "AGP", "Mito"]
    assert dataset.channels[0].role == "nucleus"
    assert len(dataset.wells) == 38
    assert len(dataset.images) == 38 * 5
    assert all(Path(uri).is_file() for uri in dataset.images["URI"])
    assert [(y.name, y.kind) for y in dataset.layers] == [
        ("transcripts", "abundance"),
        ("proteins", "abundance"),
        ("regulation", "regulation"),
        ("targets", "target"),
    ]
    assert {c for c in dataset.latent.columns if c.startswith("Latent_")} >= {
        "Latent_count",
        "Latent_elongation",
    }
    for layer in dataset.layers:
        columns = [c for c in layer.read().columns if not c.startswith("Metadata_")]
        truth = dataset.truth[dataset.truth["layer"] == layer.name]
        assert columns == truth["readout"].tolist()


def test_images_are_16_bit_and_hold_no_time_or_path(tiny):
    path = next((tiny / "images").rglob("*.tif"))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert (page.shape, page.dtype) == ((176, 176), np.uint16)
        assert {"DateTime", "Software", "ImageDescription"}.isdisjoint(t.name for t in page.tags)
        assert page.asarray().max() > 1000


def test_the_true_nuclei_lie_in_their_fields(tiny):
    nuclei = pd.read_parquet(tiny / "nuclei.parquet")
    assert nuclei[["Row", "Column"]].to_numpy().min() >= 0
    assert nuclei[["Row", "Column"]].to_numpy().max() < 176
    assert nuclei.groupby("Metadata_Well").size().between(4, 45).all()


def test_a_complete_screen_is_reused_untouched(tiny, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("*")}
    monkeypatch.setattr(write, "_build", lambda *_: pytest.fail("built again"))
    assert make(tiny, **SIZES, seed=3) == tiny
    assert before == {p: p.stat().st_mtime_ns for p in tiny.rglob("*")}


def test_a_screen_of_other_settings_is_not_overwritten(tiny):
    with pytest.raises(DatasetError, match=r"seed3.*not 2-seed5"):
        make(tiny, **SIZES, seed=5)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(DatasetError, match="is not a demo screen"):
        make(tmp_path, **SIZES)
    assert names(tmp_path) == ["thesis.txt"]


def test_a_screen_that_lost_an_image_is_not_taken_for_complete(tmp_path):
    folder = make(tmp_path / "screen", plates=1, compounds=2, doses=1, processes=1)
    victim = next((folder / "images").rglob("*.tif"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(DatasetError, match=victim.name):
        make(folder, plates=1, compounds=2, doses=1)


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def interrupt(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "screen", **SIZES, processes=1, report=interrupt)
    assert names(tmp_path) == []


def test_an_interrupted_build_with_workers_leaves_nothing(tmp_path):
    def interrupt(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "screen", **SIZES, processes=2, report=interrupt)
    assert names(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def full(path, *args, **kwargs):
        if len(written) == 7:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        path.write_bytes(b"pixels")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(DatasetError, match="No space left on device; free some space"):
        make(tmp_path / "screen", **SIZES, processes=1)
    assert names(tmp_path) == []


def test_a_killed_build_leaves_no_dataset_and_the_next_one_succeeds(tmp_path):
    script = tmp_path / "kill.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from bench.demo import make

            def kill(stage, done, total):
                if done:
                    os.kill(os.getpid(), signal.SIGKILL)

            make(Path(sys.argv[1]), plates=1, compounds=2, doses=1, processes=1, report=kill)
            """
        ),
        encoding="utf-8",
    )
    out = tmp_path / "place" / "screen"
    root = Path(write.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, script, out], env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == -9
    assert not out.exists()
    left = list(out.parent.iterdir())
    assert len(left) == 1
    two_days_ago = time.time() - 48 * 3600
    os.utime(left[0], (two_days_ago, two_days_ago))
    make(out, plates=1, compounds=2, doses=1, processes=1)
    assert names(out.parent) == ["screen"]


def test_whoever_finishes_second_takes_the_first_ones_screen(tmp_path):
    out = tmp_path / "screen"
    sizes = {"plates": 1, "compounds": 2, "doses": 1, "processes": 1}
    first = []

    def overtake(stage: str, done: int, total: int) -> None:
        if stage == "demo tables" and done and not first:
            first.append(make(out, **sizes))

    assert make(out, **sizes, report=overtake) == first[0] == out
    assert names(tmp_path) == ["screen"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="choose another folder"):
        make(tmp_path / "file" / "screen", **SIZES)


def test_no_processes_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="processes is 0"):
        make(tmp_path / "screen", **SIZES, processes=0)


def test_a_path_with_spaces_and_other_letters_works(tmp_path):
    folder = make(tmp_path / "Zellmalerei – größe 細胞", plates=1, compounds=2, doses=1, processes=1)
    assert len(load(folder).images) == (2 + 32) * 5
