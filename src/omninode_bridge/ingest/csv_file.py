"""A CSV file, compressed or not, as records with the lines on which they start.

Rule 1: a record that cannot be read is reported and skipped; a file that cannot be, ends there.
Rule 2: memory is bounded by the longest record allowed, whatever the file holds (R13).
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from omninode_bridge.ingest.errors import InvalidFile, InvalidRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW_CHARS_MAX: Final = 1_048_576
GZIP_MAGIC: Final = b"\x1f\x8b"

Record = tuple[int, list[str]]


class _RowTooLong(Exception):
    """The record has more characters than allowed; `lost`: nobody knows where the next begins."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__()
        self.lost = lost


class _Lines:
    """The lines of a stream, counted, and bounded for each record.

    Whoever reads records sets `room` to `ROW_CHARS_MAX` before each.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self.number = 0
        self.room = ROW_CHARS_MAX

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        room = self.room
        line = self._stream.readline(room + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.room = room - len(line)
        if self.room < 0:
            self._skip(line, first=room == ROW_CHARS_MAX)
        return line

    def _skip(self, piece: str, *, first: bool) -> None:
        """Read to the end of a line that is too long; blame its record.

        When it is the record's first line and all its quotes are closed, the next line begins a
        record. Otherwise what follows may be inside of a quoted field.
        """
        quotes = piece.count('"')
        while piece and not piece.endswith("\n"):
            piece = self._stream.readline(ROW_CHARS_MAX)
            quotes += piece.count('"')
        raise _RowTooLong(lost=not first or quotes % 2 == 1)


class CsvFile:
    """An open file that has at least one record. `header` has its columns; see `open_csv`."""

    def __init__(self, name: str, raw: BinaryIO, stream: io.TextIOWrapper) -> None:
        """Read the header, and look for a record behind it."""
        self.name = name
        self.bytes_total = os.fstat(raw.fileno()).st_size
        self._raw = raw
        self._lines = _Lines(stream)
        # The lines are the bound: no field is longer than its record. This limit is the process's.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * ROW_CHARS_MAX))
        self._reader = csv.reader(self._lines, strict=True)
        self._records = self._read()
        self.header = self._header()
        first = next(self._records, None)
        if first is None:
            raise InvalidFile(name, None, "has a header and no rows")
        self._records = chain((first,), self._records)

    @property
    def bytes_read(self) -> int:
        """How much of the file, as it is on the disk, has been read."""
        return self._raw.tell()

    def records(self) -> Iterator[Record | InvalidRow]:
        """Return the records behind the header; they can be had once.

        Raises:
            InvalidFile: from the iterator, where the file cannot be read on. What came before it is
            good.
        """
        return self._records

    def _read(self) -> Iterator[Record | InvalidRow]:
        lines, reader = self._lines, self._reader
        while True:
            line = lines.number + 1
            lines.room = ROW_CHARS_MAX
            try:
                record = next(reader, None)
            except csv.Error as error:
                seen = "" if lines.number <= line else f" (seen on line {lines.number})"
                yield InvalidRow(self.name, line, f"not CSV: {error}{seen}")
            except _RowTooLong as error:
                reason = f"the row has more than {ROW_CHARS_MAX:,} characters"
                if error.lost:
                    reason += ", and where the next one begins is not clear: is a quote left open?"
                    raise InvalidFile(self.name, line, reason) from None
                yield InvalidRow(self.name, line, reason)
            except (OSError, EOFError, zlib.error) as error:
                detail = f"cannot be read on from here ({error}): is the file cut off?"
                raise InvalidFile(self.name, line, detail) from error
            else:
                if record is None:
                    return
                if record:  # an empty line is nothing
                    yield line, record

    def _header(self) -> list[str]:
        match next(self._records, None):
            case None:
                detail = "is empty: it needs a header with the columns, and rows"
                raise InvalidFile(self.name, None, detail)
            case InvalidRow(line=line, reason=reason):
                raise InvalidFile(self.name, line, f"the header: {reason}")
            case (line, names):
                pass
        if not is_utf8(names):
            raise InvalidFile(self.name, line, "the header is not UTF-8")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            detail = f"the header has {', '.join(map(repr, twice))} twice: rename one of them"
            raise InvalidFile(self.name, line, detail)
        return names


@contextmanager
def open_csv(file: Path) -> Iterator[CsvFile]:
    """Open a CSV file in UTF-8 (a byte order mark is tolerated), compressed with gzip or not.

    Bytes that are not UTF-8 become lone surrogates: `is_utf8` finds them.

    Raises:
        InvalidFile: it cannot be read, is no gzip though called so, or has no header or no rows.
    """
    name = str(file)
    with ExitStack() as stack:
        try:
            if file.exists() and not file.is_file():
                raise InvalidFile(name, None, "is not a file that can be read twice")
            raw = stack.enter_context(file.open("rb"))
            magic = raw.read(len(GZIP_MAGIC))
            raw.seek(0)
        except OSError as error:
            raise InvalidFile(name, None, f"cannot be read: {error.strerror}") from error
        binary: BinaryIO = raw
        if magic == GZIP_MAGIC:
            binary = cast("BinaryIO", stack.enter_context(gzip.open(raw)))
        elif magic and file.suffix == ".gz":
            raise InvalidFile(name, None, "is not compressed with gzip, though its name says so")
        text = io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="")
        yield CsvFile(name, raw, stack.enter_context(text))


def is_utf8(fields: list[str]) -> bool:
    """Return whether the bytes that `fields` were read from were UTF-8."""
    text = "".join(fields)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
