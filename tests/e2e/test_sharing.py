"""Runs shared as an archive: scored again where they are merged, and refused where they do not belong."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench import entries
from bench.errors import BenchError
from bench.sharing.archive import Archive
from bench.sharing.export import export
from bench.sharing.merge import merge
from bench.store import Store
from bench.store.tables import read_matrix, write_matrix
from tests.bench.shelf import command


def run_of(store: Store, label: str) -> str:
    return entries.records(store, {"label": label})[0]["run"]


@pytest.fixture
def archive(scored: Path, tmp_path: Path) -> Path:
    store = Store(scored)
    export(store, [run_of(store, "intensity")], tmp_path / "entry.zip")
    return tmp_path / "entry.zip"


@pytest.fixture
def here(scored: Path, tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(scored, tmp_path / "here")))


def repacked(archive: Path, change, *, rehash: bool = True) -> Path:
    """Write the archive again after ``change(files)``, with hashes that fit unless not wanted."""
    with zipfile.ZipFile(archive) as old:
        files = {name: old.read(name) for name in old.namelist()}
    index = json.loads(files.pop("entry.json"))
    change(files, index)
    if rehash:
        index["files"] = {
            n: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in files.items()
        }
    out = archive.with_name("changed.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in {"entry.json": json.dumps(index).encode(), **files}.items():
            new.writestr(name, content)
    return out


def test_a_merged_run_has_the_score_of_its_predictions_and_is_marked(here: Store, archive: Path) -> None:
    own = entries.load_entry(here, run_of(here, "intensity"))
    done = merge(here, archive)
    assert (len(done.runs), done.refused) == (1, [])
    imported = entries.load_entry(here, done.runs[0])
    assert imported.label == "intensity [imported]"
    assert imported.run != own.run
    np.testing.assert_array_equal(imported.e, own.e)
    np.testing.assert_array_equal(imported.e0, own.e0)
    assert any("not checked" in text for text in imported.warnings)
    assert entries.verify(here, done.runs[0])["verified"]
    assert merge(here, archive).runs == done.runs


def test_the_archive_has_no_path_of_its_machine_and_the_same_bytes_again(
    scored: Path, archive: Path, tmp_path: Path
) -> None:
    store = Store(scored)
    export(store, [run_of(store, "intensity")], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        assert not any(str(scored.parent).encode() in opened.read(name) for name in opened.namelist())


def test_claimed_scores_and_floors_are_not_believed(here: Store, archive: Path, tmp_path: Path) -> None:
    def flatter(files, index):
        for name in files:
            if "predictions" in name:
                path = tmp_path / "p.parquet"
                path.write_bytes(files[name])
                rows, values = read_matrix(path)
                path.unlink()
                write_matrix(path, rows, values | {"floor": values["floor"] + np.float32(100)}, {})
                files[name] = path.read_bytes()

    done = merge(here, repacked(archive, flatter))
    own = entries.load_entry(here, run_of(here, "intensity"))
    np.testing.assert_array_equal(entries.load_entry(here, done.runs[0]).e0, own.e0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own["problem"].update(readouts="0"), "readouts are not those"),
        (lambda own: own["problem"].update(measured="0"), "measured values are not those"),
        (lambda own: own["problem"].update(folds="0"), "folds are not those"),
        (lambda own: own["protocol"].update(hash="0"), "protocol"),
        (lambda own: own["dataset"].update(version="2"), "version of the dataset is '2'"),
        (lambda own: own["dataset"].update(name="other"), "dataset is 'other'"),
        (lambda own: own.update(layer="transcripts"), "readout layer"),
        (lambda own: own.update(role="floor"), "role is 'floor'"),
        (lambda own: own.update(label="x" * 300), "more than 200"),
        (lambda own: own.update(label="\x1b[31m"), "cannot be printed"),
        (lambda own: own.update(folds=[[9, 9]]), "folds that the local board does not have"),
        (lambda own: own.update(card=None), "lacks the card"),
        (lambda own: own.update(folds=own["folds"][:1]), "lacks 4 folds of its first 1 repeats"),
        (lambda own: own.update(folds=own["folds"][5:]), "lacks 5 folds of its first 5 repeats"),
    ],
)
def test_a_run_of_another_board_is_refused_with_the_reason(
    here: Store, archive: Path, change, message
) -> None:
    done = merge(here, repacked(archive, lambda _, index: change(index["runs"][0])))
    assert done.runs == []
    assert message in done.refused[0]
    assert len(here.list("runs")) == 5


def test_a_run_over_the_first_repeat_is_merged(here: Store, archive: Path) -> None:
    def cut(files, index):
        own = index["runs"][0]
        own["folds"] = [fold for fold in own["folds"] if fold[0] == 0]

    done = merge(here, repacked(archive, cut))
    assert (len(done.runs), done.refused) == (1, [])


def test_a_refused_name_cannot_steer_the_terminal(here: Store, archive: Path) -> None:
    done = merge(here, repacked(archive, lambda _, index: index["runs"][0].update(label="\x1b[2Jgone\x07")))
    assert done.refused[0].startswith("\ufffd[2Jgone\ufffd: ")


def test_infinite_predictions_are_refused_and_the_other_runs_merged(
    scored: Path, here: Store, tmp_path: Path
) -> None:
    runs = [run_of(Store(scored), "intensity"), run_of(Store(scored), "cell-count")]
    export(Store(scored), runs, tmp_path / "two.zip")

    def spoil(files, index):
        name = f"runs/{runs[0]}/predictions/0-0.parquet"
        path = tmp_path / "p.parquet"
        path.write_bytes(files[name])
        rows, values = read_matrix(path)
        path.unlink()
        write_matrix(path, rows, values | {"prediction": values["prediction"] + np.float32(np.inf)}, {})
        files[name] = path.read_bytes()

    done = merge(here, repacked(tmp_path / "two.zip", spoil))
    assert len(done.runs) == 1
    assert "infinite predictions" in done.refused[0]


def test_runs_of_two_authors_that_are_called_the_same_both_stand(here: Store, archive: Path) -> None:
    def other(files, index):
        own = index["runs"][0]
        for name in [name for name in files if own["run"] in name]:
            files[name.replace(own["run"], "f" * 16)] = files.pop(name)
        own.update(run="f" * 16, preset="theirs")

    merged = [*merge(here, archive).runs, *merge(here, repacked(archive, other)).runs]
    kept = {record["run"] for record in entries.newest(entries.records(here, {}))}
    assert len(set(merged)) == 2
    assert set(merged) <= kept


def first(files: dict[str, bytes]) -> str:
    return next(name for name in files if "predictions" in name)


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "runs/../../x", "C:/x", "\\\\host\\x", "a\\..\\b", "x.pkl", "x.txt", "runs/"]
)
def test_a_member_with_an_unsafe_or_foreign_name_is_refused(archive: Path, name: str) -> None:
    changed = repacked(archive, lambda files, _: files.update({name: b"x"}))
    with pytest.raises(BenchError, match=r"unsafe path|does not belong|pickle|special file"):
        Archive(changed)


def test_a_link_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive) as old:
        index = old.read("entry.json")
    out = archive.with_name("link.zip")
    with zipfile.ZipFile(out, "w") as new:
        new.writestr("entry.json", index)
        link = zipfile.ZipInfo(f"runs/{'a' * 16}/scores.parquet")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        new.writestr(link, "/etc/passwd")
    with pytest.raises(BenchError, match="link"):
        Archive(out)


def test_a_bomb_is_refused_before_it_is_unpacked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = repacked(archive, lambda files, _: files.update({first(files): b"\0" * (8 << 20)}))
    with pytest.raises(BenchError, match="bomb"):
        Archive(changed)
    monkeypatch.setattr("bench.sharing.archive.MOST_BYTES", 1000)
    with pytest.raises(BenchError, match="too large"):
        Archive(archive)


def test_a_newer_schema_says_so(archive: Path) -> None:
    out = archive.with_name("newer.zip")
    with zipfile.ZipFile(out, "w") as new:
        new.writestr("entry.json", json.dumps({"format": "wellbench-entry", "schema_version": 2}))
    with pytest.raises(BenchError, match="newer wellbench"):
        Archive(out)


def test_a_changed_member_and_what_is_no_table_are_refused(here: Store, archive: Path) -> None:
    def spoil(files, _):
        files[first(files)] = b"PAR1 no table"

    assert "sha256 differs" in merge(here, repacked(archive, spoil, rehash=False)).refused[0]
    assert "no Parquet file" in merge(here, repacked(archive, spoil)).refused[0]


@pytest.mark.parametrize("content", [b"", b"no zip", io.BytesIO().getvalue() + b"PK\x05\x06"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BenchError, match="no ZIP"):
        Archive(tmp_path / "x.zip")


def test_floors_and_existing_files_are_not_exported(scored: Path, archive: Path, tmp_path: Path) -> None:
    store = Store(scored)
    with pytest.raises(BenchError, match="role floor"):
        export(store, [run_of(store, "training mean")], tmp_path / "floor.zip")
    with pytest.raises(BenchError, match="exists"):
        export(store, [run_of(store, "intensity")], archive)


def _named(name):
    return lambda archive: repacked(archive, lambda files, _: files.update({name: b"x"}))


def _said(change):
    return lambda archive: repacked(archive, lambda _, index: change(index["runs"][0]))


def _link(archive: Path) -> Path:
    out = archive.with_name("link.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w") as new:
        new.writestr("entry.json", old.read("entry.json"))
        link = zipfile.ZipInfo(f"runs/{'a' * 16}/scores.parquet")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        new.writestr(link, "/etc/passwd")
    return out


def _newer(archive: Path) -> Path:
    out = archive.with_name("newer.zip")
    with zipfile.ZipFile(out, "w") as new:
        new.writestr("entry.json", json.dumps({"format": "wellbench-entry", "schema_version": 2}))
    return out


def _other_predictions(archive: Path) -> Path:
    def swap(files, _):
        one, two = [name for name in sorted(files) if "predictions" in name][:2]
        files[one] = files[two]

    return repacked(archive, swap, rehash=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_named("/etc/x"), "unsafe path '/etc/x'", id="absolute"),
        pytest.param(_named("runs/../../x"), "unsafe path", id="upwards"),
        pytest.param(_link, "is a link", id="link"),
        pytest.param(
            lambda archive: repacked(
                archive, lambda files, _: files.update({first(files): b"\0" * (8 << 20)})
            ),
            "taken for a bomb",
            id="oversize",
        ),
        pytest.param(_newer, "install a newer wellbench", id="newer schema"),
        pytest.param(
            _said(lambda own: own["problem"].update(readouts="0")), "readouts are not those", id="readouts"
        ),
        pytest.param(
            _said(lambda own: own["protocol"].update(hash="0")), "its protocol is '0'", id="protocol"
        ),
        pytest.param(_other_predictions, "its sha256 differs", id="predictions"),
    ],
)
def test_the_command_refuses_an_archive_with_the_reason_and_takes_nothing(
    scored: Path, archive: Path, capsys, spoil, message
) -> None:
    store = Store(scored)
    before = store.list()
    status, out, told = command(capsys, "leaderboard", "--store", scored, "--add", spoil(archive))
    assert (status, out) == (1, "")
    assert message in told.replace("\n", " ")
    assert "Traceback" not in told
    assert store.list() == before


def test_an_imported_run_beside_its_original_resolves_nothing_and_says_so(
    here: Store, archive: Path, capsys
) -> None:
    status, out, told = command(
        capsys, "leaderboard", "--store", here.root, "--add", archive, "--format", "markdown"
    )
    assert status == 0
    assert "1 merged, 0 refused" in told
    assert "intensity \\[imported\\]" in out
    assert "0.000 mean skill" not in out
    assert "The ranked runs made the same errors: there is nothing to tell apart." in out


def test_a_task_from_a_plugin_is_merged_with_its_file(here: Store, archive: Path, capsys, tmp_path) -> None:
    marked = tmp_path / "executed"
    plugin = tmp_path / "own.py"
    plugin.write_text(f"open({str(marked)!r}, 'w').close()\n", encoding="utf-8")
    words = ("leaderboard", "--store", here.root, "--add", archive)
    command(capsys, *words)
    assert not marked.exists()
    command(capsys, *words, "--plugin", plugin)
    assert marked.exists()


def test_export_through_the_command_says_what_it_wrote_or_why_not(scored: Path, capsys, tmp_path) -> None:
    store, out = Store(scored), tmp_path / "e.zip"
    words = ("submit", "export", "--store", scored, "--out", out)
    status, told, _ = command(capsys, *words, run_of(store, "intensity")[:8])
    assert (status, out.exists()) == (0, True)
    assert "intensity" in told
    status, _, why = command(capsys, *words[:-1], tmp_path / "f.zip", run_of(store, "training mean"))
    assert (status, (tmp_path / "f.zip").exists()) == (1, False)
    assert "role floor" in why
