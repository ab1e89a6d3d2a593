"""Log files as workflow state: each row of a CSV file an action, by a contract in YAML."""

from omninode_bridge import ContractError
from omninode_bridge.ingest.contract import Contract, load_contract
from omninode_bridge.ingest.errors import InvalidFile, InvalidRow
from omninode_bridge.ingest.run import ingest
from omninode_bridge.ingest.stored import app_of, contracts, stored_app, stored_contracts
from omninode_bridge.ingest.summary import Progress, Summary

__all__ = [
    "Contract",
    "ContractError",
    "InvalidFile",
    "InvalidRow",
    "Progress",
    "Summary",
    "app_of",
    "contracts",
    "ingest",
    "load_contract",
    "stored_app",
    "stored_contracts",
]
