"""Contracts: what a node promises in its `contract.yaml`, and what the steps of a run are."""

from omninode_bridge.infrastructure.contracts.checking import Door, load_node_contract
from omninode_bridge.infrastructure.contracts.errors import NodeContractError
from omninode_bridge.infrastructure.contracts.node_contract import NodeContract
from omninode_bridge.infrastructure.contracts.run_contract import (
    load_run_contract,
    read_run_contract,
    run_contract_of,
)

__all__ = [
    "Door",
    "NodeContract",
    "NodeContractError",
    "load_node_contract",
    "load_run_contract",
    "read_run_contract",
    "run_contract_of",
]
