"""The commands, from the command line's entry; and the documentation's example."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.__main__ import main
from bench.datasets import check, join, join_with_report, load

DOCS = Path(__file__).parents[3] / "docs" / "datasets.md"


def bench(*words):
    """Run the command line in this process; return its exit code."""
    try:
        main([str(w) for w in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def fences(text):
    """Return (info string, body) of every fenced block."""
    return re.findall(r"^```([^\n]+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(body):
    return [shlex.split(line) for line in body.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_worked_example_of_the_documentation_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = fences(DOCS.read_text(encoding="utf-8"))
    for info, body in blocks:
        if "file=" in info:
            Path(info.split("file=")[1]).write_text(body, encoding="utf-8")
    ran = next(commands(body) for info, body in blocks if info == "sh")
    for words in ran:
        assert words[0] == "bench"
        assert bench(*words[1:]) == 0
    assert len(ran) == 3
    said = capsys.readouterr().out
    assert "vorinostat" in said
    assert "0 errors, 3 warnings" in said
    assert "6 wells on 1 plate × 2 features" in said
    assert Path("dataset.toml").read_text().endswith('name = "cellprofiler"\ntable = "profiles.csv"\n')


def test_the_dose_rules_of_the_documentation_are_those_of_the_join(tmp_path):
    blocks = dict(fences(DOCS.read_text(encoding="utf-8")))
    for info, body in blocks.items():
        if "file=" in info:
            (tmp_path / info.split("file=")[1]).write_text(body, encoding="utf-8")
    a, b, c = 1.0, 10.0, 100.0
    X = np.array([[0.0], [a], [b], [c], [0.0], [0.0]])
    toml = (tmp_path / "dataset.toml").read_text()
    for rule, expected in {
        'dose_rule = "each"': [a, (b + c) / 2],
        'dose_rule = "mean"': [(a + b + c) / 3],
        'dose_rule = "top"': [(b + c) / 2],
        'dose_rule = "top"\njoin = "broadcast"': [b, c],
    }.items():
        (tmp_path / "dataset.toml").write_text(toml.replace('dose_rule = "top"', rule))
        data = load(tmp_path)
        task = join(data, data.layer("rna"), data.wells)
        mine = task.groups == "aspirin"
        np.testing.assert_allclose((task.members @ X)[mine, 0], expected)
        np.testing.assert_array_equal(task.Y[mine, 0], [0.5] * len(expected))


def test_a_new_dataset_is_readable_and_says_what_it_lacks(tmp_path, capsys):
    folder = tmp_path / "my screen"
    assert bench("dataset", "new", folder) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["dataset.toml", "images.csv", "wells.csv"]
    assert bench("dataset", "check", folder) == 1
    assert "the wells table has no row" in capsys.readouterr().out
    assert bench("dataset", "new", folder) == 1
    assert "not empty" in capsys.readouterr().err


def test_check_as_json_is_strict_and_exits_by_errors(small, capsys):
    assert bench("dataset", "check", small, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": "small", "errors": 0, "findings": []}
    (small / "images" / "A01_DNA.tif").unlink()
    assert bench("dataset", "check", small, "--json", "--no-pixels") == 1
    found = json.loads(capsys.readouterr().out)["findings"][0]
    assert (found["severity"], found["code"], found["rows"]) == ("error", "missing-file", [1])


@pytest.mark.parametrize("width", ["80", "120"])
def test_findings_fit_the_terminal_and_names_are_not_markup(small, edit, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", width)
    edit("rna.csv", "TP53", "[red]TP53[/red]", 1)
    lines = (small / "rna.csv").read_text().splitlines()
    flat = [lines[0], *(line.rsplit(",", 1)[0] + ",1" for line in lines[1:])]
    (small / "rna.csv").write_text("\n".join(flat) + "\n")
    assert bench("dataset", "check", small) == 0
    said = capsys.readouterr().out
    assert "[red]TP53[/red]" in "".join(said.split())
    assert max(len(line) for line in said.splitlines()) <= int(width)


@pytest.mark.parametrize("option", [[], ["--dataset"], ["-d"]], ids=["argument", "long", "short"])
def test_show_counts_what_is_there(small, capsys, option):
    assert bench("dataset", "show", *option, small, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["plates"], facts["wells"], facts["perturbations"], facts["controls"]) == (1, 6, 3, 2)
    assert (facts["images"], facts["channels"]) == (12, ["DNA (Hoechst)", "Actin"])
    assert (facts["layers"][0]["units"], facts["layers"][0]["readouts"]) == (6, 3)


def test_the_regex_command_hands_every_option_on(tmp_path, capsys):
    folder = tmp_path / "raw images"
    folder.mkdir()
    for well in ("1A", "2A", "3A"):
        for channel in ("d0", "d1"):
            pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
            tifffile.imwrite(folder / f"{well}-{channel}.tif", pixels)
    (folder / "readme.txt").write_text("x")
    (tmp_path / "map.tsv").write_text("well\tdrug\n1A\tnone\n2A\tx\n3A\ty\n")
    (tmp_path / "counts.csv").write_text("Metadata_drug,n\nx,3\ny,4\n")
    code = bench(
        *("dataset", "from", "regex", folder, "--out", tmp_path / "set", "--name", "three"),
        *("--pattern", r"^(?P<well>\d[A-H])-(?P<channel>\w+)\.tif", "--channels", "d0,d1", "--nucleus", "d1"),
        *("--wells", tmp_path / "map.tsv", "--wells-as", "colrow", "--map", "well=Metadata_Well"),
        *("--map", "drug=Metadata_drug", "--perturbation", "Metadata_drug", "--negative", "none"),
        *("--readouts", tmp_path / "counts.csv", "--layer", "cells", "--kind", "abundance"),
        *("--scale", "counts", "--key", "Metadata_drug", "--join", "broadcast", "--plate", "P7"),
        *("--bit-depth", "8", "--imaging", "foreground"),
    )
    assert code == 0
    said = capsys.readouterr().out
    assert "6 image planes and 3 wells" in said
    assert "left aside: 1: readme.txt" in said
    data = load(tmp_path / "set")
    assert check(data) == []
    assert (data.name, data.bit_depth, dict(data.imaging)) == ("three", 8, {"method": "foreground"})
    assert [(c.name, c.role) for c in data.channels] == [("d0", ""), ("d1", "nucleus")]
    assert data.wells["Metadata_Plate"].tolist() == ["P7"] * 3
    assert data.wells["Metadata_pert_type"].tolist() == ["negcon", "trt", "trt"]
    layer = data.layer("cells")
    assert (layer.scale, layer.key, layer.join) == ("counts", ("Metadata_drug",), "broadcast")
    assert join(data, layer, data.wells).Y[:, 0].tolist() == [3, 4]


def test_a_wrong_dataset_is_one_sentence_and_exit_code_one(tmp_path, capsys):
    assert bench("dataset", "check", tmp_path / "nowhere") == 1
    said = capsys.readouterr().err
    assert said.startswith("bench: ")
    assert "no such file; `bench dataset new DIR` writes one" in said


def test_an_import_goes_to_the_store_of_the_environment(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WELLBENCH_STORE", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    assert bench("features", "import", small / "profiles.csv", "--name", "cp", "--dataset", small) == 0
    assert "6 wells on 1 plate × 2 features as 'cp' in" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "elsewhere" / "store.json").exists()
    assert not (tmp_path / "wellbench-store").exists()


def test_the_commands_are_quick_to_import():
    code = (
        "import sys, bench.cli.dataset, bench.cli.features\n"
        "print([m for m in ('torch', 'pandas', 'duckdb') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.realdata
def test_the_gastruloid_plate_becomes_a_dataset_by_the_documented_command(realdata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plate").symlink_to(realdata / "images_gastruloid_plate")
    body = next(body for info, body in fences(DOCS.read_text(encoding="utf-8")) if info == "sh gastruloids")
    for words in commands(body):
        assert bench(*words[1:]) == 0
    data = load("screen")
    assert (len(data.images), len(data.wells)) == (192, 96)
    counts = data.wells["Metadata_Compound"].value_counts().to_dict()
    assert counts == {"control": 24, "matrigel5": 24, "pre2i": 24, "pre2i_cleaned": 24}
    task, report = join_with_report(data, data.layer("readouts"), data.wells)
    assert (len(task.units), report.perturbations) == (94, 3)
    assert report.wells_without_readouts == ("plate-1/F08", "plate-1/H04")
    area = dict(
        zip(task.units["Metadata_Well"], task.Y[:, task.readouts.index("AreaShape_Area")], strict=True)
    )
    assert (area["A01"], area["B01"]) == (11866, 14854)
