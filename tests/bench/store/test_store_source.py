"""The code digest changes with what code does, and with nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.store import code_digest

FILES = {
    "labpkg/__init__.py": "from labpkg.registry import NAMES\n",
    "labpkg/registry.py": "NAMES = ('a',)\n",
    "labpkg/base.py": '''
        """Base."""
        class Base:
            """A base."""
            limit = 3
    ''',
    "labpkg/method/__init__.py": "from .model import Method\n",
    "labpkg/method/model.py": '''
        """A method."""
        import json
        from ..base import Base
        # a comment
        class Method(Base):
            """Does it."""
            def embed(self, x):
                """Embed."""
                from labpkg.method import kernels
                return kernels.scale(x, "it's") * 2
    ''',
    "labpkg/method/kernels.py": """
        import labpkg.method.tables
        def scale(x, label):
            return x * labpkg.method.tables.FACTOR
    """,
    "labpkg/method/tables.py": "FACTOR = 0.5\n",
    "labpkg/other.py": "import labpkg.nowhere\nUNUSED = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes the package with changed files and returns the digest of its class."""
    root = tmp_path / "a path"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))

    def write(changes: dict[str, str] | None = None, *, only: str | None = None) -> str:
        for name, content in (FILES | (changes or {})).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        forget()
        importlib.invalidate_caches()
        module = importlib.import_module("labpkg.method.model")
        if only == "unloaded":
            for name in [n for n in sys.modules if n.startswith("labpkg") and n != "labpkg.method.model"]:
                del sys.modules[name]
        return code_digest(module.Method)

    def forget() -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == "labpkg"]:
            del sys.modules[name]

    yield write
    forget()


def edit(name: str, old: str, new: str) -> dict[str, str]:
    content = textwrap.dedent(FILES[name])
    assert old in content
    return {name: content.replace(old, new)}


MODEL, KERNELS, BASE = "labpkg/method/model.py", "labpkg/method/kernels.py", "labpkg/base.py"


@pytest.mark.parametrize(
    "change",
    [
        edit(MODEL, "# a comment", "# another comment\n\n\n"),
        edit(MODEL, "# a comment\n", ""),
        edit(MODEL, '"""Does it."""', '"""Does it well."""'),
        edit(MODEL, '"""A method."""\n', "# nothing\n"),
        edit(MODEL, '"it\'s"', "'it\\'s'"),
        edit(BASE, '"""A base."""', "'''Base of all.'''"),
        edit(KERNELS, "return x *", "return x  \\\n        *"),
        edit("labpkg/other.py", "1", "2"),
        edit("labpkg/registry.py", "'a'", "'a', 'b'"),
    ],
    ids=lambda change: next(iter(change)),
)
def test_comments_docstrings_layout_and_unused_modules_do_not_count(package, change):
    assert package(change) == package()


@pytest.mark.parametrize(
    "change",
    [
        edit(MODEL, "* 2", "* 3"),
        edit(MODEL, "* 2", "* 2.0"),
        edit(MODEL, "embed", "embed_all"),
        edit(BASE, "limit = 3", "limit = 4"),
        edit(KERNELS, "x *", "x +"),
        edit("labpkg/method/tables.py", "0.5", "0.25"),
        edit("labpkg/method/tables.py", "0.5", "'0.5'"),
    ],
)
def test_constants_names_and_imported_code_count_however_deep(package, change):
    assert package(change) != package()


def test_the_digest_does_not_depend_on_what_is_imported_or_where_the_code_lies(
    package, tmp_path, monkeypatch
):
    before = package()
    assert package(only="unloaded") == before
    moved = tmp_path / "elsewhere"
    (tmp_path / "a path").rename(moved)
    monkeypatch.syspath_prepend(str(moved))
    for name in [n for n in sys.modules if n.partition(".")[0] == "labpkg"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    assert code_digest(importlib.import_module("labpkg.method.model").Method) == before


def test_modules_that_are_followed_are_not_executed(package):
    before = package()
    after = package({"labpkg/method/tables.py": "FACTOR = 0.5\nraise SystemError('executed')\n"})
    assert after != before


def test_a_plugin_file_has_a_digest_that_notices_its_base_class(tmp_path, package):
    package()
    plugin = tmp_path / "my plugin.py"

    def load(text: str) -> type:
        plugin.write_text(text)
        spec = importlib.util.spec_from_file_location("my_plugin", plugin)
        module = importlib.util.module_from_spec(spec)
        sys.modules["my_plugin"] = module
        spec.loader.exec_module(module)
        return module.Mine

    try:
        text = "from featurizers.base import Featurizer\nclass Mine(Featurizer):\n    size = 3\n"
        alone = code_digest(load("class Mine:\n    size = 3\n"))
        with_base = code_digest(load(text))
        assert with_base not in {alone, code_digest(load(text.replace("3", "4")))}
        assert with_base == code_digest(load("# mine\n" + text))
    finally:
        del sys.modules["my_plugin"]


def test_a_module_and_a_class_in_it_have_one_digest_if_the_class_adds_no_base(package):
    package()
    kernels = importlib.import_module("labpkg.method.kernels")
    assert code_digest(kernels) == code_digest(importlib.import_module("labpkg.method.kernels"))
    assert code_digest(kernels) != code_digest(importlib.import_module("labpkg.method.tables"))


def test_code_without_a_file_and_code_that_does_not_parse_are_refused(package, tmp_path):
    with pytest.raises(StoreError, match=r"define .* in a file"):
        code_digest(type("Made", (), {"__module__": "made_up_at_run_time"}))
    package()
    (tmp_path / "a path" / "labpkg/method/tables.py").write_text("FACTOR = = 1\n")
    with pytest.raises(StoreError, match=r"tables\.py cannot be parsed"):
        code_digest(sys.modules["labpkg.method.model"].Method)


def test_the_digest_of_a_real_entrant_covers_its_contract():
    base = importlib.import_module("featurizers.base")
    assert len(code_digest(base.Featurizer)) == 64
    assert Path(base.__file__).exists()
