"""How fast the bridge is here: applications like any other, they see the public names only."""

from omninode_bridge.bench.kafka import KafkaFigures, KafkaLoad
from omninode_bridge.bench.load import Figures, Load, Mode, app
from omninode_bridge.bench.processes import Processes, SharedFigures
from omninode_bridge.bench.saga import Saga, SagaFigures

__all__ = [
    "Figures",
    "KafkaFigures",
    "KafkaLoad",
    "Load",
    "Mode",
    "Processes",
    "Saga",
    "SagaFigures",
    "SharedFigures",
    "app",
]
