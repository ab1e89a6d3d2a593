"""The doors over a world in memory: a host that works, and a manager that holds nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from omninode_bridge.core.fsm_workflow import FSM_WORKFLOWS
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.core.message import SealedAction
from omninode_bridge.host import PartitionHost
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.event_bus import MemoryEventBus
from omninode_bridge.nodes.database_adapter_effect.v1_0_0.node import NodeBridgeStoreEffect
from omninode_bridge.services.fsm_state_manager import FSMStateManager
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import WAIT_S, app
from tests.hosts import hosted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from omninode_bridge.core.message import Outcome
    from omninode_bridge.core.observation import Observation

CODEC: Final = CanonicalCodec()
KEY_TYPES: Final = app.key_types() | {FSM_WORKFLOWS.name: FSM_WORKFLOWS}
PARTITIONS: Final = 2
LEASE: Final = timedelta(seconds=5)


def new_world() -> MemoryWorld:
    """Return an empty world whose clock stands still."""
    return MemoryWorld(
        clock=SettableClock(), partitions=PARTITIONS, lease=LEASE, key_types=KEY_TYPES
    )


@dataclass
class Doors:
    """What is open on a world for the length of a block."""

    world: MemoryWorld
    host: PartitionHost
    fsm: FSMStateManager
    bus: MemoryEventBus
    store_effect: NodeBridgeStoreEffect
    facts: list[Observation]


async def projected(world: MemoryWorld) -> bool:
    """Return whether the projection shows all that is committed."""
    logs = [await world.projections.read(n, 1, 1_000_000) for n in range(PARTITIONS)]
    marks = [await world.projections.watermark(n) for n in range(PARTITIONS)]
    return all(mark > len(log) for mark, log in zip(marks, logs, strict=True))


@asynccontextmanager
async def opened(world: MemoryWorld) -> AsyncIterator[Doors]:
    """Run a host on `world`, with a manager and a store effect of its own."""
    facts: list[Observation] = []
    doors = hosted(
        world,
        name="doors",
        lease=LEASE,
        key_types=KEY_TYPES,
        new_id=uuid4,
        observe=facts.append,
    )
    async with PartitionHost(doors) as host:

        async def submit(
            key: str,
            action_type: str,
            payload: Mapping[str, Any],
            /,
            *,
            action_id: UUID | None = None,
            epoch: int | None = None,
            lease_id: UUID | None = None,
            correlation_id: UUID | None = None,
        ) -> Outcome:
            action = SealedAction(
                action_id or uuid4(),
                key,
                action_type,
                CODEC.encode(dict(payload)),
                world.clock(),
                epoch,
                lease_id,
                correlation_id,
            )
            async with asyncio.timeout(WAIT_S):
                return await (await host.submit(action))

        async def caught_up() -> None:
            async with asyncio.timeout(WAIT_S):
                while True:
                    if await projected(world):
                        return
                    await asyncio.sleep(0.001)

        fsm = FSMStateManager(
            submit=submit,
            store=world.store,
            transitions=world.transition_log,
            projections=world.projection_list,
            caught_up=caught_up,
            codec=CODEC,
            machine=WORKFLOW,
        )
        bus = MemoryEventBus(observe=facts.append)
        store_effect = NodeBridgeStoreEffect(world.store, fsm, bus, world.clock)
        yield Doors(world, host, fsm, bus, store_effect, facts)
