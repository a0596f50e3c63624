"""A workbook as the package that it is: a ZIP archive of XML parts (ECMA-376 part 2), sent by a stranger.

Nothing is unpacked before its bounds are known, and parts stream through Expat: no tree is built, a DTD is refused
where it begins (so there are no entities), and depth, size and count of elements are limited. Elements of other
vocabularies and extensions are passed over with all that they hold. What the parts mean stands in `activity_workbooks`.
"""

from __future__ import annotations

import io
import posixpath
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NoReturn, Protocol
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from offgridflow_pipeline.inventory.activity_rows import (
    MAXIMUM_RATIO,
    MAXIMUM_TEXT_BYTES,
    UnreadableError,
    too_large,
)

SAVE_AGAIN = "open it, save it as an Excel workbook (.xlsx) or as CSV UTF-8, and upload that file"

#: Workbooks of people have some twenty parts.
MAXIMUM_PARTS = 1_000
#: Of all parts that are read. Rows within their bounds have four million; each costs time, however well it is packed.
MAXIMUM_ELEMENTS = 5_000_000
#: Of a part that is read as a whole: relationships, content types, the list of sheets.
_MAXIMUM_LIST_BYTES = 2**20
#: Entries of the directory take 46 bytes and a name.
_MAXIMUM_DIRECTORY_BYTES = MAXIMUM_PARTS * 256
#: Record at the end, with its comment and, before it, the place of a record for archives beyond what is accepted here.
_MAXIMUM_END_BYTES = 2**16 + 22 + 20
_MAXIMUM_DEPTH = 64
#: Expat before 2.6 reads an unfinished token again with every chunk (CVE-2023-52425): few chunks keep that cheap.
_CHUNK_BYTES = 2**20

#: Vocabularies of what is read: sheets (ECMA-376, transitional and strict), relationships and types of parts.
_NAMESPACES = frozenset(
    {
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://purl.oclc.org/ooxml/spreadsheetml/main",
        "http://schemas.openxmlformats.org/package/2006/relationships",
        "http://schemas.openxmlformats.org/package/2006/content-types",
    }
)
#: Where nothing of another vocabulary stands: a program might show what would be passed over here.
_VALUES = frozenset({"sheetData", "sst"})
#: Packings of workbooks (ECMA-376 part 2, annex B), and the two of which `zipfile` unpacks no more than is asked for.
_PACKINGS = frozenset({ZIP_STORED, ZIP_DEFLATED})
_ENCRYPTED_FLAG = 0x1
_END_OF_DIRECTORY, _ZIP64_LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
#: What `zipfile`, `zlib` and Expat raise at bytes that hold together in no way.
_DAMAGES = (
    BadZipFile,
    NotImplementedError,
    zlib.error,
    struct.error,
    expat.ExpatError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    OverflowError,
)


class PartReader(Protocol):
    """What is told of a part: elements of its own vocabulary, by their name in it."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """A piece of text."""


class WorkbookPackage:
    """Parts of a workbook, by name."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises `UnreadableError` when this is no workbook, a protected one, one with macros, or out of bounds."""
        _check_directory(file)
        try:
            self._archive = ZipFile(file)
            entries = self._archive.infolist()
            self._parts = {_part_name(entry.filename): entry for entry in entries}
        except _DAMAGES:
            raise damaged() from None
        if len(self._parts) < len(entries):
            raise damaged()
        _check_entries(entries)
        self._elements = 0
        self.workbook = self._workbook_part()

    def __contains__(self, part: str) -> bool:
        return _part_name(part) in self._parts

    def read(self, part: str, reader: PartReader) -> Iterator[None]:
        """Tell the reader what the part holds, with a pause after every chunk."""
        parser = self._parser(reader)
        try:
            with self._archive.open(self._parts[_part_name(part)]) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    parser.Parse(chunk, False)
                    yield
            parser.Parse(b"", True)
        except _DAMAGES:
            raise damaged() from None
        yield

    def tags(self, part: str, *names: str) -> list[Mapping[str, str]]:
        """Attributes of the elements of these names; of a short part."""
        entry = self._parts.get(_part_name(part))
        if entry is None or entry.file_size > _MAXIMUM_LIST_BYTES:
            raise damaged()
        found = _Tags(frozenset(names))
        for _ in self.read(part, found):
            continue
        return found.found

    def related(self, part: str) -> Mapping[str, tuple[str, str]]:
        """Parts that the part points to: type and name by id of the relationship; none when it points to nothing."""
        folder, name = posixpath.split(part)
        relationships = posixpath.join(folder, "_rels", f"{name}.rels")
        if relationships not in self:
            return {}
        return {
            tag.get("Id", ""): (
                posixpath.basename(tag.get("Type", "")),
                posixpath.normpath(posixpath.join("/", folder, tag.get("Target", ""))).lstrip("/"),
            )
            for tag in self.tags(relationships, "Relationship")
        }

    def _parser(self, reader: PartReader) -> expat.XMLParserType:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        path: list[str] = []
        passed_over = 0

        def start(qualified: str, attributes: dict[str, str]) -> None:
            nonlocal passed_over
            self._elements += 1
            if self._elements > MAXIMUM_ELEMENTS:
                raise too_large()
            if len(path) + passed_over == _MAXIMUM_DEPTH:
                raise damaged()
            namespace, _, name = qualified.rpartition("}")
            if passed_over or name == "extLst":
                passed_over += 1
            elif namespace in _NAMESPACES:
                path.append(name)
                reader.start(name, attributes)
            elif path and _VALUES.isdisjoint(path):
                passed_over = 1
            else:
                raise damaged()

        def end(_qualified: str) -> None:
            nonlocal passed_over
            if passed_over:
                passed_over -= 1
            else:
                reader.end(path.pop())

        def text(text: str) -> None:
            if not passed_over:
                reader.text(text)

        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = _refuse_doctype
        return parser

    def _workbook_part(self) -> str:
        """Name of the part that lists the sheets."""
        if "[Content_Types].xml" not in self:
            _refuse_archive(self._parts)
        documents = [part for kind, part in self.related("").values() if kind == "officeDocument"]
        if len(documents) != 1 or documents[0] not in self:
            raise damaged()
        if documents[0].endswith(".bin"):
            raise UnreadableError("this is a binary workbook (.xlsb)", SAVE_AGAIN)
        kinds = {tag.get("ContentType", "") for tag in self.tags("[Content_Types].xml", "Override", "Default")}
        if any("macroEnabled" in kind or kind.endswith("vbaProject") for kind in kinds):
            raise UnreadableError(
                "the workbook holds macros (.xlsm)", "save it as an Excel workbook (.xlsx), which has none"
            )
        return documents[0]


class _Tags:
    """Attributes of elements of some names."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.found: list[Mapping[str, str]] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in self._names:
            self.found.append(attributes)

    def end(self, name: str) -> None:
        """Nothing is left to do."""

    def text(self, text: str) -> None:
        """Nothing is read."""


def _refuse_doctype(*_declaration: object) -> NoReturn:
    raise UnreadableError("the workbook declares XML entities, which no spreadsheet program does", SAVE_AGAIN)


def _check_directory(file: BinaryIO) -> None:
    """Refuse an archive whose directory would take more memory than a workbook may: `ZipFile` reads all of it."""
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - _MAXIMUM_END_BYTES))
    tail = file.read()
    file.seek(0)
    place = tail.rfind(_END_OF_DIRECTORY)
    if place < 0 or len(tail) < place + 22:
        raise UnreadableError("the workbook or archive ends early", "upload it again")
    (directory_bytes,) = struct.unpack_from("<L", tail, place + 12)
    if directory_bytes > _MAXIMUM_DIRECTORY_BYTES or tail[:place][-20:].startswith(_ZIP64_LOCATOR):
        raise UnreadableError("the archive has more parts than a workbook has", SAVE_AGAIN)


def _check_entries(entries: list[ZipInfo]) -> None:
    if len(entries) > MAXIMUM_PARTS:
        raise UnreadableError("the archive has more parts than a workbook has", SAVE_AGAIN)
    if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in entries):
        raise UnreadableError("the workbook is protected with a password", "save it without a password")
    # Of these packings `ZipFile` unpacks no more than an entry declares, and refuses what then fails the checksum. Of
    # bzip2 and LZMA it unpacks first, without bound, and cuts off then.
    if any(entry.compress_type not in _PACKINGS for entry in entries):
        raise damaged()
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > MAXIMUM_TEXT_BYTES or unpacked > MAXIMUM_RATIO * max(packed, 1024):
        raise too_large()


def _refuse_archive(parts: Mapping[str, ZipInfo]) -> NoReturn:
    if "content.xml" in parts:
        raise UnreadableError("this is an OpenDocument spreadsheet (.ods)", SAVE_AGAIN)
    raise UnreadableError("this is an archive, not a workbook", "unpack it, and upload the files one by one")


def _part_name(name: str) -> str:
    """Names of parts differ by more than case (ECMA-376 part 2, 6.2.2.3)."""
    return name.replace("\\", "/").lstrip("/").casefold()


def damaged() -> UnreadableError:
    """The bytes hold together in no way that a spreadsheet program writes."""
    return UnreadableError("the workbook is damaged", SAVE_AGAIN)
