"""The doors of the nodes, and what stands behind them: state machines and the event bus.

Rule 1: nobody else opens a node's door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omninode_bridge.app.clock import now
from omninode_bridge.app.running import Running
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.infrastructure.contracts import load_node_contract
from omninode_bridge.infrastructure.event_bus import PostgresEventBus
from omninode_bridge.nodes.database_adapter_effect.v1_0_0.node import NodeBridgeStoreEffect
from omninode_bridge.nodes.orchestrator.v1_0_0.node import NodeBridgeOrchestrator
from omninode_bridge.nodes.reducer.v1_0_0.node import NodeBridgeReducer
from omninode_bridge.services.fsm_state_manager import FSMStateManager
from omninode_bridge.services.transition_log import TransitionLogService

if TYPE_CHECKING:
    from omninode_bridge.app.declaring import App
    from omninode_bridge.core.partition import Partitioning
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import Runs


@dataclass(frozen=True, slots=True)
class Nodes:
    """The doors of the OmniNode architecture, each checked against its `contract.yaml`."""

    reducer: NodeBridgeReducer
    store_effect: NodeBridgeStoreEffect
    orchestrator: NodeBridgeOrchestrator


class Doors(Running):
    """A bridge as nodes of the OmniNode architecture see it."""

    def __init__(self, app: App, database: Database, partitioning: Partitioning) -> None:
        """Wire what the doors lead to; they are opened where the bridge writes."""
        super().__init__(app, database, partitioning)
        self.event_bus = PostgresEventBus(database, observe=self._observers.tell)
        self.fsm = FSMStateManager(
            submit=self.submit,
            store=self.canonical_store,
            transitions=TransitionLogService(database, self._codec),
            projections=self.projection_store,
            caught_up=self._settling.projection_caught_up,
            codec=self._codec,
            machine=WORKFLOW,
        )
        self._nodes: Nodes | None = None

    def _open_doors(self) -> Nodes:
        """Check every node's contract against its code, then give each what it needs.

        Raises:
            ConfigurationError: a contract and its code disagree.
        """
        for node in (NodeBridgeReducer, NodeBridgeStoreEffect, NodeBridgeOrchestrator):
            load_node_contract(node)
        return Nodes(
            NodeBridgeReducer(self._key_types, self._codec, now),
            NodeBridgeStoreEffect(self.canonical_store, self.fsm, self.event_bus, now),
            self.orchestrator_node(),
        )

    def orchestrator_node(self, run: Runs | None = None) -> NodeBridgeOrchestrator:
        """Return the door to the runs of this bridge, or to those that `run` carries out."""
        return NodeBridgeOrchestrator(self.run if run is None else run)

    @property
    def nodes(self) -> Nodes:
        """The doors; BridgeClosed when the bridge is closed, or was opened for reading."""
        self._writing()
        assert self._nodes is not None
        return self._nodes
