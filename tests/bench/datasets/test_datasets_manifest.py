"""Identity follows content, not place."""

import hashlib
import shutil
from pathlib import Path

import pytest

from bench.datasets import image_manifest, load
from bench.errors import DatasetError
from bench.store.keys import digest


def test_moving_a_dataset_changes_neither_digest_nor_manifest(small, tmp_path):
    before = load(small).digest()
    moved = Path(shutil.move(small, tmp_path / "elsewhere"))
    after = load(moved)
    assert after.digest() == before
    manifest = image_manifest(after, "001")
    assert manifest[0]["path"] == "images/A01_Actin.tif"
    content = (moved / "images" / "A01_Actin.tif").read_bytes()
    assert manifest[0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(manifest) == 12


def test_images_outside_the_folder_have_names_without_their_place(small, tmp_path, edit):
    names = {}
    for place in ("one", "two/three"):
        shutil.copytree(small / "images", tmp_path / place)
        old = (small / "images.csv").read_text()
        (small / "images.csv").write_text(old.replace("images/", f"{tmp_path / place}/"))
        names[place] = image_manifest(load(small), "001")
        (small / "images.csv").write_text(old)
    assert names["one"] == names["two/three"]
    assert names["one"][0]["path"] == "A01_Actin.tif"


def test_giving_a_file_to_another_well_changes_the_manifest(small, edit):
    before = digest(image_manifest(load(small), "001"))
    text = (small / "images.csv").read_text()
    swapped = text.replace("A03_", "@").replace("A04_", "A03_").replace("@", "A04_")
    (small / "images.csv").write_text(swapped)
    assert digest(image_manifest(load(small), "001")) != before


def test_the_order_of_the_image_table_does_not_matter(small):
    before = image_manifest(load(small), "001")
    head, *rows = (small / "images.csv").read_text().splitlines()
    (small / "images.csv").write_text("\n".join([head, *reversed(rows)]) + "\n")
    assert image_manifest(load(small), "001") == before


def test_a_comment_or_new_profiles_keep_the_digest_and_a_value_changes_it(small, edit):
    before = load(small).digest()
    edit("dataset.toml", "# a comment that must survive", "# another")
    edit("dataset.toml", 'name = "ready"', 'name = "other"')
    assert load(small).digest() == before
    edit("wells.csv", "x-2", "x-3")
    assert load(small).digest() != before


def test_a_cache_of_hashes_is_asked_once_per_file(small):
    asked = []

    def cache(path):
        asked.append(path)
        return "0" * 64

    manifest = image_manifest(load(small), "001", cache)
    assert len(asked) == len(set(asked)) == 12
    assert {e["sha256"] for e in manifest} == {"0" * 64}


def test_a_missing_image_is_one_sentence(small):
    (small / "images" / "B01_DNA.tif").unlink()
    with pytest.raises(DatasetError, match=r"B01_DNA\.tif: cannot be read"):
        image_manifest(load(small), "001")
    with pytest.raises(DatasetError, match="no images of plate '002'"):
        image_manifest(load(small), "002")
