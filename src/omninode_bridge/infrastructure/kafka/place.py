"""Where a cluster is, said without its client library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP: Final = "omninode-bridge"
"""What lag tools know us by: positions are committed for it as a hint, and never read."""


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """Where a cluster is: `bootstrap` servers (host:port,...), and how our topics are named there.

    `prefix` stands before each topic's name, and our group's. `settings` are the client library's
    own, for what a cluster demands of its clients: `security.protocol`, `sasl.mechanism`, ...
    """

    bootstrap: str
    prefix: str = ""
    settings: Mapping[str, Any] | None = None

    def client_settings(self) -> dict[str, Any]:
        """Return the settings of every client. What it has to say it says by its callbacks."""
        ours = {"bootstrap.servers": self.bootstrap, "client.id": GROUP, "log_level": 0}
        return ours | dict(self.settings or {})
