"""Self-distillation as a featurizer: training, resume, its contract, a planted signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.conformance import check_featurizer, failures
from featurizers.dino import Dino, DinoConfig
from featurizers.dino.config import PRESETS
from featurizers.dino.train import train
from featurizers.training.files import checkpoints
from tests.featurizers.training.fields import Source, make_field

from .test_dino_loss import CONFIG


@pytest.fixture
def source():
    return Source([make_field(seed) for seed in range(3)])


class Stop(Exception):
    pass


def folder(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    return path


@pytest.mark.slow
def test_it_keeps_the_contract():
    results = check_featurizer(lambda: Dino(CONFIG))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "batch-invariant"} <= {
        r.name for r in results if r.status == "passed"
    }


def test_a_killed_training_ends_in_the_same_bytes(source, tmp_path, monkeypatch):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(source, CONFIG, FitContext(whole))
    for stop in (2, 5):

        def die(progress, stop=stop):
            if progress.stage == "train" and progress.done >= stop:
                raise Stop

        with pytest.raises(Stop):
            train(source, CONFIG, FitContext(parts, report=die), checkpoint_seconds=0)
    train(source, CONFIG, FitContext(parts))
    for path in checkpoints(whole)[-1].iterdir():
        assert path.read_bytes() == (checkpoints(parts)[-1] / path.name).read_bytes(), path.name


def test_micro_batches_give_the_gradient_of_the_batch(source, tmp_path):
    seen = []
    config = replace(CONFIG, depth=2, drop_path=0.5, steps=1, frozen_epochs=0.0)
    for size in (0, 3):
        path = folder(tmp_path, str(size))
        train(source, replace(config, micro_batch=size), FitContext(path))
        from safetensors.torch import load_file

        seen.append((load_file(checkpoints(path)[-1] / "optimiser.safetensors"), path))
    for name, value in seen[0][0].items():
        torch.testing.assert_close(value, seen[1][0][name], rtol=1e-3, atol=1e-6)
    rows = [pq.read_table(path / "metrics.parquet").to_pylist()[0] for _, path in seen]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)
    assert rows[0]["teacher_entropy"] == pytest.approx(rows[1]["teacher_entropy"], rel=1e-4)


def test_prototypes_are_still_in_the_first_epoch_and_move_afterwards(source, tmp_path):
    # 12 crops and batches of 4: the third step is the last of the first epoch
    from featurizers.dino.model import SelfDistillation

    start = SelfDistillation(CONFIG, 2, 0).student.head.last.weight.detach()
    for steps, moved in ((3, False), (4, True)):
        path = folder(tmp_path, str(steps))
        train(source, replace(CONFIG, steps=steps, warmup_share=0.0), FitContext(path))
        from safetensors.torch import load_file

        found = load_file(checkpoints(path)[-1] / "weights.safetensors")["student.head.last.weight"]
        assert torch.equal(found, start) is not moved


def test_saved_weights_are_the_teachers_backbone_and_give_the_same_rows(source, tmp_path):
    featurizer = Dino(CONFIG)
    featurizer.fit(source, None, FitContext(folder(tmp_path, "work")))
    saved = folder(tmp_path, "saved")
    featurizer.save(saved)
    reader = Dino(CONFIG)
    reader.load(saved)
    rows = featurizer.embed(source.fields)
    np.testing.assert_array_equal(reader.embed(source.fields).values, rows.values)
    assert rows.object.tolist() == [1, 2, 3, 4] * 3
    average = Dino(replace(CONFIG, pooling="avg"))
    average.load(saved)
    assert not np.allclose(average.embed(source.fields).values, rows.values)
    with pytest.raises(FeaturizerError, match=r"was trained with momentum=0\.996, not 0\.5"):
        Dino(replace(CONFIG, momentum=0.5)).load(saved)


@pytest.mark.slow
def test_it_learns_a_planted_signal_that_random_weights_see_less_of(tmp_path):
    """Stripes of two periods, under a stain of each field's own strength, are told by the nearest cells."""
    gains = np.exp(np.random.default_rng(7).uniform(-0.3, 0.3, (16, 2)))
    fields = []
    for k, gain in enumerate(gains):
        field = make_field(k, period=(4.0, 12.0)[k % 2])
        stained = (field.pixels * gain[:, None, None]).clip(0, 65535).astype(np.uint16)
        fields.append(replace(field, pixels=stained))
    config = DinoConfig(
        crop=24, patch=4, local_size=12, dim=32, depth=2, heads=2, prototypes=64, head_hidden=64,
        head_bottleneck=32, local_crops=2, steps=200, batch=32, momentum=0.9, lr_per_256=3e-3,
        channel_drop=0.0, global_low=0.8, local_low=0.4, local_high=0.8,  # zooming changes a period
    )  # fmt: skip

    def share_of_alike(config, seed):
        """Of the 8 nearest cells of other fields, those of the same period; by chance 28 of 60."""
        featurizer = Dino(config)
        work = folder(tmp_path, f"{seed}-{config.steps}")
        featurizer.fit(Source(fields), None, FitContext(work, seed=seed))
        entropy = pq.read_table(work / "metrics.parquet")["teacher_entropy"].to_pylist()[-1]
        assert 0.0 < entropy < np.log(64)
        found = featurizer.embed(fields)
        rows = found.values / np.linalg.norm(found.values, axis=1, keepdims=True)
        alike = rows @ rows.T
        alike[found.field[:, None] == found.field[None]] = -2  # not a cell of the same field
        label = found.field % 2
        nearest = np.argsort(-alike, axis=1)[:, :8]
        return (label[nearest] == label[:, None]).mean()

    trained = np.mean([share_of_alike(config, seed) for seed in range(3)])
    random = np.mean([share_of_alike(replace(config, steps=1, lr_per_256=1e-9), seed) for seed in range(3)])
    assert trained > 0.7
    assert random < 0.7
    assert trained > random + 0.05


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.crop, paper.patch, paper.dim, paper.depth, paper.heads) == (224, 16, 384, 12, 6)
    assert (paper.head_hidden, paper.head_bottleneck, paper.prototypes) == (2048, 256, 65536)
    assert (paper.local_crops, paper.local_size) == (8, 96)
    assert (paper.global_low, paper.global_high, paper.local_low, paper.local_high) == (0.4, 1.0, 0.05, 0.4)
    assert (paper.student_temperature, paper.teacher_temperature) == (0.1, 0.04)
    assert (paper.momentum, paper.centre_momentum, paper.frozen_epochs) == (0.996, 0.9, 1.0)
    assert (paper.weight_decay, paper.weight_decay_end, paper.clip) == (0.04, 0.4, 3.0)
    assert paper.lr == pytest.approx(5e-4 * paper.batch / 256)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"local_size": 10}, "local_size=10 is no multiple of patch=4"),
        ({"global_low": 0.0}, "0 < global_low <= global_high <= 1"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0.0; it must be positive"),
        ({"clip_rule": "none"}, "choose one of global-norm, per-tensor"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(CONFIG, **change)
