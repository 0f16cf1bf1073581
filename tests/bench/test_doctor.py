import importlib.machinery
import json
import sys
from pathlib import Path

import pytest

from bench import doctor
from bench.__main__ import main
from bench.doctor import Finding


def by_status(findings, status):
    return [f.message for f in findings if f.status == status]


def test_this_interpreter_and_its_packages_are_as_asked_for():
    findings = [*doctor._python(), *doctor._requirements()]
    assert by_status(findings, "broken") == []
    assert any("requirements are met" in f.message for f in findings)


def test_a_wrong_version_and_an_absent_package_are_named_with_the_command_that_cures(monkeypatch):
    wanted = ["numpy<1", "no-such-distribution>=2", "pandas; extra == 'dev'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: wanted)
    findings = list(doctor._requirements())
    version, absent, rest = (f.message for f in findings)
    assert version.startswith("numpy ")
    assert version.endswith("is not <1; run: pip install 'numpy<1'")
    assert absent == "no-such-distribution is not installed; run: pip install 'no-such-distribution>=2'"
    assert rest == "0 requirements are met"


def test_an_old_python_is_broken(monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.8.1")
    (message,) = by_status(doctor._python(), "broken")
    assert message.startswith("3.8.1 is not ")


def test_versions_other_than_the_pinned_ones_are_noted(monkeypatch, tmp_path):
    (tmp_path / "bench").mkdir()
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "bench" / "doctor.py"))
    assert list(doctor._tested_versions()) == []
    (tmp_path / "constraints.txt").write_text("# tested\nnumpy==0.1  # old\nno-such-distribution==3\n")
    (finding,) = doctor._tested_versions()
    assert finding.status == "note"
    assert "(tested: 0.1)" in finding.message
    (tmp_path / "constraints.txt").write_text(f"numpy=={doctor.metadata.version('numpy')}\n")
    assert [f.status for f in doctor._tested_versions()] == ["ok"]


def test_a_store_that_can_be_made_or_written_is_fine_and_nothing_is_left_behind(tmp_path):
    for store in (tmp_path, tmp_path / "a" / "b"):
        assert [f.status for f in doctor._store(store)] == ["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_store_below_a_file_is_broken(tmp_path):
    (tmp_path / "file").write_text("")
    (message,) = by_status(doctor._store(tmp_path / "file"), "broken")
    assert "is a file, not a folder; name another with --store" in message


def test_a_store_that_cannot_be_written_is_broken():
    kernel = Path("/proc")
    if not kernel.is_dir():
        pytest.skip("needs a folder that not even root can write to")
    (message,) = by_status(doctor._store(kernel / "store"), "broken")
    assert message.startswith("/proc cannot be written: ")


def test_a_foreign_package_with_our_name_is_named_by_its_path(monkeypatch, tmp_path):
    foreign = tmp_path / "tasks" / "__init__.py"
    foreign.parent.mkdir()
    foreign.write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (finding,) = [f for f in doctor._shadows() if "'tasks'" in f.message]
    assert finding.status == "note"
    assert str(foreign) in finding.message

    def find_spec(name):
        path = foreign if name == "tasks" else Path(doctor.__file__).parents[1] / name / "__init__.py"
        return importlib.machinery.ModuleSpec(name, None, origin=str(path))

    monkeypatch.setattr(doctor.importlib.util, "find_spec", find_spec)
    (message,) = by_status(doctor._shadows(), "broken")
    assert f"package 'tasks' is imported from {foreign}" in message


def test_another_program_called_bench_is_noted(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/games/bench")
    (finding,) = doctor._command()
    assert (finding.status, "use 'wellbench'" in finding.message) == ("note", True)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: str(Path(sys.executable).parent / "bench"))
    assert [f.status for f in doctor._command()] == ["ok"]


@pytest.mark.parametrize(
    ("interpreter", "status", "sentence"),
    [
        ("", "note", "(optional); bench cellprofiler setup makes one"),
        ("/no/such/python", "broken", "no sidecar in /no/such/python"),
        (sys.executable, "broken", "has no working CellProfiler: ModuleNotFoundError"),
    ],
)
def test_the_sidecar_is_asked_for_its_cellprofiler(monkeypatch, tmp_path, interpreter, status, sentence):
    monkeypatch.setenv("WELLBENCH_CELLPROFILER", interpreter)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (finding,) = doctor._cellprofiler()
    assert finding.status == status
    assert sentence in finding.message


def test_a_torch_that_crashes_on_import_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "_TORCH", "raise ImportError('libcudart.so.13: not found')")
    (finding,) = doctor._torch()
    assert finding.status == "broken"
    assert "ImportError: libcudart.so.13: not found" in finding.message


def test_little_memory_or_disk_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LOW_MEMORY_GB", 1e6)
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e6)
    status = {f.check: f.status for f in doctor._machine(tmp_path)}
    assert status == {"cpu": "ok", "memory": "note", "disk": "note"}


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_the_exit_code_is_one_only_when_something_is_broken(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "examine", lambda store: [Finding("x", status, "a [message]")])
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert (stop.value.code or 0) == code
    assert "a [message]" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out) == [{"check": "x", "status": status, "message": "a [message]"}]


@pytest.mark.slow
def test_every_check_runs_and_nothing_is_broken_here(tmp_path):
    findings = doctor.examine(tmp_path / "store")
    assert by_status(findings, "broken") == []
    assert {"install", "python", "packages", "torch", "torchvision", "store", "shadow", "plugins"} <= {
        f.check for f in findings
    }
