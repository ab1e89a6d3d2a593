"""Ids that the bridge makes: UUIDs of version 7, in the order of time."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.message import time_ordered_id

moments = st.integers(0, 2**48 - 1)
dice = st.integers(0, 2**74 - 1)


def test_it_is_the_id_of_the_standard() -> None:
    # RFC 9562, appendix A.6: 2022-02-22 14:22:22 in New York.
    random_bits = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    made = time_ordered_id(0x017F22E279B0, random_bits)
    assert made == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@given(moments, dice)
def test_it_is_a_uuid_of_version_seven(moment: int, random_bits: int) -> None:
    made = time_ordered_id(moment, random_bits)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == moment


@given(moments, moments, dice, dice)
def test_the_later_one_is_the_greater_one(one: int, other: int, first: int, second: int) -> None:
    if one != other:
        made = time_ordered_id(one, first) < time_ordered_id(other, second)
        assert made == (one < other)


@given(moments, dice, dice)
def test_other_dice_are_another_id(moment: int, first: int, second: int) -> None:
    same = time_ordered_id(moment, first) == time_ordered_id(moment, second)
    assert same == (first == second)
