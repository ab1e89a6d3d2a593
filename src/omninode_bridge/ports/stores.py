"""Where states become durable: the one commit, and compare-and-set on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Refusal, Remembered
    from omninode_bridge.core.message import (
        Provenance,
        ReducerGaveUp,
        StateCommitted,
        StateConflict,
    )
    from omninode_bridge.core.reducer import Snapshot


class LockedPartition(Protocol):
    """One transaction that holds a partition's row: nobody else commits there meanwhile."""

    async def read(self, keys: Iterable[str]) -> Mapping[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        ...

    async def recall(self, names: Iterable[ActionName]) -> Mapping[ActionName, Remembered]:
        """Return the remembered outcomes among `names`."""
        ...

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Commit in this transaction; it becomes durable when the context ends."""
        ...


class CanonicalStore(Protocol):
    """The truth."""

    async def read(self, keys: Iterable[str]) -> Mapping[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        ...

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Make the batch durable (R2), or write nothing and say all the reasons."""
        ...

    def locked(self, partition: int) -> AbstractAsyncContextManager[LockedPartition]:
        """Hold the partition's row: first waits for whoever commits there, even a lost backend."""
        ...


class StateReplacing(Protocol):
    """Compare and set, for one key: what the store effect's door is asked for."""

    async def try_commit(
        self,
        workflow_key: str,
        expected_version: int,
        state_prime: Mapping[str, Any],
        provenance: Provenance | None = None,
    ) -> StateCommitted | StateConflict | ReducerGaveUp:
        """Replace the state of a key that is still at `expected_version` (0: never seen).

        A fenced key answers an epoch that is past, or another's, with `ReducerGaveUp`.
        """
        ...
