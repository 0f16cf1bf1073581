"""Canonical JSON, digests, names of folders, and the cache of content hashes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.store import HashCache, canonical_json, digest, escape, file_digest, unescape
from bench.store.names import check_folder, partitions

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_canonical_json_says_what_the_value_is_and_nothing_else(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_a_mapping_does_not_count(mapping):
    assert canonical_json(dict(reversed(mapping.items()))) == canonical_json(mapping)


class Mode(Enum):
    FAST = "fast"


class Level(StrEnum):
    CELL = "cell"


@dataclass(frozen=True)
class Config:
    size: int
    scale: float
    modes: tuple[Mode, ...]


def test_configs_numpy_scalars_and_enumerations_are_their_plain_values():
    config = Config(8, 0.1, (Mode.FAST,))
    assert canonical_json(config) == b'{"modes":["fast"],"scale":0.1,"size":8}'
    numbers = [
        np.int32(3),
        np.float64(0.1),
        np.bool_(True),
        np.str_("ü"),
        Level.CELL,
        np.float32(0.5),
        np.array(7),
    ]
    assert canonical_json(numbers) == b'[3,0.1,true,"\\u00fc","cell",0.5,7]'


def test_numbers_that_differ_in_kind_or_sign_differ_in_key():
    assert len({digest(x) for x in (1, 1.0, True, "1", 0.0, -0.0, 0, False, None, "")}) == 10


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [1, math.nan]}, r"a\[1\].*nan"),
        (math.inf, "this value"),
        (np.float32("nan"), "nan"),
        ({"x": {1, 2}}, "x: a set has no order"),
        ({1: 2}, "is not text"),
        ({"p": Path("x")}, "PosixPath"),
        (b"raw", "bytes"),
        (np.zeros(2), "ndarray"),
        (np.datetime64("2020-01-01"), "date"),
        (1j, "complex"),
        (Config, "type"),
    ],
)
def test_what_has_no_one_text_is_refused_with_its_place(value, reason):
    with pytest.raises(StoreError, match=reason):
        canonical_json(value)


def test_a_digest_is_the_sha256_of_the_canonical_text_and_stays_so():
    assert digest({"b": [1, 2.5], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()


@given(st.text())
def test_any_text_survives_as_a_folder_name(value):
    name = escape(value)
    assert unescape(name) == value
    assert check_folder(f"features/plate={name}") == f"features/plate={name}"
    assert partitions(f"features/plate={name}") == {"plate": value}


@given(st.text(), st.text())
def test_two_texts_never_share_a_folder(a, b):
    assert (escape(a) == escape(b)) == (a == b)


def test_escaping_leaves_plain_names_alone_and_hides_the_rest():
    assert escape("Plate_1-b.2") == "Plate_1-b.2"
    assert escape("a/b") == "a%2Fb"
    assert escape("ü x") == "%C3%BC%20x"
    with pytest.raises(StoreError, match="not valid Unicode"):
        escape("\udc80")


def settled(path: Path, content: bytes, seconds_ago: float = 60) -> Path:
    path.write_bytes(content)
    then = time.time_ns() - int(seconds_ago * 1e9)
    os.utime(path, ns=(then, then))
    return path


def count_reads(monkeypatch) -> list[Path]:
    reads: list[Path] = []
    monkeypatch.setattr(
        "bench.store.hashes.file_digest", lambda path: reads.append(path) or file_digest(path)
    )
    return reads


def test_a_file_is_read_once_as_long_as_its_size_and_time_stay(tmp_path, monkeypatch):
    reads = count_reads(monkeypatch)
    image = settled(tmp_path / "ü image.tif", b"pixels")
    for _ in range(3):
        with HashCache(tmp_path / "hashes.json") as cache:
            assert cache.digest(image) == hashlib.sha256(b"pixels").hexdigest()
    assert len(reads) == 1
    settled(image, b"other!", seconds_ago=30)
    with HashCache(tmp_path / "hashes.json") as cache:
        assert cache.peek(image) is None
        assert cache.digest(image) == hashlib.sha256(b"other!").hexdigest()
    assert len(reads) == 2


def test_a_file_written_this_moment_is_not_trusted_to_stay(tmp_path, monkeypatch):
    reads = count_reads(monkeypatch)
    image = settled(tmp_path / "a.tif", b"one", seconds_ago=0)
    for _ in range(2):
        with HashCache(tmp_path / "hashes.json") as cache:
            cache.digest(image)
    assert len(reads) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"schema_version": 1, "files": {"a": [1]}}', b"\xff\0"]
)
def test_a_corrupt_cache_only_costs_time(tmp_path, damage):
    image = settled(tmp_path / "a.tif", b"one")
    (tmp_path / "hashes.json").write_bytes(damage)
    with HashCache(tmp_path / "hashes.json") as cache:
        assert cache.digest(image) == hashlib.sha256(b"one").hexdigest()
    assert HashCache(tmp_path / "hashes.json").peek(image) == hashlib.sha256(b"one").hexdigest()


def test_two_processes_that_save_lose_nothing_of_each_other(tmp_path):
    a, b = settled(tmp_path / "a", b"a"), settled(tmp_path / "b", b"b")
    one, two = HashCache(tmp_path / "hashes.json"), HashCache(tmp_path / "hashes.json")
    one.digest(a)
    two.digest(b)
    one.save()
    two.save()
    both = HashCache(tmp_path / "hashes.json")
    assert both.peek(a) is not None
    assert both.peek(b) is not None


def test_a_cache_that_cannot_be_written_and_a_file_that_cannot_be_read(tmp_path):
    image = settled(tmp_path / "a.tif", b"one")
    with HashCache(tmp_path / "no such folder" / "hashes.json") as cache:
        cache.digest(image)
        with pytest.raises(StoreError, match=r"missing\.tif"):
            cache.digest(tmp_path / "missing.tif")
    with pytest.raises(StoreError, match=r"missing\.tif"):
        file_digest(tmp_path / "missing.tif")


def test_importing_the_store_and_its_commands_loads_nothing_heavy():
    code = (
        "import sys, bench.store, bench.cli.store;"
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'duckdb', 'torch'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
