"""Preparation in ``dataset.toml``: applied before rows meet wells, said, and in the key of what is scored."""

import numpy as np
import pandas as pd
import pytest

from bench import problem as problems
from bench.datasets import check, join_with_report, load
from bench.errors import DatasetError
from tasks.protocol import load as load_protocol
from tasks.regression import Regression

STEPS = """
[[layers.prepare]]
step = "low-expression"
min_share = 0.5

[[layers.prepare]]
step = "size-factors"

[[layers.prepare]]
step = "log"

[[layers.prepare]]
step = "plate-centre"

[[features]]"""


@pytest.fixture
def counts(small, edit):
    """The small dataset with counts, one readout of which is hardly expressed."""
    rng = np.random.default_rng(1)
    rna = pd.read_csv(small / "rna.csv", dtype={"Metadata_Plate": str})
    for i, name in enumerate(["<script>", 'a","b', "TP53"]):
        rna[name] = rng.integers(5, 50, 6) * (1 if i != 1 else [0, 0, 0, 0, 0, 1])
    rna.to_csv(small / "rna.csv", index=False)
    edit("dataset.toml", 'scale = "log"', 'scale = "counts"')
    return small


def test_steps_are_applied_in_order_and_said(counts, edit):
    before, _ = join_with_report(*_layer(counts))
    edit("dataset.toml", "\n[[features]]", STEPS)
    data, _ = join_with_report(*_layer(counts))
    assert data.readouts == ("<script>", "TP53")
    assert data.scale == "log"
    raw = before.Y[:, [0, 2]].astype(float)
    factors = np.exp(np.median(np.log(raw) - np.log(raw).mean(axis=0), axis=1))
    expected = np.log2(raw / factors[:, None] + 1)
    expected -= expected[data.control].mean(axis=0)
    np.testing.assert_allclose(data.Y, expected, rtol=1e-5, atol=1e-6)
    assert [note.split(":")[0] for note in data.notes] == [
        "Low-expression",
        "Size-factors",
        "Log",
        "Plate-centre",
    ]
    assert all(note.endswith(".") for note in data.notes)
    assert not [f for f in check(load(counts)) if f.severity == "error"]


def test_another_setting_is_another_problem_and_without_steps_nothing_changes(counts, edit):
    def key():
        dataset = load(counts)
        protocol = load_protocol("random-wells").with_settings(
            outer_folds=2, inner_folds=2, min_groups_per_inner_fold=1
        )
        (made,) = problems.make(None, dataset, dataset.layer("rna"), Regression(), protocol)
        return made.key

    plain = key()
    edit("dataset.toml", "\n[[features]]", STEPS)
    prepared = key()
    edit("dataset.toml", 'step = "log"', 'step = "log"\npseudocount = 0.5')
    assert len({plain, prepared, key()}) == 3


def test_faults_of_steps_are_named_with_their_place(counts, edit):
    edit("dataset.toml", "\n[[features]]", STEPS.replace('"log"', '"lag"').replace("min_share", "share"))
    with pytest.raises(DatasetError) as caught:
        load(counts)
    assert "[[layers]] 1, [[prepare]] 3: there is no preparation step 'lag'; did you mean 'log'" in str(
        caught.value
    )
    assert "has no setting 'share'" in str(caught.value)


def test_a_step_that_meets_the_wrong_scale_is_a_finding_and_an_error(small, edit):
    edit("dataset.toml", "\n[[features]]", STEPS)
    with pytest.raises(
        DatasetError, match=r"rna.csv: layer 'rna': step 'low-expression' takes counts or ratio"
    ):
        join_with_report(*_layer(small))
    assert "no-join" in {f.code for f in check(load(small))}


def test_a_panel_may_come_from_a_file_whose_content_is_in_the_digest(small, edit):
    (small / "panel.txt").write_text("TP53\n", encoding="utf-8")
    step = 'step = "panel"\ntitle = "one"\nfile = "panel.txt"\nselected_by = "R2"\n'
    edit("dataset.toml", "\n[[features]]", f"\n[[layers.prepare]]\n{step}\n[[features]]")
    data, _ = join_with_report(*_layer(small))
    assert (data.readouts, data.panel) == (("TP53",), "score-selected")
    before = load(small).digest()
    (small / "panel.txt").write_text("TP53\n<script>\n", encoding="utf-8")
    assert load(small).digest() != before
    (small / "panel.txt").unlink()
    with pytest.raises(DatasetError, match=r"panel\.txt"):
        load(small)


def test_image_plates_take_the_draws_of_their_perturbation_in_turn(small, edit):
    wells = pd.read_csv(small / "wells.csv", dtype=str)
    wells = pd.concat([wells.assign(Metadata_Plate=plate) for plate in ("1", "2", "10")])
    wells.to_csv(small / "wells.csv", index=False)
    rng = np.random.default_rng(0)
    omics = pd.DataFrame({"Metadata_OmicsWell": [f"o{i}" for i in range(30)], "g": rng.normal(size=30)})
    omics.insert(0, "Metadata_Compound", np.repeat(["DMSO", "x-2", "x-10"], 10))
    omics.to_csv(small / "rna.csv", index=False)
    edit(
        "dataset.toml",
        'key = ["Metadata_Plate", "Metadata_Well"]',
        'key = ["Metadata_Compound", "Metadata_OmicsWell"]',
    )
    edit(
        "dataset.toml",
        "\n[[features]]",
        '\n[[layers.prepare]]\nstep = "draw-replicates"\nby = ["Metadata_Compound"]\n\n[[features]]',
    )
    data, report = join_with_report(*_layer(small))
    label = {
        (p, c): y for p, c, y in zip(data.units["Metadata_Plate"], data.groups, data.Y[:, 0], strict=True)
    }
    for compound in ("x-2", "x-10"):
        assert label["1", compound] == label["10", compound] != label["2", compound]
        own = omics.loc[omics["Metadata_Compound"] == compound, "g"].to_numpy()
        pairs = [(a + b) / 2 for a in own for b in own if a < b]
        for plate in "12":
            assert np.isclose(label[plate, compound], pairs, rtol=1e-5).any()
    assert report.units == 9
    assert "3 groups by Metadata_Compound" in data.notes[0]


def _layer(folder):
    dataset = load(folder)
    return dataset, dataset.layer("rna"), dataset.wells
