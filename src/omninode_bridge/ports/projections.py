"""The queryable copy: the log it is made from, how it is kept, how it is listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from omninode_bridge.core.reducer import SealedProjection


@dataclass(frozen=True, slots=True)
class LoggedProjection:
    """What a materializer needs of an entry of the `state-committed` log."""

    offset: int
    workflow_key: str
    version: int
    action_type: str
    committed_at: datetime
    projection: SealedProjection


class ProjectionLog(Protocol):
    """The `state-committed` topic as a materializer reads it, and the projection it maintains."""

    async def read(self, partition: int, position: int, limit: int) -> Sequence[LoggedProjection]:
        """Return up to `limit` entries from `position` on, none when there are none yet.

        History is never cut off.
        """
        ...

    async def watermark(self, partition: int) -> int:
        """Return the position of the projection of `partition`."""
        ...

    async def apply(
        self, partition: int, expected: int, following: int, entries: Sequence[LoggedProjection]
    ) -> int:
        """Write rows and watermark in one transaction if the watermark is still `expected`.

        Returns the watermark afterwards: `following`, or the one somebody else has set.

        Raises:
            BrokenPromise: when `following` lies before `expected` (the watermark never goes back).
        """
        ...


class HasKey(Protocol):
    """A row about a key."""

    @property
    def workflow_key(self) -> str:
        """The key."""
        ...


class ProjectionList(Protocol):
    """The projections, as who looks for keys lists them."""

    async def list(
        self,
        *,
        namespace: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[HasKey]:
        """Return a page of projections in the order of their keys, those above `after`."""
        ...
