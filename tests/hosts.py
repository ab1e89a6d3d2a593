"""What a host needs of the world, for tests that run one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode_bridge.host import Bus, World
from omninode_bridge.testing.bus import MemoryPersistBus
from tests.unit.workers import CODEC, KEY_TYPES, LEASE, Dice, NewIds

if TYPE_CHECKING:
    from omninode_bridge.testing import MemoryWorld
    from omninode_bridge.testing.bus import MemoryBus


def bus_of(bus: MemoryBus, world: MemoryWorld, persisting: MemoryPersistBus | None = None) -> Bus:
    """Return the bus of hosts on `world`."""
    commands = MemoryPersistBus() if persisting is None else persisting
    stores = (world.relayed, world.taken_over, commands, world.command_positions)
    return Bus(bus, bus, bus, *stores)


def hosted(
    world: MemoryWorld,
    **others: Any,  # noqa: ANN401 - fields of a World that a test has of its own
) -> World:
    """Return what a host on `world` needs of it."""
    fields: dict[str, Any] = {
        "name": "a host",
        "lease": LEASE,
        "key_types": KEY_TYPES,
        "effect_types": {},
        "new_id": NewIds(),
        "uniform": Dice(),
        "observe": lambda _: None,
        "advanced": lambda _: None,
    }
    return World(
        partitions=world.partitions,
        codec=CODEC,
        store=world.store,
        outcomes=world.store,
        actions=world.actions,
        timers=world.timers,
        intents=world.intents,
        effect_log=world.effects,
        parked_effects=world.effects,
        effect_ends=world.effects,
        projections=world.projections,
        leases=world.leases,
        claims=world.claims,
        members=world.members,
        wakes=world.wakes,
        clock=world.clock,
        **(fields | others),
    )
