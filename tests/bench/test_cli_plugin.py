import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.errors import UsageError
from bench.plugins.scaffold import scaffold

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(capsys):
    """Run the command line; return exit code, standard output and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(w) for w in words])
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


def test_a_scaffolded_featurizer_passes_the_conformance_suite_and_is_listed(call, tmp_path):
    folder = tmp_path / "my pläce"  # a path with a space and a letter that is not ASCII
    code, out, _ = call("plugin", "new", "featurizer", "rough-edges", "--out", folder)
    assert code == 0
    module = folder / "wellbench_rough_edges.py"
    assert str(module) in out.replace("\n", "")
    code, out, _ = call("plugin", "test", module, "--json")
    assert code == 0
    (results,) = json.loads(out).values()
    assert {r["status"] for r in results if r["name"] not in TRAINING} == {"passed"}
    rows = json.loads(call("featurizers", "--plugin", module, "--json")[1])
    assert next(r for r in rows if r["name"] == "rough-edges")["available"] is True


TRAINING = ("save-load", "strict-load", "fit-deterministic", "resume")


def test_the_scaffold_is_about_thirty_lines_of_code(tmp_path):
    module = next(p for p in scaffold("featurizer", "tiny", tmp_path / "t") if p.name == "wellbench_tiny.py")
    lines = [line for line in module.read_text().splitlines() if line.strip()]
    assert len(lines) <= 45


def test_the_default_folder_carries_the_name(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("plugin", "new", "featurizer", "x2")[0] == 0
    assert (tmp_path / "wellbench-x2" / "tests" / "test_contract.py").is_file()


def test_the_scaffolded_package_runs_its_own_test(tmp_path):
    folder = tmp_path / "package"
    scaffold("featurizer", "own-test", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling to build the outside package")
def test_an_installed_outside_package_is_found_by_its_entry_point(tmp_path):
    folder, site = tmp_path / "package", tmp_path / "site"
    scaffold("featurizer", "outsider", folder)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(folder)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "featurizers", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    row = next(r for r in json.loads(done.stdout) if r["name"] == "outsider")
    assert (row["origin"], row["available"]) == ("wellbench-outsider 0.1.0", True)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("head", "mine", "there is no scaffold for a head"),
        ("featurizer", "My Net", "'My Net' cannot be a name"),
        ("featurizer", "-x", "cannot be a name"),
        ("featurizer", "../up", "cannot be a name"),
    ],
)
def test_what_cannot_be_scaffolded_is_refused(tmp_path, kind, name, sentence):
    with pytest.raises(UsageError) as error:
        scaffold(kind, name, tmp_path / "out")
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_never_written_to(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not an empty folder"):
        scaffold("featurizer", "mine", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_name_that_is_taken_is_refused(call, tmp_path):
    code, _, err = call("plugin", "new", "featurizer", "intensity", "--out", tmp_path / "x")
    assert code == 2
    assert "exists already" in err


def test_a_failing_featurizer_exits_with_one_and_a_clear_sentence(call, tmp_path):
    path = tmp_path / "not a nümber.py"
    path.write_text(
        "import dataclasses\n"
        "import numpy as np\n"
        "from featurizers.cell_count import CellCount\n"
        "class Nan(CellCount):\n"
        "    card = dataclasses.replace(CellCount.card, name='nan')\n"
        "    def embed(self, fields):\n"
        "        found = super().embed(fields)\n"
        "        return dataclasses.replace(found, values=found.values * np.float32('nan'))\n"
    )
    code, out, _ = call("plugin", "test", path, "--json")
    assert code == 1
    failed = [r for r in json.loads(out)["nan"] if r["status"] == "failed"]
    assert [r["name"] for r in failed] == ["finite"]
    assert failed[0]["message"].startswith(
        "12 of 12 values are NaN or infinite, the first in column 0 of field 0"
    )
    code, out, _ = call("plugin", "test", path)
    assert code == 1
    assert "nan: " in out
    assert "1 failed" in out


def test_settings_and_presets_reach_the_featurizer_under_test(call):
    code, out, _ = call("plugin", "test", "intensity", "--preset", "mean", "--channels", "7", "--json")
    assert code == 0
    columns = next(r for r in json.loads(out)["intensity"] if r["name"] == "columns")
    assert columns["message"] == "7 of 7 channels"
    code, out, _ = call("plugin", "test", "position", "--set", "position.plate=none", "--json")
    assert code == 0
    assert "43 of 1, 43 of 2, 43 of 5 channels" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("intensty",), "did you mean 'intensity'?"),
        (("intensity", "--preset", "maen"), "did you mean 'mean'?"),
        (("intensity", "--set", "position.plate=none"), "--set position: that is not what is tested"),
        (("no_such_file.py",), "no such Python file"),
    ],
)
def test_wrong_words_are_wrong_usage(call, words, sentence):
    code, _, err = call("plugin", "test", *words)
    assert code == 2
    assert sentence in err


def test_a_file_with_heads_alone_has_no_suite(call, tmp_path):
    path = tmp_path / "head.py"
    path.write_text(
        "from tasks.base import Head\n"
        "class Zero(Head):\n"
        "    name, version = 'zero', '1'\n"
        "    def fit(self, X, Y, mask, groups): return self\n"
        "    def predict(self, X): raise NotImplementedError\n"
    )
    code, _, err = call("plugin", "test", path)
    assert code == 2
    assert "only those have a conformance suite" in err
