"""What a node promises in its `contract.yaml`, and whether its code does: asked at every start."""

from omninode_bridge.infrastructure.contracts.checking import Door, load_node_contract
from omninode_bridge.infrastructure.contracts.errors import NodeContractError
from omninode_bridge.infrastructure.contracts.node_contract import NodeContract

__all__ = ["Door", "NodeContract", "NodeContractError", "load_node_contract"]
