"""A section is drawn as its image with a square at each spot, in the colour of the spot's value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.__main__ import main
from bench.datasets import load
from bench.errors import DatasetError
from bench.look import is_section, section
from bench.look.section import _placed

TOML = """
schema_version = 1
name = "spots"
version = "1"
bit_depth = 8
perturbation = "Metadata_Section"
channels = [{name = "R"}, {name = "G"}, {name = "B"}]
images = {table = "images.csv"}
wells = {table = "wells.csv"}
imaging = {method = "whole"}
"""
SPOTS = {"1x1": (40, 30), "2x1": (80, 30), "1x2": (40, 70)}
EDGE = 16


@pytest.fixture
def spots(tmp_path):
    pixels = np.full((200, 300, 3), 240, np.uint8)
    pixels[:, :, 1] = 200
    pixels[30:46, 40:56] = (90, 20, 60)
    Image.fromarray(pixels).save(tmp_path / "S.png")
    rows = ["Metadata_Plate,Metadata_Well,Metadata_Site,Channel,URI,Plane,Region"]
    for name, (x, y) in SPOTS.items():
        rows += [f'S,{name},1,{c},S.png,{i},"{x},{y},{EDGE},{EDGE}"' for i, c in enumerate("RGB")]
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    wells = ["Metadata_Plate,Metadata_Well,Metadata_Section,Metadata_Grade"]
    wells += [f"S,{name},S,{grade}" for name, grade in zip(SPOTS, ("low", "high", "high"), strict=True)]
    (tmp_path / "wells.csv").write_text("\n".join(wells) + "\n")
    (tmp_path / "dataset.toml").write_text(TOML)
    return tmp_path


def test_the_picture_is_cut_to_the_spots_and_keeps_the_images_colours(spots):
    picture, block, corner, squares = _placed(load(spots), "S")
    assert block == 1
    assert corner == (40 - 2 * EDGE, 0)
    assert picture.shape == (70 + 3 * EDGE, 80 + 3 * EDGE - corner[0], 3)
    assert squares["2x1"] == (80, 30, EDGE, EDGE)
    tissue = picture[30:46, 40 - corner[0] : 56 - corner[0]].mean(axis=(0, 1))
    assert tissue[0] > tissue[2] > tissue[1]


def drawn(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_spots_have_the_colours_of_their_values_and_only_they(spots):
    dataset = load(spots)
    assert is_section(dataset, "S")
    values = pd.Series({"1x1": 0.0, "2x1": 1.0})
    section(dataset, "S", spots / "a.png", title="t", values=values, label="v")
    section(dataset, "S", spots / "b.png", title="t", values=1 - values, label="v")
    section(dataset, "S", spots / "c.png", title="t", values=values, label="v")
    assert (spots / "a.png").read_bytes() == (spots / "c.png").read_bytes()
    changed = np.argwhere(np.abs(drawn(spots / "a.png") - drawn(spots / "b.png")).sum(axis=2) > 30)
    rows, columns = np.ptp(changed, axis=0) + 1
    assert rows == pytest.approx(EDGE, abs=2)  # both spots stand in one row
    assert columns == pytest.approx(80 + EDGE - 40, abs=2)
    assert len(changed) == pytest.approx(2 * EDGE**2, rel=0.2)


def test_the_command_draws_a_section_a_column_and_a_spot(spots, capsys):
    for words in (("S",), ("S", "--column", "Metadata_Grade"), ("S/1x2",)):
        with pytest.raises(SystemExit) as stop:
            main(["look", *words, "-d", str(spots), "--out", str(spots / "out.png")])
        assert stop.value.code in (0, None), capsys.readouterr().err
        assert Image.open(spots / "out.png").size[0] > 100
        (spots / "out.png").unlink()


def test_spots_of_one_section_on_two_images_are_refused(spots):
    table = spots / "images.csv"
    Image.open(spots / "S.png").save(spots / "T.png")
    table.write_text(table.read_text().replace("S,2x1,1,G,S.png", "S,2x1,1,G,T.png"))
    with pytest.raises(DatasetError, match="the spots of S lie on 2 images of channel G"):
        section(load(spots), "S", spots / "a.png", title="", values=None, label="")
