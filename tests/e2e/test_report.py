"""``bench report`` on a store: the file it writes, its JSON, and what a wrong request is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.support import Run


def told(done) -> str:
    assert done.returncode == 1, done.stdout
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == 1, done.stderr
    assert said[0].startswith("bench: ")
    return said[0]


def test_an_empty_store_and_no_store_are_told_in_one_sentence(bench: Run, tmp_path: Path) -> None:
    assert "there is no store at nowhere" in told(bench("report", "--store", "nowhere", cwd=tmp_path))


@pytest.mark.slow
def test_a_report_holds_the_boards_of_the_store_and_what_stands_beside_them(
    bench: Run, scored: Path, tmp_path: Path
) -> None:
    locations = tmp_path / "locations.csv"
    locations.write_text("readout,location\nprot-001,Cytosol\n")
    done = bench(
        "report", "--store", scored, "-o", "r.html", "--no-umap", "--json", "--readout", "prot-004",
        "--locations", locations, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written["boards"] == 1
    assert written["figures"] >= 8
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert written["bytes"] == len(text.encode())
    document = json.loads(text.partition('id="document">')[2].partition("</script>")[0])
    assert len(document["boards"][0]["open"]["prot-004"]["predictions"]) == 1
    assert document["annotation"]["prot-001"] == {"Location": "Cytosol"}
    for shown in ("417ea6e7", "bench verify all --store", "nested-cv", "numpy"):
        assert shown in text
    reasons = {item["title"].partition(":")[0]: item["reason"] for item in written["absent"]}
    assert "129 of 130 readouts have no location" in reasons["Score by location"]
    assert "--no-umap" in reasons["Map of wells before and after plate correction"]
    again = bench(
        "report", "--store", scored, "-o", "again.html", "--no-umap", "--json", "--readout", "prot-004",
        "--locations", locations, cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 0
    first, second = text, (tmp_path / "again.html").read_text(encoding="utf-8")
    assert first.replace("r.html", "") == second.replace("again.html", "")


@pytest.mark.slow
def test_wrong_requests_are_told_in_one_sentence(bench: Run, scored: Path, tmp_path: Path) -> None:
    gmt = tmp_path / "p.gmt"
    gmt.write_text("empty\tdescription\n")
    base = ("report", "--store", scored, "--no-umap")
    assert "did you mean 'prot-004'?" in told(bench(*base, "--readout", "prot-0004", cwd=tmp_path))
    assert "line 1: the pathway 'empty' has no gene" in told(bench(*base, "--pathways", gmt, cwd=tmp_path))
    assert "no finished run with task nothing" in told(bench(*base, "--task", "nothing", cwd=tmp_path))
    assert "cannot be written" in told(bench(*base, "-o", "none/r.html", cwd=tmp_path))


@pytest.mark.slow
def test_a_differentiable_entrant_gets_attribution_maps_unless_they_are_left_out(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    words = ("-f", "mae:tiny", "--set", "mae.steps=3", "--set", "mae.batch=16", "--layer", "proteins")
    more = ("--controls", "none", "-j", 1, "--dataset", screen, "--store", "s")
    done = bench("run", *words, *more, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    report = ("report", "--store", "s", "-o", "r.html", "--no-umap", "--json")
    done = bench(*report, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not any("Attribution" in item["title"] for item in json.loads(done.stdout)["absent"])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    shown = [d for d in data.values() if "picture" in d["columns"]]
    assert [d["length"] for d in shown] == [3 * 2 * 5]  # wells, pixels and map, channels
    again = bench(*report, "--no-attribution", cwd=tmp_path)
    reasons = {item["title"]: item["reason"] for item in json.loads(again.stdout)["absent"]}
    assert "--no-attribution" in reasons["Attribution maps (SmoothGrad)"]
