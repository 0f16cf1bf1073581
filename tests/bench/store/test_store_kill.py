"""Writers that are killed at any moment, and writers that race."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.store import Store, read_features
from bench.store.keys import digest

PLATES = ["P1", "P2", "P3", "P4", "P5"]
ROOT = Path(__file__).parents[3]


class Writer:
    """Drives the process of ``writer.py``."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("writer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, root: Path, plates: list[str] = PLATES) -> int:
        """Begin to write, in another process; return that process' id."""
        self.process.stdin.write(f"{root}\t{','.join(plates)}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for the writing process; return its wait status."""
        self.process.stdin.write("end\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def writers() -> Iterator[list[Writer]]:
    both = [Writer(), Writer()]
    yield both
    for writer in both:
        writer.close()


def whole(root: Path, writer: Writer) -> float:
    """Write a store without interruption; return the seconds it took."""
    started = time.perf_counter()
    writer.start(root)
    assert writer.end() == 0
    return time.perf_counter() - started


def parts(root: Path) -> int:
    return sum(1 for _ in root.glob("features/**/manifest.json"))  # none under .tmp: those may vanish


def kill_and_resume(writer: Writer, tmp_path: Path, contents, kills: int) -> None:
    """Kill after 0, 1, 2, … parts and a random while more, until every kind of remains was met."""
    whole(tmp_path / "warm", writer)
    seconds = whole(tmp_path / "reference", writer)
    expected = contents(tmp_path / "reference")
    rng = random.Random(7)
    root = tmp_path / "killed"
    killed = leftovers = partial = 0
    for attempt in range(20 * kills):
        pid = writer.start(root)
        waited = time.monotonic() + seconds
        while parts(root) < attempt % (len(PLATES) + 1) and time.monotonic() < waited:
            pass
        time.sleep(rng.uniform(0, seconds / len(PLATES)))
        os.kill(pid, signal.SIGKILL)
        status = writer.end()
        killed += os.WIFSIGNALED(status)
        if not (root / "store.json").exists():
            continue
        store = Store(root, create=False)
        assert store.verify() == []
        seen = contents(root)
        assert seen.items() <= expected.items()
        leftovers += any((root / ".tmp").glob("*"))
        partial += 0 < len(store.list()) <= len(PLATES)
        if killed >= kills and leftovers and partial:
            break
        if seen == expected:
            shutil.rmtree(root)
    assert killed >= kills
    assert leftovers
    assert partial
    whole(root, writer)
    assert contents(root) == expected
    assert Store(root).verify() == []


def test_a_writer_killed_at_8_random_moments_leaves_no_part_and_resumes_to_the_same_bytes(
    tmp_path, writers, contents
):
    kill_and_resume(writers[0], tmp_path, contents, kills=8)


@pytest.mark.slow
def test_a_writer_killed_at_30_random_moments_leaves_no_part_and_resumes_to_the_same_bytes(
    tmp_path, writers, contents
):
    kill_and_resume(writers[0], tmp_path, contents, kills=30)


@pytest.mark.parametrize("second", [PLATES, PLATES[::-1]], ids=["same parts", "crossing parts"])
def test_two_racing_writers_end_in_the_same_bytes_as_one(tmp_path, writers, contents, second):
    whole(tmp_path / "reference", writers[0])
    expected = contents(tmp_path / "reference")
    for attempt in range(2):
        root = tmp_path / f"raced{attempt}"
        for writer, order in zip(writers, (PLATES, second), strict=True):
            writer.start(root, order)
        assert [writer.end() for writer in writers] == [0, 0]
        store = Store(root, create=False)
        assert contents(root) == expected
        assert store.verify() == []
        assert list((root / ".tmp").iterdir()) == []
        assert len(read_features(store, "d", "noise", digest({"entrant": "noise"})).wells) == 24 * len(PLATES)


def test_a_writer_killed_before_any_system_call_of_a_commit_leaves_all_or_nothing(tmp_path):
    """Die before the n-th call that touches the disk, for every n, and then finish."""

    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"a" * 1000)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.bin").write_bytes(b"b" * 1000)

    def commit(root: Path) -> None:
        Store(root).commit("runs/key=k", write, {"note": 1})

    def die_at(n: int, root: Path) -> bool:
        """Return whether the commit outlived its n-th call."""
        child = os.fork()
        if child == 0:
            calls = iter(range(1, 10_000))

            def hook(event: str, _: object) -> None:
                if event in {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"} and next(calls) == n:
                    os._exit(9)

            sys.addaudithook(hook)
            commit(root)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    steps = 0
    for n in range(1, 200):
        root = tmp_path / str(n)
        survived = die_at(n, root)
        if (root / "store.json").exists():
            store = Store(root, create=False)
            assert store.verify() == []
            assert store.list() in ([], ["runs/key=k"])
        commit(root)
        assert Store(root).verify() == []
        assert (root / "runs/key=k/sub/b.bin").read_bytes() == b"b" * 1000
        if survived:
            break
        steps = n
    assert survived
    assert steps > 10
