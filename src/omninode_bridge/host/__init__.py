"""The host of a process's partitions: it owns what it can, and finds a way in for the rest."""

from omninode_bridge.host.answers import Answers
from omninode_bridge.host.bus import Bus
from omninode_bridge.host.partition_host import PartitionHost
from omninode_bridge.host.run_door import FIRST_EPOCH, RunDoor
from omninode_bridge.host.world import World

__all__ = ["FIRST_EPOCH", "Answers", "Bus", "PartitionHost", "RunDoor", "World"]
