"""How a bridge is opened and closed: here stores meet loops, and loops meet ports."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from omninode_bridge.app.clock import now
from omninode_bridge.app.connecting import (
    create_partitions,
    duties_of,
    reach_database,
    redis_hints,
    require_read_committed,
)
from omninode_bridge.app.doors import Doors
from omninode_bridge.app.outside_bus import check_persist, kafka_place, open_bus
from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.core.roles import ROLES
from omninode_bridge.core.sharing import LEASE
from omninode_bridge.host import PartitionHost, World
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.cleaner import Cleaner
from omninode_bridge.services.effect_store import EffectStoreService
from omninode_bridge.services.event_log import (
    ActionLogService,
    EventLogService,
    IntentLogService,
    TimerService,
)
from omninode_bridge.services.leases import EffectClaimService, LeaseService
from omninode_bridge.services.members import MemberService
from omninode_bridge.services.persist_over_bus import PersistOverBus
from omninode_bridge.services.projection_log import ProjectionLogService
from omninode_bridge.services.wakes import WakeService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from omninode_bridge.app.declaring import App
    from omninode_bridge.app.outside_bus import Persist
    from omninode_bridge.core.roles import Role
    from omninode_bridge.host import Bus
    from omninode_bridge.infrastructure.kafka.place import KafkaPlace
    from omninode_bridge.infrastructure.postgres.embedded import Writers
    from omninode_bridge.ports import Hints, PersistAsks

LOOP_CONNECTIONS_MAX: Final = 16
READ_CONNECTIONS_MAX: Final = 8
HANDLER_CONNECTIONS_MAX: Final = 12
"""Of transactional handlers, which may be slow: apart from the loops', which must not wait."""


class Bridge(Doors):
    """An open bridge. Get one from `Bridge.open`.

    What it does stands one rung at a time: `Looking`, `Asking`, `Running`, `Doors`; each knows only
    those before it.
    """

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        app: App,
        *,
        data_dir: Path | str | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        kafka: KafkaPlace | str | None = None,
        partitions: int | None = None,
        writing: bool = True,
        observe: Observe = ignore,
        on_wait: Callable[[], None] | None = None,
        pure_reducer: bool = True,
        roles: Iterable[Role] = ROLES,
        persist: Persist = "direct",
    ) -> AsyncIterator[Bridge]:
        """Open a bridge on the embedded database of `data_dir`, or on `database_url`.

        Without either, the embedded database of this user's data folder is used. `partitions` is
        for a new database (4 by default); an existing one keeps its number. `redis_url` names a
        Redis that processes share to save work on actions that are asked again (the extra `redis`);
        it decides nothing, and may be away. `kafka` names a cluster (its `bootstrap.servers`, or a
        `KafkaPlace`) to which history is relayed, and from whose action topic actions are taken
        over (the extra `kafka`). With `writing=False` the bridge only reads, beside any writer.
        `observe` is told the facts of `core.observation`. `on_wait` is called once if somebody has
        the data folder alone and has to be waited for; other bridges share it. With
        `pure_reducer=False` the bridge takes the direct path: a transaction for each action instead
        of batches folded in memory, with the same outcomes and many times slower. It can be chosen
        anew each time, and bridges of both kinds may share a server. `roles` are what this process
        does of what is to be done; asking it does not depend on them, and who has none only asks.
        With `persist="over-bus"`
        what it folds is sent by Kafka to a process with the role `store-effect`, which commits it.

        Raises:
            ConfigurationError: what is asked for does not fit the database that is there, Redis is
                to be used and its package is not installed, a role is unknown, or commits cannot go
                over the bus.
            DatabaseUnavailable: the server cannot be reached.
            BusUnavailable: the cluster cannot be reached.
            TopicUnfit: a topic that is there is not as the bridge needs it.
        """
        async with AsyncExitStack() as stack:
            new_hints = None if redis_url is None else redis_hints(redis_url)
            place = None if kafka is None else kafka_place(kafka)
            duties = duties_of(roles)
            over_bus = check_persist(persist, place, pure_reducer=pure_reducer)
            connect, writers = await reach_database(
                stack, data_dir, database_url, writing=writing, on_wait=on_wait
            )
            reads = Database(connect, connections_max=READ_CONNECTIONS_MAX)
            await stack.enter_async_context(reads)
            await require_read_committed(reads)
            actual = await create_partitions(reads, partitions)
            bridge = cls(app, reads, actual)
            if observe is not ignore:
                bridge.observe(observe)
            stack.push_async_callback(bridge.projection_store.close)
            stack.push_async_callback(bridge.event_bus.close)
            if writing:
                bridge._nodes = bridge._open_doors()
                loops = Database(connect, connections_max=LOOP_CONNECTIONS_MAX)
                await stack.enter_async_context(loops)
                hints: Hints | None = None
                if new_hints is not None:
                    hints = await stack.enter_async_context(new_hints(bridge._observers.tell))
                bus: Bus | None = None
                asks: PersistAsks | None = None
                if place is not None:
                    tell = bridge._observers.tell
                    bus, asks = await open_bus(
                        *(stack, place, loops, bridge._codec, actual, tell), over_bus=over_bus
                    )
                await bridge._start(
                    *(stack, loops, connect, hints, bus, asks, writers),
                    pure_reducer=pure_reducer,
                    roles=duties,
                )
            try:
                yield bridge
            finally:
                bridge._closed = True

    async def _start(
        self,
        stack: AsyncExitStack,
        loops: Database,
        connect: Mapping[str, Any],
        hints: Hints | None,
        bus: Bus | None,
        asks: PersistAsks | None,
        writers: Writers | None,
        *,
        pure_reducer: bool,
        roles: frozenset[Role],
    ) -> None:
        """Start the loops on their own connections, so that reads never hold commits up.

        Who is the only writer of a data folder knows that leases that are left are a dead one's.
        """
        leases = LeaseService(loops, self.partitions, incarnation=self._incarnation)
        members = MemberService(loops, incarnation=self._incarnation)
        if writers is not None and writers.alone:
            await leases.break_all()
            await members.forget_all()
            await writers.share()
        effect_types = self.app.effect_types()
        lent = sum(each.concurrency for each in effect_types.values() if each.transactional)
        handlers = None
        if lent:
            handlers = Database(
                connect, connections_max=min(lent, HANDLER_CONNECTIONS_MAX), resetting=True
            )
            await stack.enter_async_context(handlers)
        effects = EffectStoreService(loops, self._codec, handlers=handlers)
        store = CanonicalStoreService(
            loops, self._codec, partitions=self.partitions, incarnation=self._incarnation
        )
        wakes = WakeService(loops, connect)
        stack.push_async_callback(wakes.aclose)
        world = World(
            partitions=self.partitions,
            name=f"{self.app.name}@{socket.gethostname()}:{os.getpid()}",
            lease=LEASE,
            key_types=self._key_types,
            effect_types=effect_types,
            codec=self._codec,
            store=store if asks is None else PersistOverBus(store, store, asks),
            outcomes=store,
            actions=ActionLogService(loops, self._codec, incarnation=self._incarnation),
            timers=TimerService(loops),
            intents=IntentLogService(loops, self._codec),
            effect_log=effects,
            parked_effects=effects,
            effect_ends=effects,
            projections=ProjectionLogService(loops, self._codec, incarnation=self._incarnation),
            leases=leases,
            claims=EffectClaimService(loops, incarnation=self._incarnation),
            members=members,
            wakes=wakes,
            clock=now,
            new_id=uuid4,
            uniform=random.uniform,
            observe=self._observers.tell,
            advanced=self.projection_store.advanced,
            pure_reducer=pure_reducer,
            hints=hints,
            bus=bus,
            roles=roles,
            committing=None if asks is None else store,
        )
        self._host = await stack.enter_async_context(PartitionHost(world))
        cleaner = Cleaner(
            range(self.partitions),
            outcomes=ActionDedupService(loops),
            segments=EventLogService(loops),
            observe=self._observers.tell,
        )
        cleaning = asyncio.create_task(cleaner.run(), name="cleaner")

        async def stop_cleaning() -> None:
            cleaner.stop()
            await cleaning

        stack.push_async_callback(stop_cleaning)
