from __future__ import annotations

import pytest
import torch

from featurizers.base import FeaturizerError
from featurizers.training.files import (
    checkpoints,
    read_json,
    read_tensors,
    write_checkpoint,
    write_json,
    write_tensors,
)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"b.weight": torch.rand(3, 2), "a.bias": torch.rand(4)}


def test_what_is_written_is_read_back_exactly(tmp_path, tensors):
    write_tensors(tmp_path / "t.safetensors", tensors)
    found = read_tensors(tmp_path / "t.safetensors", tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_the_order_of_names_does_not_change_the_bytes(tmp_path, tensors):
    write_tensors(tmp_path / "one", tensors)
    write_tensors(tmp_path / "two", dict(reversed(tensors.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"a.bias": None}, "unknown tensor 'a.bias'"),
        ({"c": torch.zeros(1)}, "lacks 'c'"),
        ({"b.weight": torch.zeros(2, 3)}, r"'b.weight' is \(3, 2\) float32, but .* \(2, 3\) float32"),
        ({"b.weight": torch.zeros(3, 2, dtype=torch.float64)}, "float64"),
    ],
)
def test_the_first_difference_is_named(tmp_path, tensors, change, reason):
    write_tensors(tmp_path / "t.safetensors", tensors)
    expected = {k: v for k, v in {**tensors, **change}.items() if v is not None}
    with pytest.raises(FeaturizerError, match=reason):
        read_tensors(tmp_path / "t.safetensors", expected)


@pytest.mark.parametrize("length", [0, 5, 40, -3])
def test_a_truncated_file_is_refused(tmp_path, tensors, length):
    path = tmp_path / "t.safetensors"
    write_tensors(path, tensors)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FeaturizerError, match="damaged"):
        read_tensors(path, tensors)


def test_missing_and_not_finite_weights_are_refused(tmp_path, tensors):
    with pytest.raises(FeaturizerError, match="is missing"):
        read_tensors(tmp_path / "none.safetensors", tensors)
    tensors["a.bias"][1] = torch.nan
    write_tensors(tmp_path / "t.safetensors", tensors)
    with pytest.raises(FeaturizerError, match=r"'a\.bias' holds NaN"):
        read_tensors(tmp_path / "t.safetensors", tensors)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_settings_file_is_refused(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(FeaturizerError, match=r"s\.json"):
        read_json(tmp_path / "s.json")
    write_json(tmp_path / "s.json", {"b": 1, "a": None})
    assert read_json(tmp_path / "s.json") == {"a": None, "b": 1}


def test_only_the_newest_complete_checkpoint_stays(tmp_path, tensors):
    for step in (2, 10):
        write_checkpoint(tmp_path, step, {"weights": tensors}, {"step": step})
    (tmp_path / "checkpoint-000000011.part").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000000010"]
    assert read_json(checkpoints(tmp_path)[0] / "state.json") == {"step": 10}


def test_a_checkpoint_that_fails_while_written_leaves_the_one_before(tmp_path, tensors):
    write_checkpoint(tmp_path, 1, {"weights": tensors}, {"step": 1})
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path, 2, {"weights": tensors}, {"step": object()})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000000001"]
    write_checkpoint(tmp_path, 2, {"weights": tensors}, {"step": 2})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000000002"]
