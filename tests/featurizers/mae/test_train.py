from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from featurizers.base import FeaturizerError, FitContext, silent
from featurizers.mae.loss import to_patches
from featurizers.mae.train import Batches, collect_cells, train
from featurizers.training.files import checkpoints
from featurizers.training.pixels import prepare
from featurizers.training.schedules import field_batch
from tests.featurizers.training.fields import Source, make_field


class Stop(Exception):
    """Stands for a kill at an arbitrary place."""


def stopping_at(step):
    def report(progress):
        if progress.stage == "train" and progress.done >= step:
            raise Stop

    return report


def weights(trained):
    return trained.network.state_dict()


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(autouse=True)
def _report_every_step(monkeypatch):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(source, config, tmp_path):
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(runs))  # the global state has no influence
        runs.append(weights(train(source, config, FitContext(tmp_path / name, seed))))
    assert_equal(runs[0], runs[1])
    assert not torch.equal(runs[0]["encoder.embed.weight"], runs[2]["encoder.embed.weight"])


@pytest.mark.parametrize("stops", [(1,), (4,), (2, 3, 7)])
@pytest.mark.parametrize("standardise", ["dataset", "field"])
def test_an_interrupted_training_ends_in_the_same_weights(source, config, tmp_path, stops, standardise):
    config = replace(config, standardise=standardise)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = train(source, config, FitContext(whole))
    source.read = 0
    for step in stops:
        with pytest.raises(Stop):
            train(source, config, FitContext(parts, report=stopping_at(step)), checkpoint_seconds=0)
        assert checkpoints(parts)[-1].name == f"checkpoint-{step:09d}"
    found = train(source, config, FitContext(parts))
    assert_equal(weights(expected), weights(found))
    assert source.read == 1, "the crops of the first attempt are used again"
    final = [next(folder.glob("checkpoint-*")) / "optimiser.safetensors" for folder in (whole, parts)]
    assert final[0].read_bytes() == final[1].read_bytes()


def test_a_training_stopped_between_checkpoints_repeats_the_steps_since(source, config, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    expected = train(source, config, FitContext(tmp_path / "whole"))
    with pytest.raises(Stop):
        train(source, config, FitContext(tmp_path / "parts", report=stopping_at(5)))
    assert checkpoints(tmp_path / "parts") == []
    assert_equal(weights(expected), weights(train(source, config, FitContext(tmp_path / "parts"))))


def test_a_finished_training_is_only_read(source, config, tmp_path):
    first = train(source, config, FitContext(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000000008", "metrics.parquet"]
    again = train(source, config, FitContext(tmp_path))
    assert source.read == 1
    assert_equal(weights(first), weights(again))
    assert (first.statistics.mean == again.statistics.mean).all()


@pytest.mark.parametrize("foreground", [0.0, 0.7])
def test_micro_batches_give_the_gradient_of_the_batch(source, config, tmp_path, foreground):
    results = []
    config = replace(config, foreground_weight=foreground)
    for size in (0, 4):
        folder = tmp_path / str(size)
        folder.mkdir()
        # one step from the same start: Lion moves by the sign, so compare its momentum
        train(source, replace(config, steps=1, clip=0.0, micro_batch=size), FitContext(folder))
        from safetensors.torch import load_file

        results.append(load_file(next(folder.glob("checkpoint-*")) / "optimiser.safetensors"))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-3, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(source, config, tmp_path, monkeypatch):
    from featurizers.mae import train as room

    real, calls = room.objective, []

    def poisoned(*args, **options):
        calls.append(1)
        found = real(*args, **options)
        return found._replace(loss=found.loss * torch.nan) if len(calls) == 4 else found

    monkeypatch.setattr(room, "objective", poisoned)
    with pytest.raises(
        FeaturizerError, match=r"step 4 of 8; the last good checkpoint is .*checkpoint-000000003"
    ):
        train(source, config, FitContext(tmp_path), checkpoint_seconds=0)
    monkeypatch.setattr(room, "objective", real)
    assert train(source, config, FitContext(tmp_path)).network is not None


def test_a_work_folder_of_another_training_is_refused(source, config, tmp_path):
    train(source, config, FitContext(tmp_path))
    with pytest.raises(FeaturizerError, match="other settings"):
        train(source, replace(config, lr=1e-3), FitContext(tmp_path))


def test_progress_tells_loss_and_speed_of_every_stage(source, config, tmp_path):
    seen = []
    train(source, config, FitContext(tmp_path, report=seen.append))
    crops = [p for p in seen if p.stage == "crops"]
    steps = [p for p in seen if p.stage == "train"]
    assert (crops[-1].done, crops[-1].total, crops[-1].figures["crops"]) == (6, 6, 24)
    assert [p.done for p in steps] == list(range(1, 9))
    assert all(p.figures["loss"] > 0 and p.figures["crops/s"] > 0 for p in steps)


def test_a_batch_of_fields_sees_the_crops_of_its_fields_only(source, config, tmp_path):
    own = replace(config, batch_fields=2, augment="none")
    crops = collect_cells(source, own, FitContext(tmp_path), SimpleNamespace(report=silent))
    batches = Batches(own, 0, crops, crops.statistics(), torch.device("cpu"))
    patches, _, _ = batches.of_step(0)
    index = field_batch(0, 0, 2, 3, crops.field)
    assert len(set(crops.field[index].tolist())) == 2
    first = torch.from_numpy(crops.pixels[index]), torch.from_numpy(crops.inside[index])
    expected = to_patches(prepare(*first, own, batches.statistics), own.patch)
    assert torch.equal(patches, expected)


def test_reduced_precision_trains_to_almost_the_same_loss(source, config, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        seen = []
        (tmp_path / precision).mkdir()
        train(
            source, replace(config, precision=precision), FitContext(tmp_path / precision, report=seen.append)
        )
        losses[precision] = seen[-1].figures["loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_training_lowers_the_loss_on_real_structure(config, tmp_path):
    """Lion, schedule, masking and scaling together: stripes are predicted better than by their mean."""
    seen = []
    source = Source([make_field(seed, period=8.0) for seed in range(4)])
    config = replace(config, steps=200, lr=2e-3, batch=16, augment="none")
    train(source, config, FitContext(tmp_path, report=seen.append))
    losses = [p.figures["loss"] for p in seen if p.stage == "train"]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


@pytest.mark.gpu
def test_a_training_on_a_gpu_agrees_with_one_on_a_cpu(source, config, tmp_path):
    losses = {}
    for device in ("cpu", "cuda"):
        seen = []
        (tmp_path / device).mkdir()
        train(source, config, FitContext(tmp_path / device, device=device, report=seen.append))
        losses[device] = [p.figures["loss"] for p in seen if p.stage == "train"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2)


@pytest.mark.slow
def test_a_compiled_training_has_the_losses_of_a_plain_one(source, config, tmp_path):
    losses = {}
    for mode in ("none", "default"):
        seen = []
        (tmp_path / mode).mkdir()
        own = replace(config, compile=mode, steps=3)
        train(source, own, FitContext(tmp_path / mode, report=seen.append))
        losses[mode] = [p.figures["loss"] for p in seen if p.stage == "train"]
    assert losses["default"] == pytest.approx(losses["none"], rel=1e-3)
