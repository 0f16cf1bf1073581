from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.configure import configure, type_name
from bench.errors import UsageError


@dataclass(frozen=True)
class Config:
    width: int = 64
    rate: float = 0.1
    name: str = "adam"
    loss: Literal["mse", "fourier"] = "mse"
    blocks: tuple[int, ...] = (1, 2)
    size: tuple[int, int] = (8, 8)
    limit: int | None = None
    flip: bool = False

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width must be positive")


ENTRANT = SimpleNamespace(
    card=SimpleNamespace(name="net"),
    Config=Config,
    presets={"default": Config(), "tiny": Config(width=8)},
)


def test_without_words_it_is_the_default_preset():
    assert configure(ENTRANT) == Config()


def test_overrides_stand_on_the_preset():
    assert configure(ENTRANT, "tiny", {"rate": "0.5"}) == Config(width=8, rate=0.5)


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("width", "12", 12),
        ("width", 12.0, 12),
        ("rate", "1e-3", 0.001),
        ("rate", 2, 2.0),
        ("name", "none", "none"),
        ("loss", "fourier", "fourier"),
        ("blocks", "3, 4,5", (3, 4, 5)),
        ("blocks", "", ()),
        ("blocks", [7], (7,)),
        ("size", "16,32", (16, 32)),
        ("limit", "none", None),
        ("limit", "9", 9),
        ("limit", None, None),
        ("flip", "true", True),
    ],
)
def test_a_word_is_read_by_the_type_of_its_setting(key, word, value):
    found = getattr(configure(ENTRANT, None, {key: word}), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "word", "sentence"),
    [
        ("width", "many", "net: setting width='many' is not a whole number"),
        ("width", "1.5", "is not a whole number"),
        ("width", True, "is not a whole number"),
        ("rate", "fast", "is not a number"),
        ("name", 3, "is not text"),
        ("loss", "forier", "is not one of mse, fourier; did you mean 'fourier'?"),
        ("blocks", "1,x", "is not a whole number"),
        ("blocks", 3, "is not a list of values"),
        ("size", "16", "has 1 values where 2 are wanted"),
        ("limit", "soon", "is not a whole number"),
        ("flip", "yes", "is neither true nor false"),
        ("widht", "3", "net: no setting 'widht'; did you mean 'width'?"),
        ("width", "0", "width must be positive"),
    ],
)
def test_a_word_that_cannot_be_read_is_wrong_usage(key, word, sentence):
    with pytest.raises(UsageError) as error:
        configure(ENTRANT, None, {key: word})
    assert sentence in str(error.value)


def test_an_unknown_preset_gets_the_nearest():
    with pytest.raises(
        UsageError, match=r"net: no preset 'tyni'; did you mean 'tiny'\? there are: default, tiny"
    ):
        configure(ENTRANT, "tyni")


@given(st.integers(), st.floats(allow_nan=False), st.lists(st.integers(), max_size=4))
def test_what_was_printed_is_read_back(limit, rate, blocks):
    words = {"limit": str(limit), "rate": repr(rate), "blocks": ",".join(map(str, blocks))}
    assert configure(ENTRANT, None, words) == Config(limit=limit, rate=rate, blocks=tuple(blocks))


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (int | None, "int or none"),
        (Literal["a", "b"], "a | b"),
        (tuple[float, ...], "float, …"),
        (tuple[Literal["a", "b"], ...], "(a | b), …"),
        (tuple[int, int], "int, int"),
    ],
)
def test_types_are_written_for_a_reader(hint, text):
    assert type_name(hint) == text
