"""The commit primitive: whole or not at all, once, with the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.store import Store, digest
from bench.store.manifest import SCHEMA_VERSION


def text(name: str = "a.txt", value: str = "x"):
    return lambda folder: (folder / name).write_text(value)


def test_the_first_commit_wins_and_the_second_is_told_so(store):
    assert store.commit("runs/key=k", text(value="first"), {})
    assert not store.commit("runs/key=k", text(value="second"), {})
    assert (store.path("runs/key=k") / "a.txt").read_text() == "first"


def test_a_commit_that_loses_the_race_while_it_writes_returns_false_and_leaves_nothing(store):
    def slow(folder: Path) -> None:
        text(value="loser")(folder)
        assert store.commit("runs/key=k", text(value="winner"), {})

    assert not store.commit("runs/key=k", slow, {})
    assert (store.path("runs/key=k") / "a.txt").read_text() == "winner"
    assert list((store.root / ".tmp").iterdir()) == []


def test_the_manifest_holds_content_and_provenance_stands_apart(store):
    document = {"a": 1}
    store.commit("runs/key=" + digest(document), text(), {"key_document": document, "provenance": {"s": 1.5}})
    [folder] = store.list()
    manifest = store.manifest(folder)
    assert manifest["key"] == digest(document)
    assert manifest["files"]["a.txt"]["bytes"] == 1
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert manifest["provenance"] == {"s": 1.5}
    assert b"1.5" not in (store.path(folder) / "manifest.json").read_bytes()


def test_two_stores_get_the_same_bytes_whatever_the_provenance(tmp_path, fill, contents):
    fill(Store(tmp_path / "one"))
    fill(Store(tmp_path / "two" / "deeper"), plates=("a/b", "P1"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two" / "deeper")


def test_a_key_that_is_not_the_digest_of_its_document_is_refused(store):
    with pytest.raises(StoreError, match="key"):
        store.commit("runs/key=k", text(), {"key_document": {"a": 1}})
    with pytest.raises(StoreError, match="digest"):
        store.commit("runs/run=k", text(), {"key": "0", "key_document": {"a": 1}})
    with pytest.raises(StoreError, match="'files'"):
        store.commit("runs/run=k", text(), {"files": {}})
    assert store.list() == []


def test_a_manifest_that_cannot_be_stored_is_refused_before_the_work_is_done(store):
    written = []
    for wrong in ({"seen": {1}}, {"provenance": {"seconds": float("nan")}}, {"sha256": "0"}):
        with pytest.raises(StoreError):
            store.commit("runs/key=k", written.append, wrong)
    assert written == []


def test_an_error_of_the_writer_is_passed_on_and_leaves_nothing(store):
    def write(folder: Path) -> None:
        text()(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.commit("runs/key=k", write, {})
    assert list((store.root / ".tmp").iterdir()) == []
    assert store.list() == []
    missing = store.root.parent / "missing.tif"
    with pytest.raises(FileNotFoundError, match=r"missing\.tif"):
        store.commit("runs/key=k", lambda _: missing.read_bytes(), {})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_whatever_step_the_disk_refuses_nothing_is_left(store, monkeypatch, code):
    real = os.fsync
    refusals = {}
    for n in range(20):
        calls = iter(range(1000))

        def fsync(handle: int, n: int = n, calls=calls) -> None:
            if next(calls) == n:
                raise OSError(code, os.strerror(code))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            store.commit(f"runs/key={n}", text(), {})
        except StoreError as error:
            refusals[n] = str(error)
        assert list((store.root / ".tmp").iterdir()) == []
        monkeypatch.setattr(os, "fsync", real)
        assert store.verify() == []
    assert len(refusals) > 3
    assert all(f"key={n}" in refusal for n, refusal in refusals.items())
    store.commit("runs/key=0", text(), {})
    assert store.has("runs/key=0")


def test_a_refusal_of_the_disk_inside_the_writer_names_the_part_and_not_the_temporary_folder(store):
    def write(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "part.parquet"))

    with pytest.raises(StoreError, match="no space left") as caught:
        store.commit("runs/key=k", write, {})
    assert "runs/key=k" in str(caught.value)
    assert ".tmp" not in str(caught.value)


@pytest.mark.parametrize(
    "folder", ["", "/abs", "../out", "a/../b", "a//b", "a/", ".tmp/x", "ü", "a b", "a\\b", "a%2"]
)
def test_a_folder_that_could_leave_the_store_is_refused(store, folder):
    with pytest.raises(StoreError, match="no folder of a store"):
        store.commit(folder, text(), {})


def test_a_writer_may_not_leave_links_or_a_manifest(store):
    with pytest.raises(StoreError, match=r"manifest\.json"):
        store.commit("runs/key=k", text("manifest.json"), {})
    with pytest.raises(StoreError, match="link"):
        store.commit("runs/key=k", lambda folder: (folder / "link").symlink_to("/etc/passwd"), {})
    assert store.list() == []


def test_nothing_is_committed_inside_a_committed_folder_or_over_strangers(store):
    store.commit("runs/key=k", text(), {})
    with pytest.raises(StoreError, match="cannot stand inside"):
        store.commit("runs/key=k/fold=1", text(), {})
    stranger = store.root / "runs" / "key=s"
    stranger.mkdir()
    (stranger / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        store.commit("runs/key=s", text(), {})
    assert (stranger / "notes.txt").read_text() == "mine"


def test_list_shows_committed_folders_below_a_prefix_in_order(store):
    for name in ("runs/key=b", "runs/key=a", "scores/key=a/fold=1"):
        store.commit(name, text(), {})
    (store.root / "runs" / "key=empty").mkdir()
    assert store.list() == ["runs/key=a", "runs/key=b", "scores/key=a/fold=1"]
    assert store.list("scores") == ["scores/key=a/fold=1"]
    assert store.list("runs/key=a") == ["runs/key=a"]
    assert store.list("nothing") == []
    assert not store.has("runs/key=empty")
    with pytest.raises(StoreError, match="not committed"):
        store.path("runs/key=empty")


def test_gc_removes_what_the_dead_left_and_spares_the_young(store):
    store.commit("runs/key=k", text(), {})
    old, young = (store.root / ".tmp" / name for name in ("0" * 32, "1" * 32))
    half = store.root / f".store.json.{'2' * 32}"
    half.write_text("{")
    long_ago = time.time() - 100_000
    for leftover in (old, young):
        leftover.mkdir()
        (leftover / "part.parquet").write_text("half")
    for path in (old / "part.parquet", old, young, half):
        os.utime(path, (long_ago, long_ago))
    assert store.list() == ["runs/key=k"]
    assert store.gc() == sorted([old.name, half.name])
    assert young.exists()
    assert store.gc(timedelta(0)) == [young.name]
    assert store.verify() == []


def test_gc_removes_abandoned_trainings_and_spares_those_under_way_or_young(store):
    long_ago = time.time() - 100_000
    for name in ("abandoned", "held", "young"):
        work = store.root / ".work" / name / "work"
        work.mkdir(parents=True)
        (work.parent / "lock").touch()
        (work / "checkpoint.safetensors").write_text("half")
        for path in (work / "checkpoint.safetensors", work.parent / "lock", work, work.parent):
            os.utime(path, (long_ago, long_ago))
    (store.root / ".work" / "young" / "work" / "checkpoint.safetensors").touch()
    with (store.root / ".work" / "held" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert store.gc() == ["abandoned"]
        assert store.gc(timedelta(0)) == ["young"]
    assert [p.name for p in (store.root / ".work").iterdir()] == ["held"]
    assert (store.root / ".work" / "held" / "work" / "checkpoint.safetensors").exists()
    assert store.gc() == ["held"]


def test_a_store_is_not_made_where_it_should_be_found_or_where_something_else_is(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        Store(tmp_path / "none", create=False)
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        Store(tmp_path)
    Store(tmp_path / "new" / "deep")
    assert Store(tmp_path / "new" / "deep", create=False).list() == []


def test_a_store_of_another_format_is_not_touched(tmp_path):
    (tmp_path / "store.json").write_text('{"format": "wellbench-store", "schema_version": 2}\n')
    with pytest.raises(StoreError, match="newer wellbench"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", [b"", b'{"files"', b"\0" * 300, b"[]", b"{}", b'{"schema_version": "1"}'])
def test_a_damaged_manifest_is_named(store, damage):
    store.commit("runs/key=k", text(), {})
    (store.root / "runs/key=k/manifest.json").write_bytes(damage)
    with pytest.raises(StoreError, match=r"runs/key=k/manifest\.json"):
        store.manifest("runs/key=k")
    [problem] = store.verify()
    assert problem.file == "manifest.json"


def test_a_manifest_of_a_newer_schema_asks_for_a_newer_program(store):
    store.commit("runs/key=k", text(), {})
    path = store.root / "runs/key=k/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(StoreError, match=r"schema version 99.*newer wellbench"):
        store.manifest("runs/key=k")


def test_a_manifest_that_was_edited_or_moved_is_not_believed(store):
    store.commit("runs/key=k", text(), {"note": 1})
    path = store.root / "runs/key=k/manifest.json"
    (store.root / "runs/key=k").rename(store.root / "runs/key=moved")
    with pytest.raises(StoreError, match="belongs to runs/key=k"):
        store.manifest("runs/key=moved")
    (store.root / "runs/key=moved").rename(store.root / "runs/key=k")
    path.write_text(path.read_text().replace('"note": 1', '"note": 2'))
    with pytest.raises(StoreError, match="changed after"):
        store.manifest("runs/key=k")


def test_verify_finds_changed_missing_and_stray_files(store, fill):
    fill(store)
    assert store.verify() == []
    first, second, scores, summands = store.list()
    (store.root / first / "part.parquet").write_bytes(
        b"\0" * (store.root / first / "part.parquet").stat().st_size
    )
    (store.root / second / "cells.parquet").unlink()
    (store.root / scores / "extra.txt").write_text("?")
    (store.root / "scores" / "loose.txt").write_text("?")
    with (store.root / summands / "summands.parquet").open("ab") as file:
        file.write(b"!")
    found = {(p.folder, p.file): p.what for p in store.verify()}
    assert "sha256" in found.pop((first, "part.parquet"))
    assert "missing" in found.pop((second, "cells.parquet"))
    assert "no manifest" in found.pop((scores, "extra.txt"))
    assert "no committed folder" in found.pop(("scores", "loose.txt"))
    assert "bytes instead of" in found.pop((summands, "summands.parquet"))
    assert not found
    assert [p.folder for p in store.verify(first)] == [first]


def test_a_store_that_another_writer_makes_meanwhile_is_opened(tmp_path, monkeypatch):
    import importlib

    module = importlib.import_module("bench.store.store")
    listed = module._plain_entries

    def late(root):
        monkeypatch.setattr(module, "_plain_entries", listed)
        module.Store(root)
        return listed(root)

    monkeypatch.setattr(module, "_plain_entries", late)
    assert module.Store(tmp_path / "store").list() == []
