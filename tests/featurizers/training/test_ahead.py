"""Batches read one step ahead: when, in which order, what is raised where, and the same bytes."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.dino import train as dino
from featurizers.mae import train as mae
from featurizers.training.ahead import Ahead
from featurizers.training.files import checkpoints
from tests.featurizers.dino.test_dino_loss import CONFIG as DINO

CPU = torch.device("cpu")


class Reading:
    """Batches that say their number, and when they were read."""

    def __init__(self, steps=9, broken=None):
        self.begun = [threading.Event() for _ in range(steps + 1)]
        self.order, self.broken = [], broken

    def __call__(self, step):
        self.order.append(step)
        self.begun[step].set()
        if step == self.broken:
            raise KeyError("crops")
        return (torch.tensor(step), step)


def test_the_next_batch_is_read_while_this_one_computes():
    reading, ahead = Reading(), Ahead(9, CPU)
    assert ahead(reading, 0)[1] == 0
    assert reading.begun[1].wait(timeout=20), "nobody asked for it yet"
    assert not reading.begun[2].is_set()


def test_every_step_has_its_own_batch_and_none_is_read_beyond_the_last():
    reading, ahead = Reading(), Ahead(4, CPU)
    assert [ahead(reading, step)[1] for step in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert reading.order == [0, 1, 2, 3]
    assert ahead(reading, 2)[1] == 2, "a training that goes on from a checkpoint begins anywhere"
    assert ahead(reading, 3)[0] == 3


def test_what_a_reading_raises_is_raised_by_the_step_that_needs_it():
    reading, ahead = Reading(broken=1), Ahead(9, CPU)
    assert ahead(reading, 0)[1] == 0
    with pytest.raises(KeyError, match="crops") as raised:
        ahead(reading, 1)
    assert raised.traceback[-1].name == "__call__", "the place in the reading is shown"
    assert ahead(reading, 2)[1] == 2


@pytest.mark.parametrize("entrant", [mae, dino])
def test_reading_ahead_changes_no_byte_of_a_training(source, config, tmp_path, monkeypatch, entrant):
    settings = replace(config, steps=3) if entrant is mae else replace(DINO, steps=3)
    settings = replace(settings, micro_batch=3)
    found = []
    for name in ("ahead", "on the spot"):
        if name == "on the spot":
            monkeypatch.setattr(Ahead, "__call__", lambda _, read, step: read(step))
        (tmp_path / name).mkdir()
        entrant.train(source, settings, FitContext(tmp_path / name))
        last = checkpoints(tmp_path / name)[-1]
        found.append({path.name: path.read_bytes() for path in last.iterdir()})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("error", "raised", "reason"),
    [
        (OSError("the disk is gone"), OSError, "the disk is gone"),
        (torch.OutOfMemoryError("CUDA out of memory"), FeaturizerError, "ended in step 3 of 8; lower micro"),
    ],
)
def test_a_reading_that_fails_ends_the_step_it_is_for_and_not_the_one_before(
    source, config, tmp_path, monkeypatch, error, raised, reason
):
    read = mae.Batches.read

    def broken(self, step):
        if step == 2:
            raise error
        return read(self, step)

    monkeypatch.setattr(mae.Batches, "read", broken)
    with pytest.raises(raised, match=reason):
        mae.train(source, config, FitContext(tmp_path), checkpoint_seconds=0)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-000000002"


def test_no_thread_stays_when_a_training_ends(source, config, tmp_path):
    mae.train(source, replace(config, steps=2), FitContext(tmp_path))
    assert [thread for thread in threading.enumerate() if thread.name == "batch ahead"] == []
