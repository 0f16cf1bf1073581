"""The sidecar: what is missing is said, what is done stays done, what fails is told with its last lines."""

import json
import stat
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.errors import SidecarError
from bench.sidecar import install, mysql_standin, places
from bench.sidecar.install import setup, steps
from bench.sidecar.places import environment, find_jdk, find_python, interpreter
from bench.sidecar.run import run_pipeline

FAKE = """#!{python} -IS
import pathlib, sys
log = pathlib.Path({log!r})
with log.open("a") as stream:
    print(*sys.argv[1:], file=stream)
words = sys.argv[1:]
if words[:2] == ["-c", "import sys; print(*sys.version_info[:2])"]:
    print("3 9")
elif words[:2] == ["-m", "venv"]:
    target = pathlib.Path(words[2]) / "bin" / "python"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(pathlib.Path(sys.argv[0]).read_text())
    target.chmod(0o755)
elif words[0] == "-c":
    print("4.2.8.1")
elif words[:2] == ["-m", "cellprofiler"]:
    exec(pathlib.Path({log!r}).with_name("behaviour.py").read_text())
elif pathlib.Path({log!r}).with_name("broken").exists() and "-r" in words:
    print("error: no matching distribution")
    sys.exit(1)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose python3.9 and javac write down what they are asked; its home is empty."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (
        ("python3.9", FAKE.format(python=sys.executable, log=str(tmp_path / "calls"))),
        ("javac", "#!/bin/sh\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("JAVA_HOME", "PYENV_ROOT", places.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def calls(machine):
    path = machine / "calls"
    return (
        [] if not path.exists() else [line for line in path.read_text().splitlines() if "-c" not in line[:2]]
    )


def test_setup_goes_through_its_steps_once_and_in_order(machine):
    told = []
    python, version, ran = setup(report=lambda name, number, total: told.append((number, total)))
    assert python == machine / "cache" / "wellbench" / "cellprofiler-4.2.8.1" / "bin" / "python"
    assert version == "4.2.8.1"
    assert len(ran) == 5
    assert told == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    words = [" ".join(line.split()[:5]) for line in calls(machine)]
    assert words[0].startswith("-m venv")
    assert "pip<24" in calls(machine)[1]
    assert "cellprofiler.txt" in calls(machine)[2]
    assert "--no-deps cellprofiler==4.2.8.1" in calls(machine)[3]
    assert "mysql_standin.py" in calls(machine)[4]
    before = len(calls(machine))
    assert setup()[2] == []
    assert len(calls(machine)) == before


def test_a_setup_that_broke_off_goes_on_where_it_was(machine):
    (machine / "broken").touch()
    with pytest.raises(SidecarError, match=r"(?s)exit code 1.*setup.log.*goes on from there.*no matching"):
        setup()
    (machine / "broken").unlink()
    before = len(calls(machine))
    assert len(setup()[2]) == 3
    assert len(calls(machine)) == before + 3


def test_changed_requirements_are_installed_anew(machine, monkeypatch, tmp_path):
    setup()
    copy = tmp_path / "cellprofiler.txt"
    copy.write_text(install.requirements("cellprofiler.txt").read_text() + "more==1\n")
    real = install.requirements
    monkeypatch.setattr(install, "requirements", lambda name: copy if name == copy.name else real(name))
    assert len(setup()[2]) == 1


def test_the_constraints_on_builds_hold_for_the_step_that_builds_only():
    listed = steps(Path("python3.9"), Path("somewhere"))
    assert [bool(step.variables) for step in listed] == [False, False, True, False, False]
    assert listed[2].variables["PIP_CONSTRAINT"].endswith("cellprofiler-build.txt")


def test_a_missing_python_or_jdk_says_where_they_come_from(machine, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for find, words in ((find_python, "pyenv install 3.9"), (find_jdk, "default-jdk-headless")):
        with pytest.raises(SidecarError, match=words):
            find()
    with pytest.raises(SidecarError, match="which is not here"):
        setup()
    with pytest.raises(SidecarError, match="is no program"):
        find_python("/no/python")
    with pytest.raises(SidecarError, match=r"is 3\.1\d; CellProfiler 4.2.8 needs Python 3.9"):
        find_python(sys.executable)
    monkeypatch.setenv("JAVA_HOME", "/opt/jre")
    with pytest.raises(SidecarError, match="JAVA_HOME=/opt/jre has no bin/javac"):
        find_jdk()


def test_another_folder_is_not_overwritten(machine, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(SidecarError, match="something else is there"):
        setup(into=str(tmp_path / "mine"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_the_variable_names_a_folder_or_an_interpreter(machine, monkeypatch):
    setup(into=str(machine / "cp"))
    python = machine / "cp" / "bin" / "python"
    for value in (machine / "cp", python):
        monkeypatch.setenv(places.VARIABLE, str(value))
        assert (environment(), interpreter()) == (machine / "cp", python)
    monkeypatch.setenv(places.VARIABLE, str(machine / "nothing"))
    with pytest.raises(SidecarError, match="run bench cellprofiler setup"):
        interpreter()


@pytest.fixture
def ready(machine):
    """A sidecar, a pipeline and a data file with two image sets; returns what sets its behaviour."""
    setup()
    (machine / "p.cppipe").write_text("CellProfiler Pipeline")
    (machine / "load_data.csv").write_text("FileName_DNA\na.tif\nb.tif\n")
    prologue = "out, done = (pathlib.Path(words[words.index(k) + 1]) for k in ('-o', '-d'))\n"

    def behave(text):
        (machine / "behaviour.py").write_text(prologue + text)

    behave(
        "print('Sat: Image # 1, module MeasureTexture # 2: CPU_time = 1.00 secs, Wall_time = 1.25 secs')\n"
        "print('Sat: Image # 2, module MeasureTexture # 2: CPU_time = 1.00 secs, Wall_time = 0.25 secs')\n"
        "(out / 'Cells.csv').touch()\ndone.write_text('Complete')\n"
    )
    return behave


def test_a_run_reports_files_image_sets_and_seconds_per_module(machine, ready):
    seen = []
    done = run_pipeline(
        machine / "p.cppipe",
        machine / "out",
        data_file=machine / "load_data.csv",
        report=lambda n, total: seen.append((n, total)),
    )
    assert done.files == ("Cells.csv",)
    assert done.image_sets == 2
    assert done.seconds == {"2:MeasureTexture": 1.5}
    assert seen == [(1, 2), (2, 2)]
    assert "MeasureTexture" in (machine / "out" / "cellprofiler.log").read_text()
    assert f"--data-file {machine / 'load_data.csv'}" in calls(machine)[-1]


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        (
            "print('ValueError: no DNA'); sys.exit(3)",
            r"(?s)exit code 3 and status 'nothing'.*ValueError: no DNA",
        ),
        ("done.write_text('Failure')", "exit code 0 and status 'Failure'"),
        ("done.write_text('Complete')", "wrote nothing to .*ExportToSpreadsheet"),
    ],
)
def test_a_run_that_fails_or_writes_nothing_is_an_error(machine, ready, behaviour, sentence):
    ready(behaviour)
    with pytest.raises(SidecarError, match=sentence):
        run_pipeline(machine / "p.cppipe", machine / "out", data_file=machine / "load_data.csv")


def test_missing_inputs_are_named_before_anything_starts(machine, ready):
    out, pipeline, data = machine / "out", machine / "p.cppipe", machine / "load_data.csv"
    before = len(calls(machine))
    (machine / "empty.csv").write_text("FileName_DNA\n")
    (machine / "latin.csv").write_bytes(b"FileName_DNA\n\xe9.tif\n")
    (machine / "endless.csv").write_text('FileName_DNA\n"' + "x" * 200_000)
    for words, sentence in (
        ((machine / "q.cppipe", {"data_file": data}), "no such pipeline"),
        ((pipeline, {}), "neither --images FOLDER nor --data-file CSV"),
        ((pipeline, {"images": machine / "no"}), "no such folder"),
        ((pipeline, {"data_file": machine / "no"}), "no such file"),
        ((pipeline, {"data_file": machine / "empty.csv"}), "no row below its header"),
        ((pipeline, {"data_file": machine / "latin.csv"}), "not a CSV file in UTF-8"),
        ((pipeline, {"data_file": machine / "endless.csv"}), "not a CSV file in UTF-8"),
        ((pipeline, {"data_file": data, "first": 9}), "no image set from --first 9 .* has [12]"),
    ):
        with pytest.raises(SidecarError, match=sentence):
            run_pipeline(words[0], out, **words[1])
    assert len(calls(machine)) == before
    assert not out.exists()


def test_the_commands_print_json(machine, ready, capsys):
    for words in (
        ["setup"],
        ["run", str(machine / "p.cppipe"), "--images", str(machine), "-o", str(machine / "o")],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["cellprofiler", *words, "--json"])
        assert stop.value.code == 0
        found = json.loads(capsys.readouterr().out)
        assert found.get("version", "4.2.8.1") == "4.2.8.1"
        assert found.get("image_sets", 2) == 2


def test_the_stand_in_escapes_as_sql_does_and_connects_to_nothing():
    assert mysql_standin.escape_string("it's") == b"it''s"
    with pytest.raises(mysql_standin.Error, match="SQLite"):
        mysql_standin.connect(host="x")


def test_the_stand_in_leaves_a_real_client_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(mysql_standin.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    monkeypatch.setattr(mysql_standin.importlib.util, "find_spec", lambda _: object())
    mysql_standin._install()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(mysql_standin.importlib.util, "find_spec", lambda _: None)
    mysql_standin._install()
    assert (tmp_path / "MySQLdb" / "__init__.py").stat().st_mode & stat.S_IRUSR
    assert [p.name for p in tmp_path.iterdir()] == ["MySQLdb"]
