"""The index of a Harmony export (Operetta, Opera Phenix): what it says of each image, read as a stream.

``Index.idx.xml`` (V5, V6) says of each ``Image`` everything; in ``Index.xml`` (V7) what belongs to the
channel stands in ``Maps/Map/Entry`` of its ``ChannelID``. Names are compared without their namespace,
which differs between versions and machines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from bench.errors import DatasetError
from bench.imaging.readers import opened

ROOT = "EvaluationInputData"
_BLOCK = 1 << 20


@dataclass
class Index:
    """What stands in an index, by the names of its elements.

    Parameters
    ----------
    images
        One mapping per ``Image``: the text of its children (``Row``, ``Col``, ``FieldID``, …).
    channels
        The same of the ``Entry`` elements of all maps, merged by ``ChannelID``.
    plate
        The same of the first ``Plate``.
    units
        The ``Unit`` of an element of that name, where it has one.
    """

    images: list[dict[str, str]] = field(default_factory=list)
    channels: dict[str, dict[str, str]] = field(default_factory=dict)
    plate: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def read(uri: str) -> Index:
    """Read an index.

    Raises
    ------
    DatasetError
        When it is cut short, no index of Harmony, or declares a document type: such a file can make a parser
        grow without bound (entities that expand entities), and no instrument writes one.
    """
    handler = _Handler(uri)
    with opened(uri) as handle:
        while block := handle.read(_BLOCK):
            handler.feed(block, final=False)
        handler.feed(b"", final=True)
    return handler.index


class _Handler:
    """Collects the leaves of images, map entries and the plate; nothing else is kept."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.index = Index()
        self._path: list[str] = []
        self._record: dict[str, str] | None = None
        self._depth = 0
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, block: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError as error:
            raise DatasetError(
                f"{self.uri} is truncated or damaged ({error}); export or copy it again"
            ) from error

    def _doctype(self, *_: Any) -> NoReturn:
        raise DatasetError(
            f"{self.uri} declares a document type, which no index of Harmony does and which can hide a trap; "
            "export it again from the instrument"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._path and name != ROOT:
            raise DatasetError(f"{self.uri}: its root is {name}, not {ROOT}; is it an index of Harmony?")
        above = self._path[-1] if self._path else ""
        if self._record is None:
            self._record = self._begun(above, name, attributes)
            self._depth = len(self._path) + 1
        elif "Unit" in attributes:
            self.index.units.setdefault(name, attributes["Unit"])
        self._path.append(name)
        self._text.clear()

    def _begun(self, above: str, name: str, attributes: dict[str, str]) -> dict[str, str] | None:
        """Return the record that an element opens, if it opens one."""
        if (above, name) == ("Images", "Image"):
            self.index.images.append({})
            return self.index.images[-1]
        if (above, name) == ("Map", "Entry") and "ChannelID" in attributes:
            return self.index.channels.setdefault(attributes["ChannelID"], {})
        if (above, name) == ("Plates", "Plate") and not self.index.plate:
            return self.index.plate
        return None

    def _end(self, name: str) -> None:
        name = self._path.pop()
        if self._record is not None:
            if len(self._path) == self._depth:
                self._record.setdefault(name, "".join(self._text).strip())
            elif len(self._path) < self._depth:
                self._record = None
        self._text.clear()
