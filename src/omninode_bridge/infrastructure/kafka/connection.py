"""A cluster as one process uses it: its clients, opened and closed together."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin
from omninode_bridge.infrastructure.kafka.consumer import KafkaConsumer
from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
from omninode_bridge.infrastructure.kafka.place import GROUP
from omninode_bridge.infrastructure.kafka.producer import KafkaProducer
from omninode_bridge.infrastructure.kafka.topic_specs import topic_specs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.infrastructure.kafka.place import KafkaPlace


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """The clients of one process, and the topics' prefix."""

    admin: KafkaAdmin
    producer: KafkaProducer
    consumer: KafkaConsumer
    incarnations: Incarnations
    prefix: str


@asynccontextmanager
async def connect(
    place: KafkaPlace, partitions: int, observe: Observe = ignore
) -> AsyncIterator[KafkaConnection]:
    """Open clients of the cluster at `place`, whose topics are there, and fit, from then on.

    Raises:
        BusUnavailable: nobody answers.
        TopicUnfit: a topic that is there is not as we need it.
        BusRefused: we may not do what we have to do there.
    """
    settings = place.client_settings()
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(KafkaAdmin(settings))
        await admin.ensure(topic_specs(partitions, place.prefix))
        producer = await stack.enter_async_context(KafkaProducer(settings, observe=observe))
        consumer = await stack.enter_async_context(
            KafkaConsumer(settings, group=place.prefix + GROUP, observe=observe)
        )
        yield KafkaConnection(admin, producer, consumer, Incarnations(admin), place.prefix)
