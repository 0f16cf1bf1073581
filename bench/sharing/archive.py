"""The archive of shared runs: a ZIP of a JSON index and Parquet tables, and nothing else.

Reading trusts nothing: names, kinds, sizes and hashes are checked before a byte is used, nothing is extracted
under a name from the archive, and nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bench.errors import BenchError

FORMAT, SCHEMA_VERSION, INDEX = "wellbench-entry", 1, "entry.json"
NAME = re.compile(r"entry\.json|runs/[0-9a-f]{16}/(scores\.parquet|predictions/\d{1,4}-\d{1,4}\.parquet)")
MOST_FILES, MOST_BYTES, MOST_INDEX = 20_000, 4 << 30, 16 << 20
MOST_RATIO = 200
"""Bytes per compressed byte beyond which a member is taken for a bomb; Parquet hardly compresses again."""
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz")


def write(path: Path, files: Mapping[str, bytes], index: Mapping[str, Any]) -> None:
    """Write an archive whose bytes depend on nothing but its content.

    Raises
    ------
    BenchError
        When the file cannot be written.
    """
    hashes = {n: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in sorted(files.items())}
    document = {**index, "format": FORMAT, "schema_version": SCHEMA_VERSION, "files": hashes}
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).encode()
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in [(INDEX, text), *sorted(files.items())]:
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise BenchError(f"{path}: cannot be written ({error.strerror or error})") from error


class Archive:
    """A checked archive.

    Parameters
    ----------
    path
        The ZIP file.

    Raises
    ------
    BenchError
        When it is no archive of ours, is unsafe, damaged, or of a newer schema; names the member.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise BenchError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (zipfile.BadZipFile, ValueError) as error:
            raise BenchError(f"{path}: is no ZIP archive ({error})") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        infos = self._zip.infolist()
        if len(infos) > MOST_FILES or sum(i.file_size for i in infos) > MOST_BYTES:
            raise self._refused(f"is too large: {len(infos)} files, {sum(i.file_size for i in infos)} bytes")
        for info in infos:
            self._check(info)
            self._members[info.filename] = info
        self.index = self._read_index()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return a member's content, whose size and hash are those of the index."""
        entry = self.index["files"].get(name)
        if name not in self._members or not isinstance(entry, dict):
            raise self._refused(f"lacks {name}")
        content = self._content(name)
        if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
            raise self._refused(f"{name} is not what the index says (its sha256 differs)")
        return content

    def _refused(self, why: str) -> BenchError:
        return BenchError(f"{self.path}: {why}; ask its author for another export")

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        kind = stat.S_IFMT(info.external_attr >> 16)
        if name.startswith(("/", "\\")) or ":" in name or ".." in parts:
            raise self._refused(f"has the unsafe path {name!r} (absolute or upwards)")
        if kind not in (0, stat.S_IFREG):
            raise self._refused(f"{name!r} is a link or a special file")
        if name.lower().endswith(PICKLES):
            raise self._refused(f"{name!r} may hold a pickle, which is never opened")
        if not NAME.fullmatch(name) or name != info.filename:
            raise self._refused(f"has {name!r}, which does not belong into it")
        if name in self._members:
            raise self._refused(f"has {name!r} twice")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refused(f"{name!r} is encrypted or compressed in an unknown way")
        if info.file_size > MOST_RATIO * max(info.compress_size, 1024) or (
            name == INDEX and info.file_size > MOST_INDEX
        ):
            raise self._refused(f"{name!r} would unpack to {info.file_size} bytes: taken for a bomb")

    def _content(self, name: str) -> bytes:
        info = self._members[name]
        try:
            with self._zip.open(info) as file:
                content = file.read(info.file_size + 1)
        except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
            raise self._refused(f"{name} is damaged ({error})") from error
        except Exception as error:  # zlib.error has no base of its own
            raise self._refused(f"{name} is damaged ({error})") from error
        if len(content) != info.file_size:
            raise self._refused(f"{name} is damaged (its size is not as stated)")
        return content

    def _read_index(self) -> dict[str, Any]:
        if INDEX not in self._members:
            raise self._refused(f"has no {INDEX}")
        try:
            index = json.loads(self._content(INDEX))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"{INDEX} is no JSON") from error
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise self._refused(f"{INDEX} is not of the format {FORMAT}")
        version = index.get("schema_version")
        if not isinstance(version, int) or version < 1:
            raise self._refused("has no schema version")
        if version > SCHEMA_VERSION:
            raise BenchError(
                f"{self.path}: has schema version {version}, later than {SCHEMA_VERSION}; install a newer "
                "wellbench"
            )
        if not isinstance(index.get("files"), dict) or not isinstance(index.get("runs"), list):
            raise self._refused(f"{INDEX} lists no files or no runs")
        extra = set(self._members) - set(index["files"]) - {INDEX}
        if extra:
            raise self._refused(f"has {min(extra)!r}, which its index does not know")
        return index
