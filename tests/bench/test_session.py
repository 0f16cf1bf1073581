"""What a run's key covers, and what a session makes of its settings."""

from __future__ import annotations

import os

import pytest

from bench.entrants import frame_digest
from bench.errors import UsageError
from bench.settings import Settings, parse_overrides, resolve


def test_the_code_that_evaluates_a_fold_enters_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.store import code_digest, source
    from tasks import evaluate

    before = code_digest(evaluate)
    parsed: list[str] = []
    read = source._read

    def note(path: source.Path, package: str) -> object:
        parsed.append(path.name)
        return read(path, package)

    monkeypatch.setattr(source, "_read", note)
    assert code_digest(evaluate) == before
    assert {"evaluate.py", "normalise.py", "mean.py", "folds.py"} <= set(parsed)


def test_a_table_with_missing_values_has_a_digest_that_notices_every_cell() -> None:
    import pandas as pd

    table = pd.DataFrame({"name": ["a", None, "c"], "value": [1.0, float("nan"), 3.0]})
    assert frame_digest(table) == frame_digest(table.copy())
    for column, value in (("name", "b"), ("value", 2.0)):
        changed = table.copy()
        changed.loc[1, column] = value
        assert frame_digest(changed) != frame_digest(table)
    assert frame_digest(table.rename(columns={"value": "other"})) != frame_digest(table)
    assert frame_digest(table[::-1]) != frame_digest(table)


@pytest.mark.parametrize("word", ["mae", "mae.steps", "=3", ".steps=3", "mae.=3"])
def test_a_setting_that_is_not_name_key_value_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"NAME\.KEY=VALUE"):
        parse_overrides([word])


def test_flags_win_over_the_file_key_by_key(tmp_path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'featurizers = ["mae"]\nseed = 4\n[overrides.mae]\nsteps = 5\nbatch = 6\n', encoding="utf-8"
    )
    settings = resolve(file, {"seed": 7, "overrides": {"mae": {"steps": "9"}}, "tasks": None})
    assert settings.featurizers == ("mae",)
    assert settings.seed == 7
    assert settings.overrides == {"mae": {"steps": "9", "batch": 6}}


@pytest.mark.parametrize("tasks", [("regression",), ("regression", "spatial"), ("regression", "retrieval")])
def test_a_head_that_fits_no_task_is_refused_before_anything_is_opened(tmp_path, tasks) -> None:
    from bench.start import start

    settings = Settings(
        featurizers=("intensity",), tasks=tasks, heads=("ridge", "logistic"),
        dataset=str(tmp_path / "nowhere"), store=str(tmp_path / "store"),
    )  # fmt: skip
    with pytest.raises(UsageError, match="head logistic takes readouts of 0 and 1, and task regression"):
        start(settings, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_heads_are_run_on_the_tasks_they_fit_and_the_others_are_named() -> None:
    from bench import heads
    from bench.entrants import known

    both = Settings(tasks=("regression", "classification"), heads=("logistic", "ridge"))
    heads.check(both)
    of = {task: heads.of_task(both, known(()).get("tasks", task)) for task in both.tasks}
    assert of == {"regression": ("ridge",), "classification": ("logistic", "ridge")}
    (said,) = heads.skipped(both)
    assert said.startswith("Head logistic ")
    assert "not run on task regression, which predicts values" in said
    assert heads.without(both, []) == {}
    own = Settings(tasks=both.tasks, heads=("logistic",))
    assert list(heads.without(own, [])) == ["regression"]
    assert heads.skipped(Settings(tasks=("regression",), heads=("logistic",))) == [], "it is refused"
    plain = Settings(tasks=both.tasks)
    assert heads.of_task(plain, known(()).get("tasks", "classification")) == ("logistic",)
    assert heads.skipped(plain) == []


def test_what_a_dear_head_costs_is_said_beside_where_a_head_is_not_run() -> None:
    from bench import heads
    from bench.entrants import known

    both = Settings(tasks=("regression", "classification"), heads=("logistic", "ridge", "mlp"))
    skipped, cost = heads.remarks(both)
    assert skipped.startswith("Head logistic ")
    assert cost == f"Head mlp {known(()).get('heads', 'mlp').cost}."


@pytest.mark.parametrize("head", ["ridge", "mlp", "logistic"])
@pytest.mark.parametrize("task", ["classification", "target", "retrieval"])
def test_every_head_is_taken_for_calls(task: str, head: str) -> None:
    from bench.heads import check

    check(Settings(tasks=(task,), heads=(head,)))


def test_processes_and_threads_are_the_cores_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 9}, raising=False)
    assert (Settings().processes, Settings().threads) == (3, 3)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert Settings().processes == 64


@pytest.mark.parametrize("name", ["processes", "seed"])
def test_a_negative_number_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Settings(**{name: -1})
