"""What could not be read as an action, as a message of the dead-letter topic.

It is the message as it was, with headers that say why it is here and where it stood. What would
make it larger than the topic allows is left out, and a header says so: first the value's end, then
the headers, then the key's end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.topics import ACTION, DEAD_LETTER
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.infrastructure.kafka.topic_specs import DEAD_LETTER_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.infrastructure.kafka.message import Headers
    from omninode_bridge.infrastructure.kafka.producer import KafkaProducer
    from omninode_bridge.ports import Incoming

PREFIX: Final = "dead-letter-"
REASON_CHARS_MAX: Final = 1_000
ROOM: Final = 65_536
"""For our own headers, and for what Kafka itself adds."""


class KafkaDeadLetters:
    """The dead-letter topic. Implements the port `DeadLetters`."""

    def __init__(self, producer: KafkaProducer, *, prefix: str = "") -> None:
        """`prefix` stands before the topics' names."""
        self._producer = producer
        self._prefix = prefix

    async def put_aside(self, partition: int, messages: Sequence[Incoming]) -> None:
        """Return when Kafka has confirmed `messages`, which stood in `partition`.

        Raises:
            BusUnavailable: some may be there: put them aside again.
        """
        letters = []
        for each in messages:
            assert isinstance(each.message, Message)
            topic = self._prefix + ACTION
            letters.append(dead_letter(each.message, each.reason, topic, partition, each.offset))
        await self._producer.send(self._prefix + DEAD_LETTER, partition, letters)


def dead_letter(message: Message, reason: str, topic: str, partition: int, offset: int) -> Message:
    """Return the message that puts aside what stood at `offset` of `topic`, for `reason`."""
    kept: Headers = tuple(each for each in message.headers if not each[0].startswith(PREFIX))
    said = {
        "reason": reason[:REASON_CHARS_MAX],
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
    }
    left = DEAD_LETTER_BYTES_MAX - ROOM
    key = message.key
    if key is not None and len(key) > left:
        said["key-bytes"] = str(len(key))
        key = key[:left]
    left -= len(key or b"")
    if (size := Message(None, None, kept).size()) > left:
        said["headers-bytes"] = str(size)
        kept = ()
    left -= Message(None, None, kept).size()
    value = message.value
    if value is not None and len(value) > left:
        said["value-bytes"] = str(len(value))
        value = value[:left]
    ours = tuple((PREFIX + name, text.encode(errors="replace")) for name, text in said.items())
    return Message(key, value, (*kept, *ours))
