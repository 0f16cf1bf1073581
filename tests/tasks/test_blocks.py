"""Features in blocks: each standardised apart, equal in weight, and every one of them needed."""

from dataclasses import replace

import numpy as np

from tasks import evaluate, folds, normalise
from tasks.base import Block, FoldId
from tasks.heads.ridge import Ridge
from tasks.protocol import load

PROTOCOL = load("nested-cv").with_settings(repeats=1)
FIRST = FoldId(0, 0)


def two_blocks(own, D=5, seed=3):
    return own.X, np.random.default_rng(seed).normal(size=(len(own.X), D)).astype(np.float32)


def predict(own, image, omics, **settings):
    table = folds.make(own.data, PROTOCOL)
    blocks = [Block("image", image), Block("omics", omics, plates=False)]
    protocol = PROTOCOL.with_settings(**settings)
    return evaluate.run_fold(own.data, lambda _: blocks, protocol, table, FIRST, Ridge)


def test_blocks_of_unequal_width_weigh_the_same_and_a_single_block_is_left_alone():
    rng = np.random.default_rng(0)
    train = np.arange(30)
    wide, narrow = (normalise.standardise(rng.normal(size=(40, d)), train) for d in (300, 10))
    wide[:, 7] = 0.0  # does not vary, so it does not count
    joined = normalise.balanced([wide, narrow], train)
    norms = [(joined[train][:, own] ** 2).sum(axis=1).mean() for own in (slice(0, 300), slice(300, None))]
    np.testing.assert_allclose(norms, [309 / 2, 309 / 2])
    assert normalise.balanced([wide], train) is wide


def test_the_scale_and_offset_of_a_block_do_not_matter(screen):
    own = screen()
    image, omics = two_blocks(own)
    plain = predict(own, image, omics)
    moved = predict(own, image, omics * 64 + 1024, normalisation=["fold"])
    unmoved = predict(own, image, omics, normalisation=["fold"])
    np.testing.assert_allclose(moved.prediction, unmoved.prediction, atol=1e-3)
    assert plain.prediction.shape == unmoved.prediction.shape


def test_poisoned_test_rows_of_either_block_change_no_bit_of_the_other_predictions(screen):
    own = screen(perturbations=15)
    image, omics = two_blocks(own)
    table = folds.make(own.data, PROTOCOL)
    test, _ = evaluate.split(table, FIRST)
    clean = predict(own, image, omics)
    for which in (0, 1):
        blocks = [image.copy(), omics.copy()]
        blocks[which][test[0]] = 1e9
        dirty = predict(own, *blocks)
        np.testing.assert_array_equal(dirty.prediction[1:], clean.prediction[1:])
        assert not np.array_equal(dirty.prediction[0], clean.prediction[0])


def test_a_unit_without_one_of_the_blocks_is_not_predicted(screen):
    own = screen()
    image, omics = two_blocks(own)
    test, _ = evaluate.split(folds.make(own.data, PROTOCOL), FIRST)
    omics[test[1]] = np.nan
    result = predict(own, image, omics)
    assert np.isnan(result.prediction[1]).all()
    assert np.isfinite(np.delete(result.prediction, 1, axis=0)).all()


def test_controls_of_the_image_plates_do_not_normalise_the_other_block(screen):
    own = screen()
    image, omics = two_blocks(own)
    moved = omics.copy()
    moved[own.data.well_control] += 50.0
    settings = {"normalisation": ["plate-standardise"]}
    one, other = predict(own, image, omics, **settings), predict(own, image, moved, **settings)
    np.testing.assert_array_equal(one.prediction, other.prediction)
    assert one.chosen["normalisation"] == "plate-standardise"


def test_an_entrant_without_image_features_has_no_plate_normalisation(screen):
    own = screen()
    _, omics = two_blocks(own)
    block = Block("omics", omics, plates=False)
    table = folds.make(own.data, PROTOCOL)
    result = evaluate.run_fold(own.data, lambda _: [block], PROTOCOL, table, FIRST, Ridge)
    assert result.chosen["normalisation"] == "fold"
    assert "no image features" in result.chosen["plate_normalisation_unavailable"]
    as_matrix = evaluate.run_fold(
        own.data, lambda _: omics, replace(PROTOCOL, normalisation=("fold",)), table, FIRST, Ridge
    )
    np.testing.assert_array_equal(result.prediction, as_matrix.prediction)
