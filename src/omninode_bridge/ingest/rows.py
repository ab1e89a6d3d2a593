"""Rows of a file become actions, under ids that are the same in each run of the file.

Rule 1: a row's id is made of the contract's name, the key, the content (type, time, payload) and
        how many equal rows came before it: the same file gives the same ids, and a longer one the
        same ids and new ones.
Rule 2: a row that cannot be an action is an `InvalidRow`; it costs no other row.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import orjson

from omninode_bridge import Action
from omninode_bridge.ingest.csv_file import is_utf8
from omninode_bridge.ingest.errors import InvalidRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from omninode_bridge.ingest.contract import Contract
    from omninode_bridge.ingest.csv_file import Record
    from omninode_bridge.ingest.template import Fill, Template

_IDS: Final = UUID("5b6c1f0e-53a4-5d5f-8f0e-2f1c8f6f7a10")
_CONTENT: Final = orjson.OPT_SORT_KEYS
_SHOWN_CHARS: Final = 40
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1
_INTEGER_CHARS_MAX: Final = 20  # of either of them
_LONG_NUMBER: Final = re.compile(r"[0-9]{19}")


@dataclass(frozen=True, slots=True)
class Row:
    """An action, and the line on which its row starts."""

    line: int
    action: Action


class _MalformedRow(Exception):
    """Why the row cannot be an action."""


class RowReader:
    """Makes actions of the records of one file, in their order.

    Counting equal rows takes some 90 bytes of memory a row: 23 MB for 262,200 rows.
    """

    def __init__(self, contract: Contract, header: Sequence[str], file: str) -> None:
        """Find the contract's columns in the `header` of `file`.

        Raises:
            ContractError: for a column that the file does not have, with the contract's line.
        """
        self._file = file
        self._header = header
        self._name = contract.name
        self._places = {name: place for place, name in enumerate(header)}
        self._key = self._fill(contract, "key", contract.key)
        self._type = self._fill(contract, "action_type", contract.action_type)
        self._occurred_at = self._fill(contract, "occurred_at", contract.occurred_at)
        for column in contract.payload:
            self._require(contract, f"payload.{column}", column)
        parsed = set(contract.json_columns)
        self._texts = [(c, self._places[c]) for c in contract.payload if c not in parsed]
        self._json = [(c, self._places[c]) for c in contract.payload if c in parsed]
        self._seen: dict[bytes, int] = {}

    def read(self, records: Iterable[Record | InvalidRow]) -> Iterator[Row | InvalidRow]:
        """Yield what becomes of each record."""
        for record in records:
            if isinstance(record, InvalidRow):
                yield record
                continue
            line, fields = record
            try:
                yield Row(line, self._action(fields))
            except _MalformedRow as error:
                yield InvalidRow(self._file, line, str(error))

    def _action(self, fields: list[str]) -> Action:
        if len(fields) != len(self._header):
            raise _MalformedRow(f"has {len(fields)} columns, the header has {len(self._header)}")
        if not is_utf8(fields):
            raise _MalformedRow("is not UTF-8")
        key, action_type = self._key(fields), self._type(fields)
        occurred_at = _time(self._occurred_at(fields))
        payload: dict[str, Any] = {column: fields[place] for column, place in self._texts}
        for column, place in self._json:
            payload[column] = _json(column, fields[place])
        action_id = self._id(key, action_type, occurred_at, payload)
        return Action(action_id, key, action_type, payload, occurred_at)

    def _id(
        self, key: str, action_type: str, occurred_at: datetime, payload: dict[str, Any]
    ) -> UUID:
        try:
            content = orjson.dumps([key, action_type, occurred_at, payload], option=_CONTENT)
        except TypeError as error:  # nested too deep
            raise _MalformedRow(f"cannot be stored: {error}") from None
        # Of 16 bytes, not of the content's length: rows are remembered for the whole file.
        digest = blake2b(content, digest_size=16).digest()
        ordinal = self._seen.get(digest, 0)
        self._seen[digest] = ordinal + 1
        return uuid5(_IDS, f"{self._name}\0{key}\0{digest.hex()}\0{ordinal}")

    def _fill(self, contract: Contract, field: str, template: Template) -> Fill:
        for column in template.columns:
            self._require(contract, field, column)
        return template.compiled(self._places)

    def _require(self, contract: Contract, field: str, column: str) -> None:
        if column not in self._places:
            raise contract.error(
                field,
                f"{self._file} has no column {column!r}; it has {', '.join(self._header)}",
            )


def _time(text: str) -> datetime:
    try:
        # In UTC: the same moment is the same content, whatever offset it was written with.
        occurred_at = datetime.fromisoformat(text)
        if occurred_at.tzinfo is not None:
            return occurred_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _MalformedRow(
            f"the time {_shown(text)} is not ISO 8601, such as 2011-10-01T00:38:44.546+02:00"
        ) from None
    raise _MalformedRow(f"the time {_shown(text)} lacks an offset from UTC, such as Z or +02:00")


def _json(column: str, text: str) -> Any:  # noqa: ANN401 - JSON is what it is
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise _MalformedRow(f"column {column!r} is not JSON: {error}") from None
    # orjson makes a float of an integer past 64 bits: other digits than the file's.
    if _LONG_NUMBER.search(text):
        _check_integers(column, text)
    return value


def _check_integers(column: str, text: str) -> None:
    def check(digits: str) -> None:
        fits = len(digits) <= _INTEGER_CHARS_MAX and _INTEGER_MIN <= int(digits) <= _INTEGER_MAX
        if not fits:
            raise _MalformedRow(
                f"column {column!r} has an integer of more than 64 bits, {_shown(digits)}:"
                " write it as a text"
            )

    try:
        json.loads(text, parse_int=check)
    except RecursionError:
        raise _MalformedRow(f"cannot be stored: column {column!r} is nested too deep") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
