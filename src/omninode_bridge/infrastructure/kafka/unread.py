"""Whether anything stands in a topic from known positions on: found out by reading it.

Offsets do not say: at the end of what a producer wrote in a transaction stands a mark that has an
offset and is no message.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from omninode_bridge.core.errors import BusUnavailable
from omninode_bridge.infrastructure.kafka.place import GROUP
from omninode_bridge.infrastructure.kafka.translation import bus_error, translated

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT_S: Final = 30.0
POLL_S: Final = 0.2


async def unread(settings: Mapping[str, Any], topic: str, positions: Mapping[int, int]) -> set[int]:
    """Return those partitions of `topic` in which a message stands at their position, or behind it.

    Nothing is committed for any group. `settings` are the client library's.

    Raises:
        BusUnavailable: no answer, or what stood at a position is not there any more.
        BusRefused: we may not read there.
    """
    return await asyncio.to_thread(_unread, settings, topic, positions)


def _unread(settings: Mapping[str, Any], topic: str, positions: Mapping[int, int]) -> set[int]:
    client = Consumer(
        dict(settings)
        | {
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found, asked = set[int](), set(positions)
    deadline = monotonic() + WAIT_S
    try:
        with translated(f"reading {topic}"):
            client.assign([TopicPartition(topic, *place) for place in positions.items()])
            while asked:
                if monotonic() >= deadline:
                    message = f"{topic}: nobody has said within {WAIT_S:g} s where it ends"
                    raise BusUnavailable(message)
                answer = client.poll(POLL_S)
                partition = None if answer is None else answer.partition()
                if answer is None or partition is None:
                    continue
                error = answer.error()
                if error is None:
                    found.add(partition)
                    client.pause([TopicPartition(topic, partition)])
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
                    raise bus_error(f"reading {topic}/{partition}", error)
                asked.discard(partition)
    finally:
        client.close()
    return found
