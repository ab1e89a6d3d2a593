"""For tests of what is built on the bridge: a world in memory, given/when/then for reducers."""

from omninode_bridge.testing.clock import SettableClock
from omninode_bridge.testing.given import Given, given
from omninode_bridge.testing.result import Result
from omninode_bridge.testing.world import MemoryWorld

__all__ = ["Given", "MemoryWorld", "Result", "SettableClock", "given"]
