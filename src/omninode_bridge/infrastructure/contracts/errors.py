"""What can be wrong with a node's contract."""

from __future__ import annotations

from omninode_bridge.core.errors import ConfigurationError


class NodeContractError(ConfigurationError):
    """A contract that cannot be read, or that its node's code does not keep."""

    def __init__(self, file: str, field: str, detail: str) -> None:
        """`field` is the place within the file: `intents.0.topic`; "" is the file as a whole."""
        super().__init__(f"{file}: {field}: {detail}" if field else f"{file}: {detail}")
        self.file = file
        self.field = field
        self.detail = detail
