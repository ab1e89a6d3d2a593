"""Canonical bytes are one normal form: equal content has equal bytes, and they decode to it."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.actions import CODEC, floats, integers, json_values, storable_text

if TYPE_CHECKING:
    from random import Random


class Number(Enum):
    """Values that are numbers, one of them none."""

    HUGE = 1e16
    NOTHING = -0.0
    NEVER = float("nan")


class Colour(StrEnum):
    """Text by name."""

    RED = "red"


class Size(IntEnum):
    """A number by name."""

    SMALL = 1


@dataclass
class Point:
    """Not JSON."""

    x: int


@given(json_values)
def test_what_was_encoded_is_encoded_alike_after_decoding(value: object) -> None:
    data = CODEC.encode(value)
    assert CODEC.encode(CODEC.decode(data)) == data


@given(json_values)
def test_what_comes_back_equals_what_went_in(value: object) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


@given(json_values)
def test_canonical_bytes_are_json_for_everyone(value: object) -> None:
    assert json.loads(CODEC.encode(value)) == value


@given(st.dictionaries(storable_text, json_values, min_size=2), st.randoms())
def test_the_order_of_keys_makes_no_difference(value: dict[str, Any], dice: Random) -> None:
    shuffled = list(value.items())
    dice.shuffle(shuffled)
    assert CODEC.encode(dict(shuffled)) == CODEC.encode(value)


@given(integers | floats, integers | floats)
def test_numbers_have_equal_bytes_only_when_they_are_equal(one: float, other: float) -> None:
    if CODEC.encode(one) == CODEC.encode(other):
        assert one == other


# These are stored and hashed: another spelling would be another history.
@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        (True, b"true"),
        (0, b"0"),
        (-(2**63), b"-9223372036854775808"),
        (2**64 - 1, b"18446744073709551615"),
        (0.0, b"0.0"),
        (-0.0, b"0.0"),
        (1.0, b"1.0"),
        (0.1, b"0.1"),
        (1e-7, b"1e-7"),
        (5e-324, b"5e-324"),
        (9999999999999998.0, b"9999999999999998.0"),
        (1e16, b"10000000000000000"),
        (-1e16, b"-10000000000000000"),
        (2.0**63, b"9223372036854775808"),
        (-(2.0**63), b"-9223372036854775808"),
        (2.0**64, b"1.8446744073709552e+19"),
        (-1e19, b"-1e+19"),
        (1e22, b"1e+22"),
        (1.5e300, b"1.5e+300"),
        ("null -0.0 e+", b'"null -0.0 e+"'),
        ("\\u0000", b'"\\\\u0000"'),
        ("é\u2028\x7f", '"é\u2028\x7f"'.encode()),
        ('"\\/\b\n\x01', rb'"\"\\/\b\n\u0001"'),
        ((1, (2,)), b"[1,[2]]"),
        (
            {"b": [-0.0, {"d": 1e16, "c": None}], "a": {}},
            b'{"a":{},"b":[0.0,{"c":null,"d":10000000000000000}]}',
        ),
        ({"b": 1, "a": 2, "ab": 3, "B": 4, "": 5}, b'{"":5,"B":4,"a":2,"ab":3,"b":1}'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, b'"red"'),
        (Size.SMALL, b"1"),
        ([Number.HUGE, None], b"[10000000000000000,null]"),
        (Number.NOTHING, b"0.0"),
    ],
)
def test_each_value_has_one_spelling(value: object, data: bytes) -> None:
    assert CODEC.encode(value) == data
    assert CODEC.encode(CODEC.decode(data)) == data


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "nan is not a JSON number"),
        (float("inf"), "inf is not a JSON number"),
        (float("-inf"), "-inf is not a JSON number"),
        ({"deep": [None, (1, {"a": float("nan")})]}, "nan is not a JSON number"),
        ([Number.NEVER], "nan is not a JSON number"),
        ("a\0b", "NUL"),
        ("\0", "NUL"),
        ("\\\0", "NUL"),
        ("\\\\\0", "NUL"),
        ("\\u0000\0", "NUL"),
        ({"a\0": 1}, "NUL"),
        ("\ud800", "surrogates not allowed"),
        ({"\udfff": 1}, "surrogates not allowed"),
        (2**64, "64-bit"),
        (-(2**63) - 1, "64-bit"),
        ({1: 1}, "key must be str"),
        ({None: 1}, "key must be str"),
        ({b"a": 1}, "key must be str"),
        ({UUID(int=1): 1}, "key must be str"),
        (b"bytes", "not JSON serializable: bytes"),
        ({1}, "not JSON serializable: set"),
        (1j, "not JSON serializable: complex"),
        (Decimal(1), "not JSON serializable: .*Decimal"),
        (datetime(2011, 10, 1, tzinfo=UTC), "not JSON serializable: .*datetime"),
        (Point(1), "not JSON serializable: Point"),
        (OrderedDict(a=1), "not JSON serializable: .*OrderedDict"),
        (object(), "not JSON serializable: object"),
    ],
)
def test_what_the_database_could_not_give_back_is_refused(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CODEC.encode(value)
    with pytest.raises(ValueError, match=says):
        CODEC.encode({"deep": [value]})


def nested(depth: int, innermost: object = None) -> object:
    """Return lists in one another."""
    value: object = [innermost]
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("innermost", [0, None, -0.0])
def test_what_is_nested_deeply_comes_back(innermost: object) -> None:
    data = CODEC.encode(nested(200, innermost))
    assert CODEC.encode(CODEC.decode(data)) == data


@pytest.mark.parametrize("depth", [300, 2_000, 100_000])
@pytest.mark.parametrize("innermost", [0, None, -0.0])
def test_a_bomb_of_depth_is_refused(depth: int, innermost: object) -> None:
    with pytest.raises(ValueError, match="Recursion limit reached"):
        CODEC.encode(nested(depth, innermost))


def test_a_value_within_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="Recursion limit reached"):
        CODEC.encode(value)


@pytest.mark.parametrize("data", [b"", b"{", b"nan", b"{'a': 1}", b'"\xff"', b'"\xed\xa0\x80"'])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        CODEC.decode(data)


def test_every_decoding_makes_fresh_objects() -> None:
    data = CODEC.encode({"lines": []})
    CODEC.decode(data)["lines"].append(1)
    assert CODEC.decode(data) == {"lines": []}


def test_encoding_changes_nothing_in_what_it_is_given() -> None:
    value = {"b": [1e16, None], "a": (-0.0,)}
    CODEC.encode(value)
    assert repr(value) == "{'b': [1e+16, None], 'a': (-0.0,)}"
