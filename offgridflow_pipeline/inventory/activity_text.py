"""Activity files that are text: CSV in UTF-8, plain or gzip, inflated and cut into lines within bounds."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from offgridflow_pipeline.inventory.activity_rows import (
    MAXIMUM_CELL_LENGTH,
    MAXIMUM_COLUMNS,
    MAXIMUM_RATIO,
    MAXIMUM_TEXT_BYTES,
    Misread,
    Row,
    Table,
    UnreadableError,
    too_large,
)

GZIP = "application/gzip"
_CHUNK_BYTES = 1 << 16


def text_table(file: BinaryIO, media_type: str) -> Table:
    """Rows of the file; comma, semicolon or tab between cells."""
    return Table(_rows(_lines(_inflated(file) if media_type == GZIP else _plain(file))), media_type)


def _plain(file: BinaryIO) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAXIMUM_TEXT_BYTES:
            raise too_large()
        yield chunk


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """The text of a gzip file, piece by piece: never more than a chunk is inflated at once."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    packed = unpacked = 0
    while chunk := file.read(_CHUNK_BYTES):
        packed += len(chunk)
        while chunk and not inflater.eof:
            try:
                text = inflater.decompress(chunk, _CHUNK_BYTES)
            except zlib.error:
                raise UnreadableError("the gzip file is damaged", "compress it again, or upload plain CSV") from None
            chunk = inflater.unconsumed_tail
            unpacked += len(text)
            if unpacked > MAXIMUM_TEXT_BYTES or unpacked > MAXIMUM_RATIO * max(packed, 1024):
                raise too_large()
            yield text
        if inflater.eof and (inflater.unused_data or file.read(1)):
            raise UnreadableError("the gzip file holds several parts", "upload one part, or plain CSV")
    if not inflater.eof:
        raise UnreadableError("the gzip file ends early", "upload it again, or upload plain CSV")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8 text with their ends, as `csv` takes them."""
    rest = b""
    number = 1
    is_first = True
    for chunk in chunks:
        rest += chunk
        *complete, rest = rest.split(b"\n")
        if len(rest) > MAXIMUM_COLUMNS * MAXIMUM_CELL_LENGTH:
            raise UnreadableError("the line does not end", "save the file as CSV with a line for each row", number)
        for line in complete:
            yield _text(line + b"\n", number, is_first=is_first)
            is_first = False
            number += 1
    if rest:
        yield _text(rest, number, is_first=is_first)


def _text(line: bytes, number: int, *, is_first: bool) -> str:
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("the text is not UTF-8", "save the file as CSV UTF-8", number) from None
    if "\0" in text:
        raise UnreadableError("the text holds a NUL character: this is no CSV", "save it as CSV UTF-8", number)
    return text


def _rows(lines: Iterator[str]) -> Iterator[Row]:
    first = next(lines, "")
    if not first:
        raise UnreadableError("the file is empty", "upload a CSV file or a workbook with a header row")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        yield Row(1, header)
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(header):
                yield Row(number, cells)
            else:
                message = f"{len(cells)} cells, but the header has {len(header)}"
                yield Row(number, cells, Misread(message, "quote cells that hold the delimiter"))
    except csv.Error as error:
        raise UnreadableError(f"the quoting is broken ({error})", "close every quote", reader.line_num + 1) from None
