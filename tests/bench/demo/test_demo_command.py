"""``bench demo`` says what it made, in words or in JSON."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import main


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        main(["demo", *words])
        code = 0
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_it_reports_what_it_made_and_reuses_it(capsys, tiny):
    words = ["--out", str(tiny), "--plates", "1", "--compounds", "6", "--doses", "1", "--seed", "3"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "38 wells, 190 images" in out
    assert "bench run --dataset" in out
    code, out, _ = run(capsys, *words, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["folder"] == str(tiny)
    assert facts["readouts"] == {"transcripts": 320, "proteins": 130, "regulation": 320, "targets": 24}
    assert facts["null_abundances"] == 220


@pytest.mark.parametrize(("words", "expected"), [(["--compounds", "600"], 2), (["--seed", "5"], 1)])
def test_what_cannot_be_made_is_one_sentence_and_an_exit_code(capsys, tiny, words, expected):
    code, out, err = run(capsys, "--out", str(tiny), *words)
    assert code == expected
    assert out == ""
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
