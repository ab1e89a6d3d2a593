"""What the loops need from the world, as Protocols over core types.

Rule 1: a port is said in one breath: up to three methods.
Rule 2: every implementation (memory, PostgreSQL) passes the same suite in `tests/contract/`.
Rule 3: an unreachable database raises DatabaseUnavailable; after a commit that means *unknown*.
Offsets begin at 1. A position is the *next* offset a consumer will read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Refusal, Remembered
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.reducer import SealedIntent, SealedProjection, Snapshot

    Clock = Callable[[], datetime]


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
class LoggedIntent:
    """An entry of the `intent` log, with what a follow-up action inherits from its source."""

    offset: int
    intent: SealedIntent
    action_id: UUID
    correlation_id: UUID | None
    depth: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class LoggedProjection:
    """What a materializer needs of an entry of the `state-committed` log."""

    offset: int
    workflow_key: str
    version: int
    action_type: str
    committed_at: datetime
    projection: SealedProjection


@dataclass(frozen=True, slots=True)
class Source:
    """Where appended actions come from: entries of `partition`'s intent log before `next`.

    The receiving partition stores `next` in the transaction that appends, and skips what comes
    from below the value it has stored (R10: exactly once across partitions).
    """

    partition: int
    next: int
    offsets: Sequence[int]


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


class RememberedOutcomes(Protocol):
    """What became of action ids, for who looks without holding the partition."""

    async def recall(
        self, partition: int, names: Iterable[ActionName]
    ) -> Mapping[ActionName, Remembered]:
        """Return the remembered outcomes among `names`, all of `partition`.

        An outcome that is found is final (R3). One that is not may be on its way: only the commit,
        or `LockedPartition.recall`, tells that there is none.
        """
        ...


class Hints(Protocol):
    """Which ids somebody has seen decided: saves work, decides nothing (R3).

    It may forget, lie or say nothing; it never raises and never waits for long.
    """

    async def seen(self, ids: Collection[UUID]) -> Collection[UUID]:
        """Return those of `ids` that may be worth a look."""
        ...

    def remember(self, ids: Iterable[UUID]) -> None:
        """Pass on that `ids` are decided; returns at once, whether or not anybody hears it."""
        ...


class ActionLog(Protocol):
    """The `action` topic: the durable door of a partition."""

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        """Append in order, durably; return how many were new (all, when there is no source)."""
        ...

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedAction] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        ...

    async def position(self, partition: int) -> int:
        """Return the partition worker's position."""
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


class Leases(Protocol):
    """Who owns which partition, by the store's clock."""

    async def acquire(
        self, owner: UUID, name: str, lease: timedelta, partitions: Iterable[int]
    ) -> Sequence[int]:
        """Take those of `partitions` that are free or expired, or already ours; return them."""
        ...

    async def renew(self, owner: UUID, lease: timedelta) -> Sequence[int]:
        """Lengthen the leases of `owner`; return the partitions it still owns."""
        ...

    async def release(self, owner: UUID) -> None:
        """Let all partitions of `owner` go."""
        ...


class OutcomeCleaning(Protocol):
    """Remembered outcomes must not grow for ever."""

    async def cleanup_expired(self, limit: int) -> int:
        """Forget up to `limit` outcomes whose time is over; return how many."""
        ...


class SegmentCleaning(Protocol):
    """Transient topics must not grow for ever."""

    async def drop_segments(self, topic: str, partition: int) -> int:
        """Drop the whole segments that lie behind all registered consumers; return how many."""
        ...
