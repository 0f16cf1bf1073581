"""The work folder of a fit: one holder at a time, kept after a failure, gone when done."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.weights import workdir


def test_the_folder_is_gone_when_done_and_kept_after_a_failure(tmp_path: Path) -> None:
    stable = tmp_path / ".work" / "key"

    def fail() -> None:
        with workdir(stable) as work:
            (work / "checkpoint").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with workdir(stable) as work:
        assert (work / "checkpoint").exists()
    assert not stable.exists()


def test_a_second_holder_works_in_a_passing_folder(tmp_path: Path) -> None:
    stable = tmp_path / ".work" / "key"
    with workdir(stable) as first, workdir(stable) as second:
        assert second != first
        assert second.is_dir()
    assert list(stable.parent.iterdir()) == []


def test_a_lock_that_was_removed_after_it_was_opened_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import shutil

    stable = tmp_path / ".work" / "key"
    flock, calls = fcntl.flock, []

    def late(file: object, operation: int) -> None:
        if not calls:
            shutil.rmtree(stable)  # the holder before us is done just now
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with workdir(stable) as work:
        assert work.is_dir()
    assert len(calls) == 2
