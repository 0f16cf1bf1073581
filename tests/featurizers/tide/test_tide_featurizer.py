"""The networks and their training: gradients, zero pairs, resume, contract, a planted signal."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.conformance import check_featurizer, failures
from featurizers.dino import Dino, DinoConfig
from featurizers.dino.train import Distillation
from featurizers.mae import Mae
from featurizers.tide import Tide, TideConfig
from featurizers.tide.config import PRESETS
from featurizers.tide.model import Codebook, Film, Guided, Teacher
from featurizers.tide.pairs import of_table
from featurizers.tide.train import Guidance, _network, train
from featurizers.training.files import checkpoints
from tests.featurizers.training.fields import Source, make_field

from .screen import CONFIG, screen


def folder(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    return path


def alone(config):
    """The self-supervised term of a config, as an entrant of its own."""
    if config.self_supervision == "mae":
        return Mae(config.mae())
    return Dino(DinoConfig(**{f.name: getattr(config, f.name) for f in fields(DinoConfig)}))


def guidance(config, seed=0):
    """Networks and pairs of the small screen, with crops held in memory."""
    from featurizers.training.cropfile import CropFile
    from featurizers.training.pixels import cut_cells

    source, table = screen()
    pairs = of_table(table, config)
    network = _network(config, 2, seed, pairs)
    cut = [cut_cells(field, config) for field in source]
    owner = np.repeat(np.arange(len(cut)), [len(c.ids) for c in cut])
    wells = tuple((f.metadata["Metadata_Plate"], f.metadata["Metadata_Well"]) for f in source.fields)
    crops = CropFile(
        np.concatenate([c.pixels for c in cut]), np.concatenate([c.inside for c in cut]), owner, wells
    )
    return network, Guidance(network, config, seed, crops, None, torch.device("cpu"), pairs)


@pytest.mark.parametrize("term", ["dino", "mae"])
def test_with_zero_pairs_the_encoder_ends_as_the_self_supervised_term_leaves_it(tmp_path, term):
    source, table = screen()
    config = replace(CONFIG, self_supervision=term, steps=4)
    other = alone(config)
    other.fit(source, None, FitContext(folder(tmp_path, "alone")))
    tide = Tide(config)
    with pytest.warns(UserWarning, match="zero pairs"):
        tide.fit(source, table.drop(columns=table.columns[-5:]), FitContext(folder(tmp_path, "zero")))
    rows = tide.embed(source.fields).values
    assert rows.tobytes() == other.embed(source.fields).values.tobytes()
    assert tide.interventions == ()
    guided = Tide(config)
    guided.fit(source, table, FitContext(folder(tmp_path, "guided")))
    assert not np.allclose(guided.embed(source.fields).values, rows), "pairs change the encoder"


def test_without_pairs_there_is_no_student_to_read(tmp_path):
    source, table = screen()
    tide = Tide(replace(CONFIG, read="student"))
    with (
        pytest.raises(FeaturizerError, match="read=student needs pairs"),
        pytest.warns(UserWarning, match="zero pairs"),
    ):
        tide.fit(source, table[table.columns[:-5]], FitContext(tmp_path))


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path):
    source, table = screen()
    config = replace(CONFIG, steps=2, teacher_weight=0.5, self_supervision_weight=0.25)
    train(source, table, config, FitContext(tmp_path))
    for row in pq.read_table(tmp_path / "metrics.parquet").to_pylist():
        expected = row["distil"] + 0.5 * row["teacher"] + 0.25 * row["self_supervision"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert row["distil"] >= 0


def test_the_self_supervised_part_of_the_first_step_is_that_of_the_term_alone(tmp_path):
    source, table = screen()
    train(source, table, replace(CONFIG, steps=1), FitContext(folder(tmp_path, "guided")))
    alone(replace(CONFIG, steps=1)).fit(source, None, FitContext(folder(tmp_path, "alone")))
    (guided,), (own,) = (
        pq.read_table(tmp_path / n / "metrics.parquet").to_pylist() for n in ("guided", "alone")
    )
    assert guided["self_supervision"] == own["loss"]
    assert guided["teacher_entropy"] == own["teacher_entropy"]


def test_with_alpha_zero_only_the_student_and_the_codebook_learn_from_pairs():
    network, pairs = guidance(replace(CONFIG, teacher_weight=0.0))
    pairs.accumulate(0)
    reached = {
        name.split(".")[0]
        for name, p in network.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }
    assert reached == {"alone", "student", "codebook"}
    assert all(p.grad is None for p in network.alone.teacher.parameters()), "the moving average never learns"
    network, pairs = guidance(replace(CONFIG, teacher_weight=0.0, distil_target="joint"))
    pairs.accumulate(0)
    assert any(p.grad.abs().max() > 0 for p in network.teacher.parameters() if p.grad is not None)


def test_the_gradient_of_a_step_is_that_of_the_sum_over_its_images():
    """One image after the other, through the networks by hand."""
    config = replace(CONFIG, drop_path=0.0, teacher_weight=2.0)
    network, pairs = guidance(config)
    found = pairs.accumulate(3)
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    wells, profiles, crops = pairs.of_step(3)
    own = pairs.pairs
    from featurizers.training.pixels import dihedral, prepare
    from featurizers.training.schedules import stream

    turns = torch.randint(8, crops.shape, generator=stream(0, "pair augment", 3))
    total = torch.zeros(())
    for w, r, c, turn in zip(wells, profiles, crops, turns, strict=True):
        images = prepare(
            torch.from_numpy(pairs.crops.pixels[c]), torch.from_numpy(pairs.crops.inside[c]), config, None
        )
        image = network.encoder(dihedral(images, turn))[:, 0].mean(0)
        film = network.teacher.image_dose.scale_shift(torch.from_numpy(own.dose[w]))
        dose = network.teacher.dose.scale_shift(torch.from_numpy(own.profile_dose[r]))
        rna = network.teacher.transcriptome(torch.from_numpy(own.profiles[r]))
        basal = network.teacher.transcriptome(torch.from_numpy(own.basal[own.context[w]]))
        d, t = len(image), len(rna)
        streams = [image * (1 + film[:d]) + film[d:], rna * (1 + dose[:t]) + dose[t:], basal]
        h_t, h_s = network.teacher.head(torch.cat(streams)), network.student(image)
        log_t, log_s = (
            (network.codebook.rows @ h / (config.temperature * h.norm())).log_softmax(0) for h in (h_t, h_s)
        )
        kl = (log_t.detach().exp() * (log_t.detach() - log_s)).sum()
        total = total + (kl - 2.0 * log_t[own.drug[w]]) / config.pairs
    total.backward()
    assert float(found["distil"] + found["guided"]) == pytest.approx(float(total.detach()), rel=1e-5)
    for name, p in network.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=1e-6)


def test_micro_batches_give_the_gradient_of_the_batch():
    seen = []
    for size in (0, 2, 5):
        network, pairs = guidance(replace(CONFIG, micro_batch=size))
        pairs.accumulate(1)
        seen.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        for name, value in other.items():
            torch.testing.assert_close(value, seen[0][name], rtol=1e-3, atol=1e-6)


def test_a_step_draws_each_paired_well_once_a_pass_and_crops_of_that_well():
    _, pairs = guidance(CONFIG)
    drawn = [pairs.of_step(step) for step in range(3)]  # 12 images of 6 wells: two passes
    wells = np.concatenate([w for w, _, _ in drawn])
    assert np.bincount(wells).tolist() == [2] * 6
    for w, r, c in drawn:
        for well, row, crops in zip(w, r, c, strict=True):
            assert row in pairs.pairs.candidates[well]
            assert {pairs.crops.wells[f] for f in pairs.crops.field[crops]} == {pairs.pairs.wells[well]}
            assert len(set(crops.tolist())) == 2, "no crop twice where there are enough"


def test_a_dose_changes_nothing_at_the_start_and_film_is_scale_and_shift():
    film = Film(3)
    rows, dose = torch.randn(4, 3), torch.randn(4, 2)
    assert torch.equal(film(rows, dose), rows)
    torch.nn.init.normal_(film.scale_shift[2].weight)
    scale, shift = film.scale_shift(dose).chunk(2, dim=1)
    torch.testing.assert_close(film(rows, dose), rows + scale * rows + shift)
    assert not torch.allclose(film(rows, dose), film(rows, dose + 1))


def test_the_codebook_begins_at_the_projected_fingerprints_and_may_then_drift():
    bits = torch.randint(2, (4, 128)).float()
    bits[3] = bits[0]
    book = Codebook(CONFIG, 4, bits)
    assert [name for name, _ in book.named_parameters()] == ["rows"]
    torch.testing.assert_close(book().norm(dim=1), torch.ones(4))
    assert torch.equal(book()[3], book()[0]), "the same structure, the same row"
    assert not torch.allclose(book()[1], book()[0])
    with torch.no_grad():
        book.rows.mul_(3)
    torch.testing.assert_close(book().norm(dim=1), torch.full((4,), 3.0))
    always = Codebook(replace(CONFIG, codebook_length="always"), 4, bits)
    with torch.no_grad():
        always.rows.mul_(3)
    torch.testing.assert_close(always().norm(dim=1), torch.ones(4))
    projected = Codebook(replace(CONFIG, codebook_form="projection"), 4, bits)
    assert {name.split(".")[0] for name, _ in projected.named_parameters()} == {"projection"}
    torch.testing.assert_close(projected().norm(dim=1), torch.ones(4))


def test_the_teacher_sees_no_structure():
    networks = []
    for seed in (0, 1):
        bits = torch.randint(2, (3, 128), generator=torch.Generator().manual_seed(seed)).float()
        ssl = _network(CONFIG, 2, 0, None).alone
        networks.append(Guided(CONFIG, ssl, 3, 5, bits, 0))
    given = [torch.randn(2, n) for n in (16, 2, 5, 2, 5)]
    first, second = (n.teacher(*given) for n in networks)
    assert torch.equal(first, second)
    assert not torch.allclose(networks[0].codebook(), networks[1].codebook())


def test_basal_expression_reaches_the_teacher_unless_it_is_left_out():
    given = [torch.randn(2, n) for n in (16, 2, 5, 2)]
    teacher = Teacher(CONFIG, 5)
    assert not torch.allclose(teacher(*given, torch.zeros(2, 5)), teacher(*given, torch.ones(2, 5)))
    without = Teacher(replace(CONFIG, basal="none"), 5)
    assert without(*given, None).shape == (2, CONFIG.codebook_dim)


@pytest.mark.parametrize("term", ["dino", "mae"])
def test_the_optimiser_treats_the_self_supervised_part_as_when_it_is_alone(term):
    config = replace(CONFIG, self_supervision=term)
    network, _ = guidance(config)
    decayed, free = network.groups()
    assert len(decayed) + len(free) == sum(p.requires_grad for p in network.parameters())
    assert any(p is network.codebook.rows for p in free)
    assert all(p.ndim == 1 or p is network.codebook.rows for p in free)
    own = _network(config, 2, 0, None)
    assert [p.shape for p in decayed[: len(own.groups()[0])]] == [p.shape for p in own.groups()[0]]
    for name, value in own.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), "the same start, whatever stands beside it"


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("term", ["dino", "mae"])
def test_a_killed_training_ends_in_the_same_bytes(tmp_path, monkeypatch, term):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)
    source, table = screen()
    config = replace(CONFIG, self_supervision=term, steps=4)
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(source, table, config, FitContext(whole))

    def die(progress):
        if progress.stage == "train" and progress.done >= 2:
            raise Stop

    with pytest.raises(Stop):
        train(source, table, config, FitContext(parts, report=die), checkpoint_seconds=0)
    train(source, table, config, FitContext(parts))
    for path in checkpoints(whole)[-1].iterdir():
        assert path.read_bytes() == (checkpoints(parts)[-1] / path.name).read_bytes(), path.name
    table.iloc[0, -1] += 1
    with pytest.raises(FeaturizerError, match="belongs to a training with other settings"):
        train(source, table, config, FitContext(parts))


def test_saved_weights_give_the_same_rows_and_name_the_interventions(tmp_path):
    source, table = screen()
    featurizer = Tide(replace(CONFIG, steps=2))
    held_out = table[table["perturbation"] != "benzene"]
    featurizer.fit(source, held_out, FitContext(folder(tmp_path, "work")))
    saved = folder(tmp_path, "saved")
    featurizer.save(saved)
    reader = Tide(replace(CONFIG, steps=2))
    reader.load(saved)
    assert reader.interventions == ("aspirin", "ethanol")
    np.testing.assert_array_equal(reader.embed(source.fields).values, featurizer.embed(source.fields).values)
    with pytest.raises(FeaturizerError, match=r"was trained with temperature=0\.1, not 0\.5"):
        Tide(replace(CONFIG, steps=2, temperature=0.5)).load(saved)
    (saved / "interventions.json").write_text('{"interventions": ["aspirin"]}')
    with pytest.raises(FeaturizerError, match="codebook"):
        Tide(replace(CONFIG, steps=2)).load(saved)


def test_images_without_a_drug_reach_the_self_supervised_term_alone_and_are_listed(tmp_path, monkeypatch):
    seen = {}

    def spy(name, cls, place):
        def make(*arguments):
            crops = arguments[place]
            seen[name] = {crops.wells[k] for k in np.unique(crops.field)}
            made = cls(*arguments)
            if name == "guided":
                seen[name] = {made.pairs.wells[k] for k in made._wells}
            return made

        return make

    monkeypatch.setattr("featurizers.tide.train.Distillation", spy("alone", Distillation, 3))
    monkeypatch.setattr("featurizers.tide.train.Guidance", spy("guided", Guidance, 3))
    source, table = screen()
    unpaired = table["perturbation"] == "benzene"
    table.loc[unpaired, table.columns[-5:]] = np.nan
    table.loc[unpaired, "perturbation"] = None
    featurizer = Tide(replace(CONFIG, steps=1))
    featurizer.fit(source, table, FitContext(folder(tmp_path, "work")))
    wells = set(table.loc[unpaired, ["Metadata_Plate", "Metadata_Well"]].itertuples(index=False, name=None))
    assert len(wells) == 2
    assert wells < seen["alone"]
    assert len(seen["alone"]) == 8
    assert len(seen["guided"]) == 4
    assert not wells & seen["guided"]
    assert featurizer.interventions == ("aspirin", "ethanol")
    saved = folder(tmp_path, "saved")
    featurizer.save(saved)
    reader = Tide(replace(CONFIG, steps=1))
    reader.load(saved)
    assert reader.unpaired == tuple(sorted(f"{plate}/{well}" for plate, well in wells))
    assert reader._origin.perturbations == ("DMSO", "aspirin", "ethanol"), "the screen names its controls"


def test_the_student_is_read_with_the_encoder_that_it_learned_with():
    network, _ = guidance(CONFIG)
    assert network.reader("encoder").encoder is network.alone.teacher.backbone
    assert network.reader("student").encoder is network.alone.student.backbone
    student = Tide(replace(CONFIG, read="student"))
    assert len(student.columns(())) == CONFIG.codebook_dim
    assert len(Tide(CONFIG).columns(())) == CONFIG.dim


def test_a_file_of_embeddings_is_named_by_content(tmp_path):
    source, table = screen()
    path = tmp_path / "model.csv"
    path.write_text("perturbation,e0\nethanol,1\nbenzene,2\naspirin,5\n")
    config = replace(CONFIG, steps=1, transcriptome=str(path))
    featurizer = Tide(config)
    assert featurizer.config.transcriptome.startswith("sha256:")
    assert asdict(featurizer.config) | {"transcriptome": ""} == asdict(replace(config, transcriptome=""))
    featurizer.fit(source, table[table.columns[:-5]], FitContext(folder(tmp_path, "work")))
    assert len(featurizer.interventions) == 3
    with pytest.raises(FeaturizerError, match="cannot be read"):
        Tide(replace(config, transcriptome=str(tmp_path / "absent.csv")))


@pytest.mark.slow
@pytest.mark.parametrize("term", ["dino", "mae"])
def test_it_keeps_the_contract(term):
    config = replace(CONFIG, self_supervision=term, codebook_start="random", steps=4)
    results = check_featurizer(lambda: Tide(config))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "blind"} <= {r.name for r in results if r.status == "passed"}


@pytest.mark.slow
def test_it_learns_a_planted_signal_that_random_weights_do_not_see(tmp_path):
    """Drugs that differ in their stripes are told by the student, from images it has not seen."""
    source, table = screen(periods=(4.0, 7.0, 14.0), wells=10)
    # At twice this rate the student is lost in some draws, at half of it or with the self-supervised term at
    # its full weight it may not have left its plateau by the end.
    config = replace(
        CONFIG, crop=24, patch=6, local_size=12, dim=32, depth=2, codebook_dim=16, teacher_hidden=32,
        student_hidden=32, transcriptome_hidden=16, pairs=12, cells=4, steps=240, batch=12, momentum=0.9,
        lr_per_256=2e-2, self_supervision_weight=0.1, drop_path=0.0, channel_drop=0.0, read="student",
    )  # fmt: skip
    fresh = [make_field(100 + k, period=(4.0, 7.0, 14.0)[k % 3]) for k in range(18)]

    def fitted(config, name):
        featurizer, work = Tide(config), folder(tmp_path, name)
        featurizer.fit(source, table, FitContext(work))
        rows = featurizer.embed(fresh)
        wells = np.stack([rows.values[rows.field == k].mean(axis=0) for k in range(18)])
        book = featurizer._trained.network.codebook.numpy()
        named = [featurizer.interventions[k] for k in (wells @ book.T).argmax(axis=1)]
        right = np.mean([n == ("ethanol", "benzene", "aspirin")[k % 3] for k, n in enumerate(named)])
        return right, pq.read_table(work / "metrics.parquet").to_pandas()

    trained, found = fitted(config, "trained")
    random, at_first = fitted(replace(config, steps=1, lr_per_256=1e-9), "random")
    assert found["teacher_top1"].iloc[-10:].mean() > 0.95
    assert found["student_top1"].iloc[-10:].mean() > 0.9
    assert found["distil"].iloc[-10:].mean() < 0.3 * found["distil"].max()
    assert trained > 0.8
    assert at_first["student_top1"].iloc[0] < 0.7
    assert random < 0.5, "by chance 1/3"


def test_presets_are_what_is_known_and_our_reading_of_the_rest():
    paper = PRESETS["paper"]
    assert (paper.crop, paper.patch, paper.dim, paper.depth, paper.heads) == (224, 16, 384, 12, 6), "ViT-S"
    assert (paper.fingerprint, paper.codebook_start, paper.codebook_form) == ("fcfp", "fingerprints", "rows")
    assert paper.momentum == 0.996
    assert (paper.pairing, paper.basal, paper.self_supervision) == ("intervention", "controls", "dino")
    assert PRESETS["tiny-mae"].mae().lr == 1e-4
    assert PRESETS["default"] == PRESETS["tiny"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be positive"),
        ({"teacher_weight": -1.0}, "teacher_weight is -1.0"),
        ({"pairing": "dose"}, "tide: pairing is 'dose'; choose one of intervention, well"),
        ({"dim": 15}, "tide: dim=15 is no multiple of heads=2"),
        ({"self_supervision": "mae", "mask_ratio": 0.99}, "tide: its masked autoencoder cannot be"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(CONFIG, **change)


def test_wells_without_cells_are_refused(tmp_path):
    _, table = screen()
    empty = [make_field(k, cells=0) for k in range(6)] + [make_field(9)]
    with pytest.raises(FeaturizerError, match="no well with a transcriptome has a cell"):
        train(Source(empty), table, CONFIG, FitContext(tmp_path))


def test_every_setting_is_documented():
    documented = TideConfig.__doc__ + DinoConfig.__doc__
    assert [f.name for f in fields(TideConfig) if f.name not in documented] == []
