"""The partition of a key is the one that Kafka's Java producers choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.partition import REMEMBERED_KEYS, murmur2, partition_of
from tests.unit.actions import storable_text


def as_signed(number: int) -> int:
    """Return an unsigned 32-bit number as Java shows it."""
    return number - 2**32 if number >= 2**31 else number


# The vectors of Kafka's own UtilsTest.testMurmur2.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    assert as_signed(murmur2(data)) == expected


@given(st.binary(max_size=40))
def test_murmur2_has_32_bits(data: bytes) -> None:
    assert 0 <= murmur2(data) < 2**32


@given(storable_text, st.integers(1, 1_000))
def test_a_partition_is_the_positive_hash_of_the_keys_bytes_modulo_their_number(
    workflow_key: str, partitions: int
) -> None:
    hashed = murmur2(workflow_key.encode()) & 0x7FFFFFFF
    assert partition_of(workflow_key, partitions) == hashed % partitions


@pytest.mark.parametrize(
    ("workflow_key", "partitions", "expected"),
    [("21", 4, 0), ("foobar", 4, 2), ("abc", 4, 3), ("abc", 7, 479470107 % 7)],
)
def test_a_negative_hash_loses_its_sign_bit_as_in_java(
    workflow_key: str, partitions: int, expected: int
) -> None:
    assert partition_of(workflow_key, partitions) == expected


def test_keys_spread_over_all_partitions() -> None:
    counts = [0] * 8
    for number in range(8_000):
        counts[partition_of(f"order:{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1_200


def test_what_is_remembered_is_bounded() -> None:
    assert partition_of.cache_info().maxsize == REMEMBERED_KEYS
