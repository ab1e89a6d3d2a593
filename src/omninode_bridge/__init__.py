"""A durable engine for workflow state: one pure function, once per action, in order per key."""

from omninode_bridge.app import App, Bridge, default_data_dir
from omninode_bridge.core.errors import (
    BridgeClosed,
    BridgeError,
    BrokenPromise,
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    GaveUp,
    InvalidAction,
    OutcomeUnknown,
    ValueRefused,
    VersionNotReached,
)
from omninode_bridge.core.message import (
    Action,
    Intent,
    Outcome,
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    StateConflict,
)
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import Rejection, Transition

__all__ = [
    "Action",
    "App",
    "Bridge",
    "BridgeClosed",
    "BridgeError",
    "BrokenPromise",
    "ConfigurationError",
    "DatabaseRefused",
    "DatabaseUnavailable",
    "GaveUp",
    "Intent",
    "InvalidAction",
    "Outcome",
    "OutcomeUnknown",
    "Projection",
    "Provenance",
    "ReducerGaveUp",
    "Rejection",
    "StateCommitted",
    "StateConflict",
    "Transition",
    "ValueRefused",
    "VersionNotReached",
    "default_data_dir",
]
