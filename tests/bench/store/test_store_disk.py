"""Real disks that are full, read-only or not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.errors import StoreError
from bench.store import Store, connect, read_features
from bench.store.keys import digest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 160 kB."""
    disk = tmp_path / "small disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this machine does not let root mount: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_a_sentence_and_what_was_committed_stays(small_disk, fill, contents):
    store = Store(small_disk / "store")
    fill(store, plates=("P1",))
    before = contents(store.root)
    with pytest.raises(StoreError, match=r"no space left on the disk of .*free some space"):
        store.commit("runs/key=k", lambda f: (f / "big.bin").write_bytes(bytes(10**6)), {})
    with pytest.raises(StoreError, match="no space left"):
        fill(store, plates=tuple(f"P1{i}" for i in range(200)))
    assert store.verify() == []
    assert before.items() <= contents(store.root).items()
    assert list((store.root / ".tmp").iterdir()) == []


def test_a_disk_that_is_full_for_weights_says_so_too(small_disk):
    store = Store(small_disk / "store")
    weights = {"w": np.zeros(100_000, np.float32)}
    with pytest.raises(StoreError, match=r"no space left on the disk of .*weights/key=k"):
        store.commit("weights/key=k", lambda f: save_file(weights, f / "w.safetensors"), {})
    assert list((store.root / ".tmp").iterdir()) == []


def test_a_read_only_disk_can_be_read_and_says_why_it_cannot_be_written(small_disk, fill):
    store = Store(small_disk / "store")
    fill(store, plates=("P1",))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = Store(small_disk / "store")
    with pytest.raises(StoreError, match="read-only disk"):
        fill(store, plates=("P2",))
    with pytest.raises(StoreError, match="read-only disk"):
        Store(small_disk / "other")
    assert store.verify() == []
    with connect(store) as connection:
        assert connection.sql("SELECT count(*) FROM features").fetchall() == [(3,)]


def test_a_store_of_someone_else_says_permission_denied(fill, part):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Store(Path(folder) / "store")
        fill(store, plates=("P1",))
        for path in (store.root, *store.root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match=r"permission denied.*change its owner"):
                fill(store, plates=("P2",))
            features = read_features(store, "demo@1", "intensity", part("P1").key)
            assert len(features.wells) == 3
        finally:
            os.seteuid(me)
            for path in (store.root, *store.root.rglob("*")):
                path.chmod(0o755)


def test_a_name_too_long_for_the_disk_is_a_sentence(store, fill):
    with pytest.raises(StoreError, match="longer than the disk allows"):
        fill(store, plates=("ü" * 200,))
    assert digest({}) not in str(store.list())
    assert store.list() == []
