"""Every check fails on a featurizer that breaks its promise, and only that one does."""

import dataclasses
import functools
import subprocess
import sys
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from featurizers.base import Card, Embedding, Featurizer, FeaturizerError, Progress
from featurizers.cell_count import CellCount
from featurizers.conformance import CHECKS, check_featurizer, failures, static
from featurizers.fields import grey_levels
from featurizers.intensity import Intensity
from featurizers.oracle import Oracle
from featurizers.position import Position
from featurizers.synthetic import PAINTING, synthetic_fields


@pytest.fixture(autouse=True)
def one_import_per_module(monkeypatch):
    """Import this file in a new process once, not once per broken featurizer."""
    monkeypatch.setattr(static, "subprocess", SimpleNamespace(run=_run_once))


@functools.cache
def _run_script_once(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def _run_once(command, **_):
    return _run_script_once(command[-1])


@dataclass(frozen=True, slots=True)
class GoodConfig:
    power: float = 1.0


class Good(Featurizer):
    """A featurizer that keeps every promise; the broken ones below change one thing each."""

    card = Card("good", "1", "Good", "none", "BSD-3-Clause", "any", "any", "nothing", ("pixels", "objects"))
    Config = GoodConfig
    presets = MappingProxyType({"default": GoodConfig(), "square": GoodConfig(2.0)})

    def columns(self, channels):
        return tuple(f"Mean_{c.name}" for c in channels)

    def embed(self, fields):
        rows = [self.row(f) for f in fields]
        return Embedding(np.array(rows, np.float32), np.arange(len(rows), dtype=np.int64))

    def row(self, one):
        return (grey_levels(one, "good") ** self.config.power).mean(axis=(1, 2))


class PerCell(Good):
    level = "cell"

    def embed(self, fields):
        owners = [(i, f, int(o)) for i, f in enumerate(fields) for o in f.ids]
        values = [grey_levels(f, "good")[:, f.masks["cells"] == o].mean(axis=1) for _, f, o in owners]
        return Embedding(
            np.array(values, np.float32).reshape(-1, len(fields[0].channels)),
            np.array([i for i, _, _ in owners], np.int64),
            np.array([o for _, _, o in owners], np.int32),
        )


class Trained(Good):
    """Adds a learnt offset per channel; trained by a loop with a checkpoint per step."""

    card = replace(Good.card, fit_scope="transductive")
    trainable = True
    steps = 4
    offset = None

    def embed(self, fields):
        found = super().embed(fields)
        return replace(found, values=found.values + self.offset)

    def fit(self, fields, table, context):
        checkpoint = context.workdir / "step.npz"
        start, offset = 0, np.zeros(len(fields.channels), np.float32)
        if checkpoint.exists():
            kept = np.load(checkpoint)
            start, offset = int(kept["step"]), kept["offset"]
        for step in range(start, self.steps):
            offset = offset + np.random.default_rng([context.seed, step]).normal(size=offset.shape)
            offset = offset.astype(np.float32)
            np.savez(checkpoint, step=step + 1, offset=offset)
            context.report(Progress("train", step + 1, self.steps))
        self.offset = offset

    def save(self, folder):
        from safetensors.numpy import save_file

        save_file({"offset": self.offset}, folder / "weights.safetensors")

    def load(self, folder):
        from safetensors.numpy import load_file

        if not (folder / "weights.safetensors").exists():
            raise FeaturizerError("no weights")
        tensors = load_file(folder / "weights.safetensors")
        if set(tensors) != {"offset"}:
            raise FeaturizerError(f"keys {sorted(tensors)}")
        self.offset = tensors["offset"]


@pytest.mark.parametrize("cls", [Good, PerCell, Trained, Intensity, Position, CellCount, Oracle])
def test_a_featurizer_that_keeps_the_contract_fails_nothing(cls):
    results = check_featurizer(cls)
    assert failures(results) == []
    assert [r.name for r in results] == [c.name for c in CHECKS]
    assert sum(r.status == "passed" for r in results) >= 13


def test_a_trained_featurizer_goes_through_every_check():
    assert {r.status for r in check_featurizer(Trained)} == {"passed"}


class EmptyCitation(Good):
    card = replace(Good.card, citation=" ")


class UnusableName(Good):
    card = replace(Good.card, name="My Features")


class UntrainedThatSawTheData(Good):
    card = replace(Good.card, fit_scope="inductive")


class UnpairedImagesWithoutReadouts(Good):
    card = replace(Good.card, images="all")


class UnknownNeed(Good):
    card = replace(Good.card, needs=("pixels", "objects", "readouts"))


@dataclass
class ThawedConfig:
    power: float = 1.0


class Thawed(Good):
    Config = ThawedConfig
    presets = MappingProxyType({"default": ThawedConfig()})


@dataclass(frozen=True)
class FolderConfig:
    power: float = 1.0
    table: dict = field(default_factory=dict)


class Unplain(Good):
    Config = FolderConfig
    presets = MappingProxyType({"default": FolderConfig()})


class WrongPreset(Good):
    presets = MappingProxyType({"default": GoodConfig(), "fast": {"power": 2.0}})


class RefusedPreset(Good):
    presets = MappingProxyType({"default": GoodConfig(), "zero": GoodConfig(0.0)})

    def __init__(self, config=None):
        super().__init__(config)
        if self.config.power == 0:
            raise FeaturizerError("power must not be 0")


class Raises(Good):
    def embed(self, fields):
        raise KeyError("cells")


class OneNameShort(Good):
    def columns(self, channels):
        return super().columns(channels)[1:]


class SameNameTwice(Good):
    def columns(self, channels):
        return ("Mean_DNA",) * len(channels)


class DoublePrecision(Good):
    def embed(self, fields):
        found = super().embed(fields)
        return replace(found, values=found.values.astype(np.float64))


class OutOfOrder(Good):
    def embed(self, fields):
        found = super().embed(fields)
        return replace(found, values=found.values[::-1], field=found.field[::-1])


class CellsWithoutIds(PerCell):
    def embed(self, fields):
        return replace(super().embed(fields), object=None)


class UnknownObject(PerCell):
    def embed(self, fields):
        found = super().embed(fields)
        return replace(found, object=found.object + np.int32(7))


class ReturnsNaN(Good):
    def row(self, one):
        return super().row(one) * (1 if len(one.ids) else np.nan)


class Noisy(Good):
    def row(self, one):
        return super().row(one) + np.random.default_rng().normal(size=len(one.channels))


class NormalisedOverTheBatch(Good):
    def embed(self, fields):
        found = super().embed(fields)
        return replace(found, values=found.values - found.values.mean(axis=0))


class WritesIntoPixels(Good):
    def row(self, one):
        result = super().row(one)
        one.pixels[...] = one.pixels  # nothing changes, and still it is a write
        return result


class WritesIntoMetadata(Good):
    def row(self, one):
        one.metadata["Seen"] = True
        return super().row(one)


class ReadsTheCompound(Good):
    def row(self, one):
        return super().row(one) + len(str(one.metadata.get("Metadata_Compound")))


class ReadsTheWell(Good):
    def row(self, one):
        return super().row(one) + int(str(one.metadata["Metadata_Well"])[1:])


class RowsForNoCell(PerCell):
    def embed(self, fields):
        if len(fields) == 1 and not len(fields[0].ids):
            return Embedding(
                np.zeros((1, len(fields[0].channels)), np.float32),
                np.zeros(1, np.int64),
                np.ones(1, np.int32),
            )
        return super().embed(fields)


class DividesByTheSpread(Good):
    def row(self, one):
        levels = grey_levels(one, "good")
        with np.errstate(all="ignore"):
            return levels.mean(axis=(1, 2)) / levels.std(axis=(1, 2))


class PassesNaNOn(Good):
    def row(self, one):
        scale = 1 if one.bit_depth == 32 else 2**one.bit_depth - 1
        return (one.pixels / scale).mean(axis=(1, 2))


class NamelessRefusal(Good):
    def row(self, one):
        try:
            return super().row(one)
        except FeaturizerError:
            raise FeaturizerError("bad image") from None


class Pickles(Trained):
    def save(self, folder):
        super().save(folder)
        (folder / "rest.pkl").write_bytes(b"")


class ForgetsTheWeights(Trained):
    def load(self, folder):
        super().load(folder)
        self.offset = self.offset * 0


class LaxLoad(Trained):
    def load(self, folder):
        from safetensors.numpy import load_file

        if not (folder / "weights.safetensors").exists():
            raise FeaturizerError("no weights")
        self.offset = load_file(folder / "weights.safetensors").get("offset", np.zeros(5, np.float32))


class EmptyLoad(Trained):
    def load(self, folder):
        if list(folder.iterdir()):
            super().load(folder)


class Unseeded(Trained):
    def fit(self, fields, table, context):
        super().fit(fields, table, context)
        self.offset = np.random.default_rng().normal(size=5).astype(np.float32)


class StartsAgain(Trained):
    def fit(self, fields, table, context):
        resumed = (context.workdir / "step.npz").exists()
        super().fit(fields, table, context)
        self.offset = self.offset + np.float32(resumed)


@pytest.mark.parametrize(
    ("cls", "check", "sentence"),
    [
        (EmptyCitation, "card", "card.citation is empty"),
        (UnusableName, "card", "'My Features' is used in paths"),
        (UntrainedThatSawTheData, "card", "it must be 'pretrained'"),
        (UnknownNeed, "card", "card.needs holds ['readouts']"),
        (UnpairedImagesWithoutReadouts, "card", 'add "readouts" to card.learns_from'),
        (Thawed, "config", "Config is not frozen"),
        (Unplain, "config", "Config.table is a dict"),
        (WrongPreset, "presets", "preset 'fast' is a dict"),
        (RefusedPreset, "presets", "preset 'zero' is refused by the featurizer itself: power must not be 0"),
        (Raises, "embeds", "raised KeyError: 'cells'"),
        (OneNameShort, "columns", "columns returns 0 names and embed 1 columns for 1 channels"),
        (SameNameTwice, "columns", "Mean_DNA more than once"),
        (DoublePrecision, "form", "values are float64"),
        (OutOfOrder, "form", "rows are not in the order of the fields"),
        (CellsWithoutIds, "form", "return object as (n,) int32"),
        (UnknownObject, "form", "return existing ids"),
        (ReturnsNaN, "finite", "5 of 20 values are NaN or infinite, the first in column 0 of field 1"),
        (Noisy, "deterministic", "other values when called again"),
        (NormalisedOverTheBatch, "batch-invariant", "embedded one by one"),
        (WritesIntoPixels, "pure", "writes into the arrays"),
        (WritesIntoMetadata, "pure", "changes a field's metadata"),
        (ReadsTheCompound, "blind", "metadata that the card does not need"),
        (ReadsTheWell, "blind", "metadata that the card does not need"),
        (RowsForNoCell, "empty-field", "a field without a cell gives rows per cell"),
        (DividesByTheSpread, "constant-channel", "every pixel is 0 gives NaN"),
        (PassesNaNOn, "bad-pixels", "raise FeaturizerError naming plate and well"),
        (NamelessRefusal, "bad-pixels", "does not name the plate and the well"),
        (Pickles, "save-load", "save writes rest.pkl"),
        (ForgetsTheWeights, "save-load", "differs; save all that was fitted"),
        (LaxLoad, "strict-load", "load accepts an unknown tensor"),
        (EmptyLoad, "strict-load", "load accepts an empty folder"),
        (Unseeded, "fit-deterministic", "two fits with the same seed gives other bytes"),
        (StartsAgain, "resume", "killed and resumed gives other bytes in weights.safetensors"),
    ],
)
def test_a_broken_promise_fails_its_own_check_and_no_other(cls, check, sentence):
    failed = failures(check_featurizer(cls))
    assert len(failed) == 1, failed
    assert failed[0].startswith(f"{check}: ")
    assert sentence in failed[0]


def test_every_check_has_a_featurizer_that_fails_it():
    mark = next(m for m in test_a_broken_promise_fails_its_own_check_and_no_other.pytestmark)
    assert {case[1] for case in mark.args[1]} | {"import"} == {c.name for c in CHECKS}


def test_importing_torch_with_the_module_fails_the_import_check(tmp_path):
    from bench.registry import Registry

    path = tmp_path / "heavy.py"
    path.write_text(
        "import sys\n"
        "import types\n"
        "sys.modules.setdefault('tensorflow', types.ModuleType('tensorflow'))\n"
        "import tensorflow\n"
        "from featurizers.cell_count import CellCount\n"
        "import dataclasses\n"
        "class Heavy(CellCount):\n"
        "    card = dataclasses.replace(CellCount.card, name='heavy')\n"
    )
    failed = failures(check_featurizer(Registry([path]).get("featurizers", "heavy")))
    sys.modules.pop("tensorflow")
    assert len(failed) == 1
    assert "imports tensorflow, which makes every command slow" in failed[0]


def test_a_channel_rule_may_refuse_some_channels_but_not_all():
    class OnlyFive(Good):
        def columns(self, channels):
            if len(channels) != 5:
                raise FeaturizerError("takes 5 channels")
            return super().columns(channels)

    assert failures(check_featurizer(OnlyFive)) == []
    assert (
        failures(check_featurizer(OnlyFive, channels=PAINTING[:3]))[0]
        == "embeds: refused with: takes 5 channels"
    )


def test_a_factory_that_raises_is_one_failed_result():
    def make():
        raise RuntimeError("no licence file")

    results = check_featurizer(make)
    assert [(r.name, r.status) for r in results] == [("card", "failed")]
    assert "no licence file" in results[0].message


def test_a_check_that_rests_on_a_failed_one_is_skipped_and_says_so():
    skipped = {r.name: r.message for r in check_featurizer(Noisy) if r.status == "skipped"}
    assert skipped["blind"] == "says nothing before deterministic passes"


def test_a_fit_that_cannot_be_interrupted_is_skipped_not_passed():
    class Silent(Trained):
        def fit(self, fields, table, context):
            super().fit(fields, table, dataclasses.replace(context, report=lambda _: None))

    result = check_featurizer(Silent)[-1]
    assert (result.name, result.status) == ("resume", "skipped")
    assert "never reported to be half-way" in result.message


@pytest.mark.parametrize("bit_depth", [8, 12, 16, 32])
def test_synthetic_fields_are_the_same_for_the_same_seed_and_hold_what_they_say(bit_depth):
    first, again, other = (synthetic_fields(bit_depth=bit_depth, seed=s) for s in (1, 1, 2))
    assert len(first) == 4
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert not np.array_equal(a.pixels, c.pixels)
        assert a.pixels.max() <= (1 if bit_depth == 32 else 2**bit_depth - 1)
        for mask in a.masks.values():
            assert np.array_equal(np.setdiff1d(mask, 0), a.ids)
        for centre, label in zip(a.centres, a.ids, strict=True):
            where = np.argwhere(a.masks["cells"] == label).mean(axis=0)
            assert np.abs(where - centre).max() < 1
