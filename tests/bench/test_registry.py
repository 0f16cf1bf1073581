import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pandas as pd
import pytest

from bench import registry as rooms
from bench.errors import UsageError
from bench.registry import KINDS, PluginError, Registry

GOOD = """
import dataclasses
from featurizers.cell_count import CellCount

class Granules(CellCount):
    card = dataclasses.replace(CellCount.card, name="granules")
"""


def plugin(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.fixture
def points(monkeypatch):
    """Replace the entry points of the environment by a dict of kind to entry points."""

    def install(**by_kind):
        def entry_points(group):
            return by_kind.get(group.removeprefix("wellbench."), [])

        monkeypatch.setattr(rooms, "entry_points", entry_points)

    return install


def point(name, value, origin="other"):
    entry = EntryPoint(name, value, "wellbench.featurizers")
    vars(entry).update(dist=SimpleNamespace(name=origin, version="2.0"))
    return entry


def test_the_shipped_controls_are_registered_and_work():
    probed = {entry.name: entry for entry in Registry().probe("featurizers")}
    for name in ("intensity", "position", "cell-count", "oracle"):
        assert probed[name].error is None
        assert probed[name].origin.startswith("wellbench ")


def test_everything_the_distribution_registers_works():
    broken = [entry.error for kind in KINDS for entry in Registry().probe(kind) if entry.error]
    assert broken == []


def test_listing_imports_no_entry_point():
    code = (
        "import sys\n"
        "from bench.registry import Registry, KINDS\n"
        "for kind in KINDS: Registry().listings(kind)\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('featurizers', 'tasks', 'torch', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(
        UsageError, match=r"no featurizer 'intensty'; did you mean 'intensity'\? there are: .*position"
    ):
        Registry().get("featurizers", "intensty")


def test_without_the_distribution_the_remedy_is_to_install_it(points):
    points()
    with pytest.raises(UsageError, match=r"there are: none; the distribution 'wellbench' is not installed"):
        Registry().get("featurizers", "mae")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no.such.module:Thing", "its import fails with ModuleNotFoundError: No module named 'no'"),
        ("featurizers.cell_count:Missing", "has no attribute 'Missing'"),
        ("featurizers.cell_count:CellCountConfig", "not a subclass of featurizers.base.Featurizer"),
        ("featurizers.base:Featurizer", "it does not implement columns, embed"),
        ("featurizers.cell_count:CellCount", "its card.name is 'cell-count' and it is registered as 'mine'"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_takes_nothing_else_down(points, value, reason):
    points(featurizers=[point("mine", value), point("intensity", "featurizers.intensity:Intensity")])
    registry = Registry()
    by_name = {entry.name: entry for entry in registry.probe("featurizers")}
    assert reason in by_name["mine"].error
    assert "of other 2.0) is broken" in by_name["mine"].error
    assert by_name["mine"].error.endswith("correct, update or uninstall it")
    assert by_name["intensity"].error is None
    with pytest.raises(PluginError, match="is broken"):
        registry.get("featurizers", "mine")
    assert registry.available("featurizers", "mine") == by_name["mine"].error


def test_two_origins_of_one_name_are_both_named_and_neither_is_chosen(points):
    points(
        featurizers=[
            point("intensity", "featurizers.intensity:Intensity", "wellbench"),
            point("intensity", "elsewhere:Intensity", "rival"),
        ]
    )
    with pytest.raises(PluginError) as error:
        Registry().get("featurizers", "intensity")
    assert "elsewhere:Intensity of rival 2.0" in str(error.value)
    assert "featurizers.intensity:Intensity of wellbench 2.0" in str(error.value)
    assert "rename or remove one of them" in str(error.value)


def test_the_same_entry_point_seen_twice_is_one(points):
    twice = [point("intensity", "featurizers.intensity:Intensity", "wellbench") for _ in range(2)]
    points(featurizers=twice)
    assert Registry().available("featurizers", "intensity") is None


def test_a_plugin_file_is_registered_under_its_own_name_with_its_hash(tmp_path):
    path = plugin(tmp_path, GOOD)
    registry = Registry([path])
    listing = next(entry for entry in registry.probe("featurizers") if entry.name == "granules")
    assert listing.error is None
    assert listing.origin.startswith(f"{path} (sha256 ")
    assert registry.get("featurizers", "granules").__name__ == "Granules"
    assert "cell-count" not in [
        e.name for e in registry.listings("featurizers") if e.origin == listing.origin
    ]


def test_a_plugin_file_may_hold_several_kinds(tmp_path):
    text = GOOD + (
        "from tasks.base import Head\n"
        "class Zero(Head):\n"
        "    name, version = 'zero', '1'\n"
        "    def fit(self, X, Y, mask, groups): return self\n"
        "    def predict(self, X): raise NotImplementedError\n"
    )
    registry = Registry([plugin(tmp_path, text)])
    assert registry.get("heads", "zero").version == "1"
    assert registry.get("featurizers", "granules").card.name == "granules"


def test_a_changed_file_is_loaded_again_under_another_origin(tmp_path):
    first = Registry([plugin(tmp_path, GOOD)]).get("featurizers", "granules")
    second = Registry([plugin(tmp_path, GOOD + "\n# changed\n")]).get("featurizers", "granules")
    assert first is not second


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no licence')", "it fails with RuntimeError: no licence"),
        ("import nothing_like_this", "No module named 'nothing_like_this'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_raises_is_listed_as_broken_and_the_rest_works(tmp_path, text, reason):
    registry = Registry([plugin(tmp_path, text, "bad.py"), plugin(tmp_path, GOOD)])
    by_name = {entry.name: entry for entry in registry.probe("featurizers")}
    assert reason in by_name["bad"].error
    assert by_name["granules"].error is None
    assert by_name["intensity"].error is None
    with pytest.raises(PluginError, match=r"correct it, or leave it out"):
        registry.get("featurizers", "bad")


def test_a_class_without_its_methods_is_listed_with_what_is_missing(tmp_path):
    text = "from featurizers.base import Featurizer\nclass Half(Featurizer):\n    pass\n"
    listing = next(e for e in Registry([plugin(tmp_path, text)]).probe("featurizers") if e.name == "Half")
    assert "it does not implement columns, embed" in listing.error


@pytest.mark.parametrize("path", ["absent.py", "table.csv"])
def test_a_plugin_that_is_no_python_file_is_wrong_usage(tmp_path, path):
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(UsageError, match=r"no such Python file"):
        Registry([tmp_path / path])


def test_a_plugin_file_without_any_class_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="defines no featurizer, predictor, task or head"):
        Registry([plugin(tmp_path, "x = 1\n")])


def test_a_file_that_takes_a_shipped_name_collides_with_it(tmp_path):
    registry = Registry([plugin(tmp_path, GOOD.replace("granules", "intensity"))])
    reason = registry.available("featurizers", "intensity")
    assert "of wellbench" in reason
    assert "mine.py (sha256" in reason


def test_a_comment_in_a_plugin_file_and_its_folder_change_no_key(tmp_path):
    from bench.store import code_digest

    (tmp_path / "elsewhere").mkdir()
    texts = {"a": GOOD, "elsewhere": "# a comment\n" + GOOD, "changed": GOOD + "\nSHIFT = 1\n"}
    found = {}
    for folder, text in texts.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        path = plugin(tmp_path / folder, text)
        found[folder] = code_digest(Registry([path]).get("featurizers", "granules"))
    assert found["a"] == found["elsewhere"]
    assert found["a"] != found["changed"]


def test_two_plugin_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="have the same name; rename one of them"):
        Registry([plugin(tmp_path, GOOD), plugin(tmp_path / "b", GOOD)])


def test_one_file_named_twice_is_one_plugin(tmp_path, monkeypatch):
    path = plugin(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert Registry([path, "mine.py"]).available("featurizers", "granules") is None


@dataclass
class Data:
    images: object = None
    latent: object = None
    layers: tuple = ()
    wells: object = None


WELLS = pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Well": ["A01"]})


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("intensity", Data(wells=WELLS), "the dataset has no images"),
        ("cell-count", Data(wells=WELLS), "no images to find objects in"),
        ("oracle", Data(wells=WELLS), "no latent states; only a simulated screen"),
        ("position", Data(wells=WELLS.assign(Metadata_Well="BRD-K1")), "no plate positions such as A01"),
        ("position", Data(wells=WELLS.drop(columns="Metadata_Plate")), "has no Metadata_Plate"),
        ("intensity", Data(images=WELLS, wells=WELLS), None),
        ("position", Data(wells=WELLS), None),
        ("oracle", Data(latent=WELLS, wells=WELLS), None),
    ],
)
def test_what_a_dataset_lacks_makes_an_entrant_unavailable(name, data, reason):
    found = Registry().available("featurizers", name, data)
    assert found is None if reason is None else reason in found


def test_a_task_needs_a_layer_of_its_kind(tmp_path):
    text = (
        "from tasks.base import Task\n"
        "class Calls(Task):\n"
        "    name, version, layer_kinds = 'calls', '1', ('regulation',)\n"
        "    floor, default_head = 'prevalence', 'mean'\n"
        "    def prepare(self, data): return data\n"
        "    def score(self, data, folds, results): raise NotImplementedError\n"
    )
    registry = Registry([plugin(tmp_path, text)])
    layers = (SimpleNamespace(kind="abundance"),)
    assert registry.available("tasks", "calls", Data(layers=layers)) == (
        "the dataset has no readout layer of kind regulation"
    )
    layers += (SimpleNamespace(kind="regulation"),)
    assert registry.available("tasks", "calls", Data(layers=layers)) is None
