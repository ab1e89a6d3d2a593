"""How the nodes of a process hear of outcomes: by the action's id, whichever bus carries them."""

from omninode_bridge.infrastructure.event_bus.memory import MemoryEventBus
from omninode_bridge.infrastructure.event_bus.postgres import PostgresEventBus

__all__ = ["MemoryEventBus", "PostgresEventBus"]
