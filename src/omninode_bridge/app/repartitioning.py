"""How the number of partitions of a database is changed, while nobody uses it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omninode_bridge.app.connecting import (
    default_data_dir,
    reach_database,
    require_possible,
    require_read_committed,
)
from omninode_bridge.app.outside_bus import kafka_place
from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer, LockTimeout
from omninode_bridge.services.repartition import Repartitioning, RepartitionService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omninode_bridge.infrastructure.kafka.place import KafkaPlace
    from omninode_bridge.services.repartition import TakenOverFrom


async def repartition(
    partitions: int,
    *,
    data_dir: Path | str | None = None,
    database_url: str | None = None,
    kafka: KafkaPlace | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Repartitioning:
    """Have `partitions` partitions from now on; the place is named as for `Bridge.open`.

    Everything a key has moves with it, in its order; see `Repartitioning` for what comes back.
    `kafka` is needed where actions were taken over from one: it is asked whether any are left
    there. `progress` is told each step in words.

    Raises:
        ConfigurationError: no database can have so many, or this one has none yet.
        DatabaseUnavailable: as `RepartitionService.repartition`.
        BusUnavailable: Kafka does not answer.
    """
    require_possible(partitions)
    unread = partial(_find_unread, None if kafka is None else kafka_place(kafka))
    async with AsyncExitStack() as stack:
        connect, _ = await reach_database(
            stack, data_dir, database_url, writing=False, on_wait=None
        )
        # One connection: whoever else is connected is then somebody else.
        database = await stack.enter_async_context(Database(connect, connections_max=1))
        await require_read_committed(database)
        service = RepartitionService(database, unread=unread, progress=progress)
        before = await service.present()
        if before is None:
            message = "this database has no partitions yet: they are made when a bridge is opened"
            raise ConfigurationError(message)
        if before == partitions:
            return Repartitioning(before, before)
        if database_url is None:
            folder = Path(data_dir) if data_dir is not None else default_data_dir()
            try:
                await stack.enter_async_context(EmbeddedServer(folder).writing(wait_s=0))
            except LockTimeout as error:
                writer = "another process" if error.holder is None else f"process {error.holder}"
                return Repartitioning(before, before, [f"{writer} is writing to {folder}: stop it"])
        return await service.repartition(partitions, alone=database_url is None)


async def _find_unread(place: KafkaPlace | None, positions: Sequence[TakenOverFrom]) -> list[str]:
    """Return what is to be done about each topic of actions before the partitions are others.

    Nothing for one of which all messages were taken over, up to these positions.

    Raises:
        BusUnavailable: nobody answers.
        BusRefused: we may not read there.
    """
    topics = sorted({each.topic for each in positions})
    if not topics:
        return []
    if place is None:
        return [
            f"actions were taken over from topic {topic!r}: name its Kafka"
            " (OMNINODE_KAFKA_BOOTSTRAP), so that what is left there is seen, or, where it is used"
            f" no more, `omninode-bridge bus forget {topic}`"
            for topic in topics
        ]
    # Here and not above: what they import is an extra, and need not be installed.
    from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin  # noqa: PLC0415
    from omninode_bridge.infrastructure.kafka.unread import unread  # noqa: PLC0415

    settings, found = place.client_settings(), list[str]()
    async with KafkaAdmin(settings) as admin:
        for topic in topics:
            theirs = [each for each in positions if each.topic == topic]
            if not await admin.is_there(topic) or (
                {(await admin.incarnations([topic]))[topic]}
                != {each.incarnation for each in theirs}
            ):
                found.append(
                    f"topic {topic!r} is not the one there that actions were taken over from: find"
                    f" out what is missing, then `omninode-bridge bus forget {topic}`"
                )
            elif left := await unread(settings, topic, {e.partition: e.next for e in theirs}):
                found.append(
                    f"{len(left)} partitions of topic {topic!r} hold messages that were not taken"
                    " over: stop those who write there, and let a bridge run with its Kafka until"
                    " they are"
                )
    return found
