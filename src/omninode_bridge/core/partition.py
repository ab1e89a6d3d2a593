"""Which partition a workflow key belongs to: Kafka's Java default partitioner.

`murmur2` is Austin Appleby's MurmurHash2 with Kafka's seed; with it, an action keyed by its
workflow key lands in the same partition whoever sends it: the bridge, or any Kafka producer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

REMEMBERED_KEYS = 32_768
"""How many keys' hashes are kept (4-10 microseconds a key are worth remembering; R13)."""


@dataclass(frozen=True, slots=True)
class Partitioning:
    """How many partitions a database has, and the incarnation of its log for which that is so.

    When the number changes there is a new incarnation: who counts by the old one is refused.
    """

    partitions: int
    incarnation: UUID


def murmur2(data: bytes) -> int:
    """Return the unsigned 32-bit MurmurHash2 of `data`, as `org.apache.kafka...Utils.murmur2`."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    aligned = length & ~3
    for i in range(0, aligned, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    tail = data[aligned:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=REMEMBERED_KEYS)
def partition_of(workflow_key: str, partitions: int) -> int:
    """Return the partition of `workflow_key` among `partitions`: 0 <= partition < partitions."""
    return (murmur2(workflow_key.encode()) & 0x7FFFFFFF) % partitions
