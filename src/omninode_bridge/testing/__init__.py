"""For tests of what is built on the bridge: a world in memory, given/when/then for reducers."""

from omninode_bridge.testing.clock import SettableClock
from omninode_bridge.testing.world import MemoryWorld

__all__ = ["MemoryWorld", "SettableClock"]
