"""A wrong input gets one sentence and a non-zero exit, or is recorded and the rest goes on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.support import QUICK, Run


def first_image(dataset: Path) -> Path:
    return sorted(dataset.rglob("*.tif*"))[0]


def one_sentence(text: str) -> str:
    """Return what was said, which must be one line and no traceback."""
    said = [line for line in text.splitlines() if line.strip()]
    assert len(said) == 1, text
    assert said[0].startswith("bench: ")
    return said[0]


def test_a_truncated_image_is_a_recorded_failure_of_its_field(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    image = first_image(own_screen)
    image.write_bytes(image.read_bytes()[:200])
    done = bench(*QUICK, "--dataset", own_screen, "--store", "store", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert any(image.name in failure["reason"] for failure in report["failures"])
    assert report["boards"], "the other wells are scored"


def test_a_mended_image_is_computed_anew_by_the_same_command(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    image = first_image(own_screen)
    whole = image.read_bytes()
    image.write_bytes(whole[:200])
    words = (*QUICK, "--dataset", own_screen, "--store", "store", "--json")
    assert bench(*words, cwd=tmp_path).returncode == 3
    image.write_bytes(whole)
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not json.loads(done.stdout)["failures"]


def test_a_missing_channel_is_a_recorded_failure_of_its_field(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    image = first_image(own_screen)
    image.unlink()
    done = bench(*QUICK, "--dataset", own_screen, "--store", "store", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert any(image.name in failure["reason"] for failure in json.loads(done.stdout)["failures"])


def test_a_well_without_a_cell_is_named_and_lowers_the_coverage(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    import numpy as np
    import tifffile

    wells = pd.read_csv(own_screen / "wells.csv")
    well = wells.loc[wells["Metadata_pert_type"] == "trt", "Metadata_Well"].iloc[0]
    images = pd.read_parquet(own_screen / "images.parquet").query("Metadata_Well == @well")
    for uri in images["URI"]:
        path = own_screen / uri
        tifffile.imwrite(path, np.full_like(tifffile.imread(path), 200))
    words = ("run", "-f", "untrained", "--layer", "proteins", "--controls", "none", "-j", 1)
    done = bench(*words, "--dataset", own_screen, "--store", "store", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["empty_wells"] == {"untrained": [f"plate-1/{well}"]}
    coverage = {row["label"]: row["coverage"] for row in report["boards"][0]["rows"]}
    assert coverage["untrained"] == pytest.approx(11 / 12)
    assert coverage["training mean"] == 1


def test_one_perturbation_is_refused_with_what_would_work(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    path = own_screen / "wells.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    for row in rows:
        if row["Metadata_pert_type"] != "negcon":
            row["Metadata_Compound"] = "cpd-001"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    done = bench("run", "-f", "intensity", "--layer", "transcripts", "--dataset", own_screen, cwd=tmp_path)
    assert done.returncode == 1
    assert "random-wells" in one_sentence(done.stderr)


def test_a_readout_with_one_value_has_no_skill_and_the_rest_has(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    path = own_screen / "proteins.parquet"
    frame = pd.read_parquet(path)
    flat = next(c for c in frame.columns if not c.startswith("Metadata_"))
    frame[flat] = frame[flat].iloc[0]
    frame.to_parquet(path)
    done = bench(*QUICK, "--dataset", own_screen, "--store", "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    query = f"select r2 from scores where readout = '{flat}'"
    found = bench("store", "sql", query, "--store", "store", "--json", cwd=tmp_path)
    assert {row["r2"] for row in json.loads(found.stdout)} == {None}


def test_a_zeroed_part_is_named_and_nothing_is_scored_from_it(
    bench: Run, screen: Path, scored: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(scored, tmp_path / "store"))
    part = next(store.glob("features/**/featurizer=intensity/**/part.parquet"))
    part.write_bytes(bytes(part.stat().st_size))
    for family in ("runs", "scores", "summands", "predictions"):
        shutil.rmtree(store / family)
    done = bench(*QUICK, "--dataset", screen, "--store", store, "--json", cwd=tmp_path)
    assert done.returncode in (1, 3)
    assert str(part.relative_to(store)) in done.stderr + done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
@pytest.mark.parametrize("option", ["size=300k", "size=64m,ro"])
def test_a_full_or_read_only_disk_is_said_in_one_sentence(
    bench: Run, screen: Path, tmp_path: Path, option: str
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        done = bench(*QUICK, "--dataset", screen, "--store", place / "store", cwd=tmp_path)
        assert done.returncode in (1, 3), done.stderr
        assert "Traceback" not in done.stderr
        assert str(place) in done.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_plugin_that_raises_on_import_takes_nothing_else_down(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no such driver')\n", encoding="utf-8")
    listed = bench("featurizers", "--plugin", broken, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "no such driver" in listed.stdout.replace("\n", " ")
    done = bench("run", "-f", "broken", "--plugin", broken, "--dataset", screen, cwd=tmp_path)
    assert done.returncode != 0
    assert "no such driver" in one_sentence(done.stderr)


NAN_PLUGIN = '''
import numpy as np
from dataclasses import dataclass
from featurizers.base import Card, Embedding, Featurizer

@dataclass(frozen=True)
class Config:
    pass

class Holes(Featurizer):
    """Returns NaN."""

    card = Card(name="holes", version="1", title="NaN", citation="none", licence="none", channel_rule="any",
                input_size="any", trained_on="nothing")
    Config = Config
    presets = {"default": Config()}

    def columns(self, channels):
        return ("hole",)

    def embed(self, fields):
        return Embedding(np.full((len(fields), 1), np.nan, np.float32), np.arange(len(fields)))
'''


def test_a_plugin_that_returns_nan_is_recorded_and_the_controls_are_scored(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "holes.py"
    plugin.write_text(NAN_PLUGIN, encoding="utf-8")
    words = ("run", "-f", "holes", "--plugin", plugin, *QUICK[3:], "--dataset", screen, "--json")
    done = bench(*words, "--store", "store", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert any("non-finite" in f["reason"] and "'hole'" in f["reason"] for f in report["failures"])
    assert {row["name"] for row in report["boards"][0]["rows"]} == {"mean", "cell-count", "position"}


def test_names_with_markup_quotes_spaces_and_letters_go_through(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    home = own_screen.rename(tmp_path / "größe µ 細胞")
    path = home / "proteins.parquet"
    frame = pd.read_parquet(path)
    first, second = [c for c in frame.columns if not c.startswith("Metadata_")][:2]
    frame.rename(columns={first: "<script>", second: 'a","b'}).to_parquet(path)
    done = bench(*QUICK, "--dataset", home, "--store", home / "le dépôt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    query = "select distinct readout from scores where readout in ('<script>', 'a\",\"b') order by 1"
    found = bench("store", "sql", query, "--store", home / "le dépôt", "--json", cwd=tmp_path)
    assert [row["readout"] for row in json.loads(found.stdout)] == ["<script>", 'a","b']


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("run", "-f", "maee"), 2, "did you mean 'mae'"),
        (("run",), 2, "name at least one entrant"),
        (("run", "-f", "intensity", "--task", "regresion"), 2, "did you mean 'regression'"),
        (("run", "-f", "intensity", "--layer", "lipids"), 2, "no readout layer 'lipids'"),
        (("run", "-f", "intensity", "--protocol", "nested"), 2, "did you mean 'nested-cv'"),
        (("run", "-f", "intensity", "--set", "mae.steps=2"), 2, "do not take part"),
        (("run", "-f", "intensity", "--set", "intensity"), 2, "NAME.KEY=VALUE"),
        (("run", "-f", "intensity", "--dataset", "nowhere"), 1, "nowhere"),
        (("leaderboard", "--store", "nowhere"), 1, "no store"),
        (("verify", "abc", "--store", "nowhere"), 1, "no store"),
    ],
)
def test_a_wrong_command_is_told_in_one_sentence(
    bench: Run, screen: Path, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    own = () if "--dataset" in words or words[0] != "run" else ("--dataset", str(screen))
    done = bench(*words, *own, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert said in one_sentence(done.stderr)


BAD_PLUGINS = """
import os
from dataclasses import dataclass

import numpy as np

from featurizers.base import Card, Embedding, Featurizer


@dataclass(frozen=True)
class Config:
    pass


def card(name):
    return Card(
        name=name, version="1", title=name, citation="none", licence="none", channel_rule="any",
        input_size="any", trained_on="nothing",
    )


class Base(Featurizer):
    Config = Config
    presets = {"default": Config()}

    def columns(self, channels):
        return ("mean",)

    def embed(self, fields):
        values = [[f.pixels.mean()] for f in fields]
        return Embedding(np.array(values, np.float32), np.arange(len(fields)))


class NoColumns(Base):
    card = card("no-columns")

    def columns(self, channels):
        raise KeyError("no channel Brightfield")


class Dies(Base):
    card = card("dies")

    def embed(self, fields):
        os._exit(9)


class Flaky(Base):
    card = card("flaky")

    def embed(self, fields):
        if os.environ.get("FLAKY"):
            raise MemoryError
        return super().embed(fields)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A file of featurizers that misbehave outside ``embed``, kill their process, or fail for a while."""
    path = tmp_path / "bad_plugins.py"
    path.write_text(BAD_PLUGINS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [("no-columns", "Brightfield"), pytest.param("dies", "killed twice", marks=pytest.mark.slow)],
)
def test_a_plugin_that_fails_as_a_whole_leaves_the_others_alone(
    bench: Run, screen: Path, tmp_path: Path, plugins: Path, name: str, said: str
) -> None:
    words = ("run", "-f", name, "-f", "intensity", "--plugin", plugins, "--layer", "proteins", "-j", 1)
    done = bench(*words, "--controls", "none", "--dataset", screen, "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert {f["what"].partition(",")[0] for f in report["failures"]} == {name}
    assert all(said in f["reason"] for f in report["failures"])
    assert "intensity" in {row["name"] for row in report["boards"][0]["rows"]}


def test_what_failed_for_a_passing_reason_is_tried_again_by_the_same_command(
    bench: Run, screen: Path, tmp_path: Path, plugins: Path
) -> None:
    words = ("run", "-f", "flaky", "--plugin", plugins, "--layer", "proteins", "--controls", "none", "-j", 1)
    words = (*words, "--dataset", screen, "--store", "store", "--json")
    first = bench(*words, cwd=tmp_path, FLAKY="1")
    assert first.returncode == 3
    assert "MemoryError" in first.stdout
    again = bench(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {row["coverage"] for row in json.loads(again.stdout)["boards"][0]["rows"]} == {1.0}


def test_a_plugin_that_was_named_and_is_broken_is_said_though_nobody_uses_it(
    bench: Run, screen: Path, scored: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no such driver')\n", encoding="utf-8")
    store = Path(shutil.copytree(scored, tmp_path / "store"))
    done = bench(*QUICK, "--plugin", broken, "--dataset", screen, "--store", store, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = bench(*QUICK, "--plugin", broken, "--dataset", screen, "--store", store, cwd=tmp_path)
    assert done.returncode == 3
    assert "no such driver" in done.stderr


def test_a_damaged_record_is_named_and_an_edited_one_is_not_believed(
    bench: Run, scored: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(scored, tmp_path / "store"))
    record = next(store.glob("runs/run=*/record.json"))
    record.write_text(record.read_text().replace('"label": "', '"label": "MY WINNER '), encoding="utf-8")
    edited = bench("leaderboard", "--store", store, cwd=tmp_path)
    assert edited.returncode == 1
    assert str(record.relative_to(store)) in one_sentence(edited.stderr)
    record.write_bytes(bytes(record.stat().st_size))
    zeroed = bench("leaderboard", "--store", store, cwd=tmp_path)
    assert str(record.relative_to(store)) in one_sentence(zeroed.stderr)


def test_a_typo_is_told_before_the_demo_is_made(bench: Run, tmp_path: Path) -> None:
    done = bench("run", "-f", "maee", cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["processes = -2", "threads = 0", "seed = -1"])
def test_a_setting_out_of_range_is_refused(bench: Run, tmp_path: Path, setting: str) -> None:
    (tmp_path / "settings.toml").write_text(setting + "\n", encoding="utf-8")
    done = bench("run", "settings.toml", "-f", "intensity", cwd=tmp_path)
    assert done.returncode == 2
    assert setting.split()[0] in one_sentence(done.stderr)


@pytest.mark.slow
def test_an_older_run_of_the_same_name_is_left_out_and_said(
    bench: Run, own_screen: Path, tmp_path: Path
) -> None:
    words = (*QUICK, "--dataset", own_screen, "--store", "store")
    assert bench(*words, cwd=tmp_path).returncode == 0
    shutil.copy(first_image(own_screen), sorted(own_screen.rglob("*.tif*"))[5])
    assert bench(*words, cwd=tmp_path).returncode == 0
    done = bench("leaderboard", "--store", "store", "--json", cwd=tmp_path)
    (board,) = json.loads(done.stdout)
    assert [row["label"] for row in board["rows"]].count("intensity") == 1
    assert "--all shows them" in done.stderr
    everything = json.loads(bench("leaderboard", "--store", "store", "--all", "--json", cwd=tmp_path).stdout)
    assert [row["label"] for row in everything[0]["rows"]].count("intensity") == 2
