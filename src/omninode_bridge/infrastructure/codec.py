"""The one normal form of JSON: canonical bytes, which PostgreSQL's JSONB gives back unchanged.

Keys are sorted, there is no white space, and numbers are what JSONB makes of them: -0.0 is 0.0,
and a float that would be written with a positive exponent and fits into 64 bits is an integer
(1e16 is 10000000000000000). NaN, infinities, integers beyond 64 bits, lone surrogates and
the character NUL are no part of it: JSONB has no place for them.
"""

from __future__ import annotations

import re
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
# What may need a second look: a null (orjson writes NaN so), a negative zero, a positive exponent.
# Inside a string a look-alike costs time, not correctness.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_INTEGER_MIN: Final = -(2**63)
_INTEGER_LIMIT: Final = 2**64
_EXPONENT_FROM: Final = 1e16


class CanonicalCodec:
    """Encodes to, and decodes from, canonical bytes. Stateless."""

    def encode(self, value: object) -> bytes:
        """Return the canonical bytes of `value`.

        Raises:
            ValueError: when `value` is not JSON that JSONB could hold; the message says why.
        """
        try:
            data = orjson.dumps(value, option=_OPTIONS)
        except TypeError as error:
            raise ValueError(str(error)) from error
        if b"\\u0000" in data and _NUL.search(data):
            message = "a NUL character (\\u0000) cannot be stored"
            raise ValueError(message)
        if b"null" in data or b"-0.0" in data or b"e+" in data:
            return orjson.dumps(_normal(value), option=_OPTIONS)
        return data

    decode: Callable[[bytes], Any] = staticmethod(orjson.loads)


def _normal(value: object) -> object:
    """Return `value` with its numbers in normal form; refuse those that have none."""
    match value:
        case bool() | None:
            return value
        case float():
            if not isfinite(value):
                message = f"{value} is not a JSON number"
                raise ValueError(message)
            if value == 0:
                return 0.0
            has_exponent = value.is_integer() and abs(value) >= _EXPONENT_FROM
            if has_exponent and _INTEGER_MIN <= value < _INTEGER_LIMIT:
                return int(value)
            return value
        case dict():
            return {key: _normal(item) for key, item in value.items()}
        case list() | tuple():
            return [_normal(item) for item in value]
        case Enum():  # orjson writes its value
            return _normal(value.value)
        case _:
            return value
