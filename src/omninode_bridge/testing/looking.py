"""What looks at the tables in memory: implements the ports `TransitionLog` and `ProjectionList`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.ports import LoggedProjection, LoggedTransition
    from omninode_bridge.testing.tables import Tables


class MemoryTransitionLog:
    """Implements the port `TransitionLog`."""

    def __init__(self, tables: Tables) -> None:
        """Read `tables`."""
        self._tables = tables

    async def history(
        self, workflow_key: str, after: int, limit: int
    ) -> Sequence[LoggedTransition]:
        """Return up to `limit` transitions of a key in offset order, from behind `after` on."""
        return [entry for entry in self._of(workflow_key) if entry.offset > after][:limit]

    async def last(self, workflow_key: str, version: int) -> LoggedTransition | None:
        """Return the last transition of a key at `version` or before; None: there was none."""
        entries = [entry for entry in self._of(workflow_key) if entry.version <= version]
        return entries[-1] if entries else None

    def _of(self, workflow_key: str) -> list[LoggedTransition]:
        return [
            entry
            for partition in self._tables
            for entry in partition.transitions
            if entry.workflow_key == workflow_key
        ]


class MemoryProjectionList:
    """Implements the port `ProjectionList`."""

    def __init__(self, tables: Tables) -> None:
        """Read `tables`."""
        self._tables = tables

    async def list(
        self,
        *,
        namespace: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[LoggedProjection]:
        """Return a page of projections in the order of their keys, those above `after`."""
        found = [
            row
            for key, row in sorted(self._tables.projections.items())
            if namespace in (None, row.projection.namespace)
            and tag in (None, row.projection.tag)
            and (after is None or key > after)
        ]
        return found[:limit]
