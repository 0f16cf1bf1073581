"""The checkpoint by nearest neighbours: votes, what is held out, the best step, nothing of tested drugs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featurizers.base import FeaturizerError, FitContext
from featurizers.conformance import check_featurizer, failures
from featurizers.tide import Tide
from featurizers.tide import choice as tide_choice
from featurizers.tide.choice import Choice, accuracy, labels, split, steps_of_checks
from featurizers.tide.config import PRESETS
from featurizers.tide.train import _network, train
from featurizers.training.cropfile import CropFile
from featurizers.training.files import checkpoints
from featurizers.training.pixels import cut_cells
from tests.featurizers.training.fields import Source

from .screen import CONFIG, screen

KNN = replace(CONFIG, checkpoint="knn", checks=3, steps=6, standardise="dataset")


def folder(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    return path


def crops_of(source):
    cut = [cut_cells(field, CONFIG) for field in source]
    owner = np.repeat(np.arange(len(cut)), [len(c.ids) for c in cut])
    wells = tuple((f.metadata["Metadata_Plate"], f.metadata["Metadata_Well"]) for f in source.fields)
    return CropFile(
        np.concatenate([c.pixels for c in cut]), np.concatenate([c.inside for c in cut]), owner, wells
    )


def several(wells=4):
    """A screen of three drugs with so many wells each, and its crops."""
    source, table = screen(wells=wells)
    return source, table, crops_of(source)


def plate(wells):
    """Crops without content of drugs with wells of so many fields each, and the drug of each well."""
    counts = [(f"{drug}/{k}", drug, n) for drug, own in wells.items() for k, n in enumerate(own)]
    fields = [("P1", name) for name, _, n in counts for _ in range(n)]
    empty = np.zeros((len(fields), 1, 1, 1), np.float32)
    crops = CropFile(empty, empty[:, 0] == 0, np.arange(len(fields)), tuple(fields))
    return crops, {("P1", name): drug for name, drug, _ in counts}


def chooser(source, table, config=KNN):
    crops = crops_of(source)
    network = _network(config, 2, 0, None)
    images = split(crops, labels(table), config, 0)
    return network, Choice(
        None, lambda: network.reader(config.read), config, 0, crops, crops.statistics(), torch.device("cpu"),
        images, lambda _: None,
    )  # fmt: skip


def slow_accuracy(asked, asked_label, reference, reference_label, k):
    right = 0
    for row, own in zip(asked, asked_label, strict=True):
        near = sorted(
            ((float(row @ r) / (np.linalg.norm(row) * np.linalg.norm(r)), int(c))
             for r, c in zip(reference, reference_label, strict=True)),
            reverse=True,
        )[:k]  # fmt: skip
        votes = {}
        for s, c in near:
            votes[c] = votes.get(c, 0.0) + math.exp(s / 0.07)
        right += max(votes, key=votes.get) == own
    return right / len(asked)


def test_a_well_that_names_no_drug_is_neither_held_out_nor_a_reference():
    _, table, crops = several()
    unnamed = table["perturbation"] == "benzene"
    table.loc[unnamed, "perturbation"] = None
    named = labels(table)
    assert set(named.values()) == {"aspirin", "ethanol"}
    images = split(crops, named, KNN, 0)
    fields = np.concatenate([images.held_out, images.reference])
    assert not set(np.flatnonzero(unnamed)) & set(fields.tolist())
    assert (images.label[np.flatnonzero(unnamed)] == -1).all()


@pytest.mark.parametrize("neighbours", [1, 5, 20, 100])
def test_the_vote_is_that_of_a_loop_and_of_scikit_learn(neighbours):
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(neighbours)
    centre = rng.normal(size=(4, 6))
    label = rng.integers(4, size=60)
    rows = centre[label] + 1.2 * rng.normal(size=(60, 6))
    parts = [torch.from_numpy(v) for v in (rows[:25], label[:25], rows[25:], label[25:])]
    found = accuracy(*parts, neighbours)
    assert found == pytest.approx(slow_accuracy(rows[:25], label[:25], rows[25:], label[25:], neighbours))
    theirs = KNeighborsClassifier(
        min(neighbours, 35), weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
    ).fit(rows[25:], label[25:])
    assert found == pytest.approx(theirs.score(rows[:25], label[:25]))
    assert 0.2 < found < 1


def test_held_out_images_are_of_training_interventions_only_and_at_most_half_of_each():
    _, table, crops = several()
    trained = table[table["perturbation"] != "benzene"]  # benzene is tested, DMSO the control
    said = "fewer than 10 images of 2 of 2 training .*, half of whose wells have no more, and none of 0"
    with pytest.warns(UserWarning, match=said):
        found = split(crops, labels(trained), KNN, 0)
    drug = table["perturbation"].to_numpy()
    assert sorted(drug[found.held_out]) == ["aspirin"] * 2 + ["ethanol"] * 2
    assert sorted(drug[found.reference]) == ["aspirin"] * 2 + ["ethanol"] * 2
    assert not set(found.held_out) & set(found.reference)
    assert (found.label[np.isin(drug, ["benzene", "DMSO"])] == -1).all()
    one = split(crops, labels(trained), replace(KNN, held_out=1), 0)
    assert sorted(drug[one.held_out]) == ["aspirin", "ethanol"]


@pytest.mark.filterwarnings("ignore:tide")
def test_whole_wells_are_held_out_until_there_are_enough_images_and_at_most_half_of_an_interventions():
    crops, named = plate({"many": [3] * 12, "uneven": [1, 6, 6, 2], "few": [2] * 3, "single": [9]})
    found = split(crops, named, KNN, 0)
    wells = {part: {crops.wells[f] for f in getattr(found, part)} for part in ("held_out", "reference")}
    assert not wells["held_out"] & wells["reference"], "no sister field of a held-out image answers"
    left = {crops.wells[f] for f in crops.without(found.held_out).field}
    assert not wells["held_out"] & left, "nor is one trained on"
    assert wells["held_out"] | wells["reference"] == set(named)
    taken = [named[well] for well in wells["held_out"]]
    assert {name: taken.count(name) for name in named.values()} == {
        "many": 4, "uneven": 2, "few": 1, "single": 0
    }  # fmt: skip
    rest = split(crops, named, replace(KNN, held_out=1), 0)
    assert sorted(named[crops.wells[f]] for f in rest.held_out).count("many") == 3, "one well of three fields"


@pytest.mark.filterwarnings("ignore:tide")
def test_features_that_know_the_well_and_not_the_intervention_name_no_more_than_chance():
    """With sister fields of its well among the references the same features name nearly every image."""
    crops, named = plate({f"drug-{k:02d}": [6] * 4 for k in range(20)})
    rng = np.random.default_rng(0)
    number = {well: k for k, well in enumerate(sorted(named))}
    own = np.array([number[well] for well in crops.wells])
    rows = torch.from_numpy(rng.normal(size=(len(number), 16))[own] + 0.1 * rng.normal(size=(len(own), 16)))
    share = {}
    for unit in ("wells", "images"):
        found = split(crops, named, replace(KNN, held_out_by=unit), 0)
        assert len(found.held_out) >= 200
        asked, reference = (torch.from_numpy(part) for part in (found.held_out, found.reference))
        label = torch.from_numpy(found.label)
        share[unit] = accuracy(rows[asked], label[asked], rows[reference], label[reference], 20)
    assert share["images"] > 0.9
    assert share["wells"] < 3 / 20


@pytest.mark.filterwarnings("ignore:tide")
def test_where_each_well_has_one_field_wells_and_images_are_the_same_draw():
    crops, named = plate({f"drug-{k}": [1] * 7 for k in range(5)})
    for held_out in (1, 2, 10):
        config = replace(KNN, held_out=held_out)
        by_well = split(crops, named, config, 3)
        by_image = split(crops, named, replace(config, held_out_by="images"), 3)
        np.testing.assert_array_equal(by_well.held_out, by_image.held_out)


@pytest.mark.filterwarnings("ignore:tide")
def test_where_every_image_to_be_paired_is_held_out_the_settings_to_change_are_named(tmp_path):
    source, table, crops = several(wells=2)
    held_out = split(crops, labels(table), KNN, 0).held_out
    table.loc[np.setdiff1d(np.arange(len(table)), held_out), table.columns[-5:]] = np.nan
    config = replace(KNN, pairing="well")
    said = "3 such wells are held out to choose the checkpoint; lower held_out, or set checkpoint=last"
    with pytest.raises(FeaturizerError, match=said):
        train(source, table, config, FitContext(folder(tmp_path, "knn")))
    train(source, table, replace(config, checkpoint="last"), FitContext(folder(tmp_path, "last")))


@pytest.mark.filterwarnings("ignore:tide")
def test_what_is_held_out_follows_the_seed_and_no_other_intervention():
    _, table, crops = several(wells=6)
    drug = table["perturbation"].to_numpy()
    found = split(crops, labels(table), KNN, 0).held_out
    assert found.tolist() == split(crops, labels(table), KNN, 0).held_out.tolist()
    assert found.tolist() != split(crops, labels(table), KNN, 1).held_out.tolist()
    without = split(crops, labels(table[table["perturbation"] != "aspirin"]), KNN, 0).held_out
    assert without.tolist() == [k for k in found if drug[k] != "aspirin"]


def test_an_intervention_with_one_well_holds_out_none_and_where_all_have_one_it_is_refused():
    _, table, crops = several(wells=2)
    few = table.drop(index=table.index[0])  # ethanol keeps one
    with pytest.warns(UserWarning, match="fewer than 10 images of 2 of 3 .* none of 1 with a single well"):
        found = split(crops, labels(few), KNN, 0)
    assert sorted(table["perturbation"].to_numpy()[found.held_out]) == ["aspirin", "benzene"]
    assert 1 in found.reference
    single = table.drop_duplicates("perturbation")
    with pytest.raises(FeaturizerError, match=r"no training perturbation has two wells .*checkpoint=last"):
        split(crops, labels(single), KNN, 0)
    several_fields = plate({"ethanol": [5], "aspirin": [5]})
    with pytest.raises(FeaturizerError, match=r"two wells .*; set checkpoint=last, or held_out_by=images"):
        split(*several_fields, KNN, 0)
    images = replace(KNN, held_out_by="images")
    with pytest.warns(UserWarning, match="10 images of 2 of 2 .* half of whose images are no more"):
        assert len(split(*several_fields, images, 0).held_out) == 4
    with pytest.raises(FeaturizerError, match=r"no training perturbation has two images .*checkpoint=last$"):
        split(crops, labels(single), images, 0)
    for nothing in (None, table.drop(columns="perturbation")):
        with pytest.raises(FeaturizerError, match="names; set checkpoint=last"):
            labels(nothing)


def test_crops_without_some_fields_are_those_of_the_others():
    _, _, crops = several(wells=2)
    rest = crops.without(np.array([1, 4]))
    kept = ~np.isin(crops.field, [1, 4])
    assert len(rest.pixels) == kept.sum() == rest.pixels.shape[0]
    index = np.array([3, 0, 3])
    np.testing.assert_array_equal(rest.pixels[index], crops.pixels[kept][index])
    np.testing.assert_array_equal(rest.inside[2:5], crops.inside[kept][2:5])
    assert rest.field.tolist() == crops.field[kept].tolist()
    plain = CropFile(crops.pixels[kept], crops.inside[kept], crops.field[kept], crops.wells)
    assert rest.statistics().as_json() == plain.statistics().as_json()


def test_checks_are_spread_over_the_steps_and_end_with_the_last():
    assert steps_of_checks(replace(KNN, steps=100, checks=4)) == [25, 50, 75, 100]
    assert steps_of_checks(replace(KNN, steps=7, checks=3)) == [3, 5, 7]
    assert steps_of_checks(replace(KNN, steps=2, checks=10)) == [1, 2]


@pytest.mark.filterwarnings("ignore:tide")
@pytest.mark.parametrize("term", ["dino", "mae"])
@pytest.mark.parametrize(
    ("scores", "best"),
    [((0.2, 0.9, 0.5), 4), ((0.9, 0.2, 0.5), 2), ((0.5, 0.9, 0.9), 6), ((0.0, 0.0, 0.0), 6)],
)
def test_the_weights_of_the_planted_best_step_are_kept(tmp_path, monkeypatch, term, scores, best):
    seen = []

    def measure(self, reader):
        seen.append({name: value.clone() for name, value in reader.state_dict().items()})
        return scores[len(seen) - 1]

    monkeypatch.setattr(Choice, "measure", measure)
    source, table = screen()
    trained, _, checks = train(source, table, replace(KNN, self_supervision=term), FitContext(tmp_path))
    assert checks == tuple(zip((2, 4, 6), scores, strict=True))
    found = trained.network.state_dict()
    for step, state in zip((2, 4, 6), seen, strict=True):
        same = all(torch.equal(found[name], value) for name, value in state.items())
        assert same is (step == best)
    assert not trained.network.training


def drawn(tmp_path, name, source, table):
    """Return the weights that a training with checks ends in, but for those it keeps."""
    train(source, table, KNN, FitContext(folder(tmp_path, name)))
    found = load_file(checkpoints(tmp_path / name)[-1] / "weights.safetensors")
    return {name: value for name, value in found.items() if not name.startswith("kept.")}


def poisoned(source, fields):
    bad = np.uint16(60_000)
    return Source(
        [replace(f, pixels=np.where(f.pixels % 3, f.pixels, bad)) if k in fields else f
         for k, f in enumerate(source.fields)]
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:tide")
def test_held_out_images_are_not_trained_on(tmp_path):
    source, table, crops = several(wells=2)
    images = split(crops, labels(table), KNN, 0)
    clean = drawn(tmp_path, "clean", source, table)
    other = drawn(tmp_path, "held out", poisoned(source, images.held_out), table)
    assert all(torch.equal(clean[name], value) for name, value in other.items())
    used = drawn(tmp_path, "reference", poisoned(source, images.reference[:1]), table)
    assert not all(torch.equal(clean[name], value) for name, value in used.items())


@pytest.mark.filterwarnings("ignore:tide")
def test_images_of_tested_perturbations_and_controls_do_not_change_the_choice():
    source, table, _ = several(wells=6)
    drug = table["perturbation"].to_numpy()
    trained = table[drug != "benzene"]
    network, choice = chooser(source, trained)
    reader = network.reader("encoder")
    score = choice.measure(reader)
    poison = np.flatnonzero(np.isin(drug, ["benzene", "DMSO"]))
    other = chooser(poisoned(source, poison), trained)[1]
    other.statistics = choice.statistics  # the scale is that of training, which sees all images it is given
    assert other.measure(reader) == score
    touched = {choice.crops.field[c] for c in choice._crops}
    assert set(drug[list(touched)]) == {"aspirin", "ethanol"}
    assert 0 <= score <= 1


@pytest.mark.filterwarnings("ignore:tide")
def test_the_measure_is_the_vote_over_means_of_an_images_crops_and_leaves_the_mode_of_training():
    source, table, crops = several(wells=4)
    network, choice = chooser(source, table, replace(KNN, cells=3, drop_path=0.5, depth=2, read="encoder"))
    network.train()
    reader = network.reader("encoder")
    reader.train()
    found = choice.measure(reader)
    assert all(m.training for m in reader.modules()), "a check must not end the training mode"
    from featurizers.training.pixels import prepare

    reader.eval()
    rows, statistics = [], crops.statistics()
    for field in [*choice.split.held_out, *choice.split.reference]:
        own = [c for c in choice._crops if crops.field[c] == field]
        assert len(own) == len(set(own)) == 3
        with torch.no_grad():
            images = prepare(
                torch.from_numpy(crops.pixels[own]), torch.from_numpy(crops.inside[own]), choice.config,
                statistics,
            )  # fmt: skip
            rows.append(reader.encoder(images)[:, 0].mean(dim=0).numpy())
    n = len(choice.split.held_out)
    own = choice.split.label[[*choice.split.held_out, *choice.split.reference]]
    assert found == pytest.approx(slow_accuracy(rows[:n], own[:n], rows[n:], own[n:], 20))


class Stop(Exception):
    pass


@pytest.mark.filterwarnings("ignore:tide")
@pytest.mark.parametrize("term", ["dino", "mae"])
def test_a_killed_training_keeps_the_same_step_in_the_same_bytes(tmp_path, monkeypatch, term):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)
    source, table = screen()
    config = replace(KNN, self_supervision=term)
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    expected = train(source, table, config, FitContext(whole))
    for stage, stop in (("train", 3), ("k-NN", 2), ("train", 5)):

        def die(progress, stage=stage, stop=stop):
            if progress.stage == stage and progress.done >= stop:
                raise Stop

        with pytest.raises(Stop):
            train(source, table, config, FitContext(parts, report=die), checkpoint_seconds=0)
    found = train(source, table, config, FitContext(parts))
    for path in checkpoints(whole)[-1].iterdir():
        assert path.read_bytes() == (checkpoints(parts)[-1] / path.name).read_bytes(), path.name
    assert found[2] == expected[2]
    again = train(source, table, config, FitContext(parts))  # complete: nothing is trained or measured
    for other in (found, again):
        for name, value in expected[0].network.state_dict().items():
            assert torch.equal(other[0].network.state_dict()[name], value)
    renamed = table.assign(perturbation=table["perturbation"].replace("ethanol", "methanol"))
    with pytest.raises(FeaturizerError, match="belongs to a training with other settings"):
        train(source, renamed, config, FitContext(parts))


@pytest.mark.filterwarnings("ignore:tide")
def test_the_choice_works_without_a_pair_and_is_kept_with_its_checks(tmp_path):
    source, table = screen()
    for read, given in (("encoder", table.drop(columns=table.columns[-5:])), ("student", table)):
        config = replace(KNN, read=read)
        featurizer = Tide(config)
        featurizer.fit(source, given, FitContext(folder(tmp_path, read)))
        assert [step for step, _ in featurizer.checks] == [2, 4, 6]
        assert all(0 <= score <= 1 for _, score in featurizer.checks)
        saved = folder(tmp_path, f"saved {read}")
        featurizer.save(saved)
        reader = Tide(config)
        reader.load(saved)
        assert reader.checks == featurizer.checks
        rows = featurizer.embed(source.fields).values
        np.testing.assert_array_equal(reader.embed(source.fields).values, rows)
    (saved / "interventions.json").write_text('{"interventions": [], "checks": [3]}')
    with pytest.raises(FeaturizerError, match="does not list steps and accuracies"):
        Tide(config).load(saved)


@pytest.mark.slow
def test_it_keeps_the_contract():
    config = replace(KNN, codebook_start="random", steps=4)
    results = check_featurizer(lambda: Tide(config))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "blind"} <= {r.name for r in results if r.status == "passed"}


def test_the_papers_choice_is_that_of_the_preset_paper():
    paper = PRESETS["paper"]
    assert (paper.checkpoint, paper.neighbours, paper.held_out, paper.checks) == ("knn", 20, 10, 400)
    assert PRESETS["default"].checkpoint == PRESETS["small"].checkpoint == "last"
    with pytest.raises(FeaturizerError, match="checkpoint is 'best'; choose one of last, knn"):
        replace(CONFIG, checkpoint="best")
    with pytest.raises(FeaturizerError, match="neighbours is 0; it must be positive"):
        replace(CONFIG, neighbours=0)
    with pytest.raises(FeaturizerError, match="held_out_by is 'plates'; choose one of wells, images"):
        replace(CONFIG, held_out_by="plates")


@pytest.mark.filterwarnings("ignore:tide")
def test_a_check_that_does_not_fit_in_memory_goes_on_with_fewer_crops(monkeypatch):
    source, table, _ = several()
    network, choice = chooser(source, table)
    reader = network.reader("encoder")
    whole = choice.measure(reader)
    inner = tide_choice.embedded

    def narrow(reader, images, config):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(reader, images, config)

    monkeypatch.setattr(tide_choice, "embedded", narrow)
    with pytest.warns(UserWarning, match="crops at once; going on with"):
        assert choice.measure(reader) == pytest.approx(whole, abs=1e-6)
