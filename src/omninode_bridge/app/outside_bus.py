"""How a bridge meets a bus outside of its database: Kafka, where it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.host import Bus
from omninode_bridge.infrastructure.kafka.place import KafkaPlace
from omninode_bridge.services.command_positions import CommandPositionService
from omninode_bridge.services.relayed_log import RelayedLogService
from omninode_bridge.services.taken_over import TakenOverService
from omninode_bridge.settings import check_kafka_bootstrap, check_kafka_prefix

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import PersistAsks

Persist = Literal["direct", "over-bus"]


def kafka_place(kafka: KafkaPlace | str) -> KafkaPlace:
    """Return the place that is named, having found out that it can be one.

    Raises:
        ConfigurationError: it cannot, or the package that speaks to it is missing.
    """
    place = KafkaPlace(kafka) if isinstance(kafka, str) else kafka
    try:
        check_kafka_bootstrap(place.bootstrap)
        check_kafka_prefix(place.prefix)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        import confluent_kafka  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError as error:
        message = (
            "a Kafka is named, but the package that speaks to it is missing:"
            " pip install omninode-bridge[kafka]"
        )
        raise ConfigurationError(message) from error
    return place


def check_persist(persist: str, place: KafkaPlace | None, *, pure_reducer: bool) -> bool:
    """Return whether commits go over the bus, having found out that they can.

    Raises:
        ConfigurationError: there is no such way, no Kafka is named, or it is the direct path, whose
            transactions are its commits.
    """
    if persist not in get_args(Persist):
        message = f"commits go {' or '.join(get_args(Persist))}, not {persist!r}"
        raise ConfigurationError(message)
    if persist == "direct":
        return False
    if place is None:
        message = "commits go over the bus only where a Kafka is named (OMNINODE_KAFKA_BOOTSTRAP)"
        raise ConfigurationError(message)
    if not pure_reducer:
        message = "the direct path commits in its own transactions: it sends nothing over the bus"
        raise ConfigurationError(message)
    return True


async def open_bus(
    stack: AsyncExitStack,
    place: KafkaPlace,
    database: Database,
    codec: Codec,
    partitions: int,
    observe: Observe,
    *,
    over_bus: bool,
) -> tuple[Bus, PersistAsks | None]:
    """Return the bus at `place`, whose topics are there and fit; `stack` closes its clients.

    With `over_bus`, return also what sends commits there.

    Raises:
        BusUnavailable: nobody answers.
        TopicUnfit: a topic that is there is not as we need it.
    """
    # Here and not above: what they import is an extra, and need not be installed.
    from omninode_bridge.infrastructure.kafka.connection import connect  # noqa: PLC0415 - an extra
    from omninode_bridge.infrastructure.kafka.dead_letters import (  # noqa: PLC0415
        KafkaDeadLetters,
    )
    from omninode_bridge.infrastructure.kafka.incoming import KafkaActions  # noqa: PLC0415
    from omninode_bridge.infrastructure.kafka.outgoing import KafkaEvents  # noqa: PLC0415
    from omninode_bridge.infrastructure.kafka.persisting import (  # noqa: PLC0415
        KafkaPersistCommands,
        open_persist_asks,
    )

    relayed = RelayedLogService(database, prefix=place.prefix)
    kafka = await stack.enter_async_context(connect(place, partitions, observe))
    asks: PersistAsks | None = None
    if over_bus:
        asks = await stack.enter_async_context(open_persist_asks(kafka, partitions, observe))
    bus = Bus(
        outgoing=KafkaEvents(
            kafka.producer,
            kafka.incarnations,
            log_incarnation=await relayed.log_incarnation(),
            prefix=place.prefix,
        ),
        incoming=KafkaActions(
            kafka.admin,
            kafka.consumer,
            kafka.incarnations,
            codec,
            prefix=place.prefix,
            observe=observe,
        ),
        dead_letters=KafkaDeadLetters(kafka.producer, prefix=place.prefix),
        relayed=relayed,
        taken_over=TakenOverService(database, prefix=place.prefix),
        commands=KafkaPersistCommands(kafka, codec),
        command_positions=CommandPositionService(database, prefix=place.prefix),
    )
    return bus, asks
