"""A stand-in for MySQL's client inside CellProfiler's environment; run there, it installs itself.

CellProfiler 4.2.8 imports sqlite3 in the same ``try`` as MySQLdb and escapes text with it, so that without it
ExportToDatabase fails for SQLite too. This connects to nothing. A real client is left alone.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path


class Error(Exception):
    """What the client would raise."""


def connect(**_: object) -> None:
    """Refuse."""
    raise Error("this environment has no MySQL client; install mysqlclient in it, or export to SQLite")


def escape_string(text: str) -> bytes:
    """Return text fit for SQL's single quotes."""
    return text.replace("'", "''").encode()


def _install() -> None:
    folder = Path(sysconfig.get_paths()["purelib"]) / "MySQLdb"
    ours = folder / "wellbench"
    if importlib.util.find_spec("MySQLdb") is not None and not ours.is_file():
        return
    folder.mkdir(exist_ok=True)
    ours.touch()
    shutil.copyfile(__file__, folder / "__init__.py")
    (folder / "cursors.py").write_text("class SSCursor:\n    pass\n", encoding="utf-8")


if __name__ == "__main__":
    _install()
