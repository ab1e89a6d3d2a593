"""The logs that carry actions on: `action`, `intent`, and what waits for its time beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.message import SealedAction


@dataclass(frozen=True, slots=True)
class CutOff:
    """The log no longer has the entry that was asked for: it begins at `low`."""

    low: int


@dataclass(frozen=True, slots=True)
class LoggedAction:
    """An entry of the `action` log."""

    offset: int
    action: SealedAction


@dataclass(frozen=True, slots=True)
class Source:
    """Where appended actions come from: entries of `partition`'s intent log before `next`.

    The receiving partition stores `next` in the transaction that appends, and skips what comes
    from below the value it has stored (R10: exactly once across partitions).
    """

    partition: int
    next: int
    offsets: Sequence[int]


class ActionLog(Protocol):
    """The `action` topic: the durable door of a partition."""

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        """Append in order, durably; return how many were new (all, when there is no source).

        An action with a `due_at` to come, by the store's clock, is kept until then (`Timers`).
        """
        ...

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedAction] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        ...

    async def position(self, partition: int) -> int:
        """Return the partition worker's position."""
        ...


class Timers(Protocol):
    """Actions that are not due yet: `ActionLog.append` keeps those with a `due_at` to come."""

    async def fire(self, partition: int, limit: int) -> tuple[int, float | None]:
        """Move up to `limit` due actions into the action log; return how many, and the next wait.

        Those due first come first, each exactly once. The wait is in seconds until the next one is
        due by the store's clock (0 or less: now), None when there is none.
        """
        ...


class IntentLog(Protocol):
    """The `intent` topic: what is to be done because of commits."""

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedIntent] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        ...

    async def positions(self, partition: int) -> Mapping[int, int]:
        """Return, for every target partition, the position it has stored for this source."""
        ...
