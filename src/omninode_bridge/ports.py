"""What the loops need from the world, as Protocols over core types.

Rule 1: a port is said in one breath: up to three methods.
Rule 2: every implementation (memory, PostgreSQL) passes the same suite in `tests/contract/`.
Rule 3: an unreachable database raises DatabaseUnavailable; after a commit that means *unknown*.
Offsets begin at 1. A position is the *next* offset a consumer will read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Refusal, Remembered
    from omninode_bridge.core.effects import EndedEffect, LoggedIntent, OpenEffect, ParkedEffect
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.reducer import SealedProjection, Snapshot

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


@dataclass(frozen=True, slots=True)
class EffectsBegun:
    """Where the effects of a partition stand: the position, and what is over or parked behind it.

    `waiting` are parked ones that hold back others: type, workflow key and offset.
    """

    position: int
    over: frozenset[int]
    waiting: Sequence[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class EffectPage:
    """Intents for effects, and the offset to read on from."""

    entries: Sequence[LoggedIntent]
    following: int


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


class EffectLog(Protocol):
    """The `intent` topic as effects read it: without what the dispatcher carries over."""

    async def begin(self, partition: int, ordered: Sequence[str]) -> EffectsBegun:
        """Return where the effects of a partition stand; `ordered` are types in lanes."""
        ...

    async def read(self, partition: int, position: int, limit: int) -> EffectPage | CutOff:
        """Return up to `limit` intents for effects from `position` on."""
        ...


class ParkedEffects(Protocol):
    """Effects that wait outside of the log."""

    async def due(
        self, partition: int, types: Mapping[str, int], ordered: Sequence[str], busy: Sequence[int]
    ) -> tuple[Sequence[OpenEffect], float | None]:
        """Return those that are due, at most so many of each type, and the seconds to the next.

        Offsets in `busy` are left out. Of an `ordered` type and one key only the first comes.
        """
        ...

    async def find(self, partition: int, intent_id: UUID) -> OpenEffect | None:
        """Return the waiting effect of an intent, or None when none is parked."""
        ...


class EffectTransaction(Protocol):
    """A transaction in which a handler writes, and which ends its effect."""

    connection: Any

    async def end(self, ended: EndedEffect) -> Literal["ended", "over", "not_owner"]:
        """End the effect in this transaction.

        `over`: it had ended before, and `not_owner`: the partition is another's; then this
        transaction has to be undone.
        """
        ...


class EffectEnds(Protocol):
    """Where the ends of effects become durable."""

    async def settle(
        self,
        partition: int,
        owner: UUID | None,
        ended: Sequence[EndedEffect],
        parked: Sequence[ParkedEffect],
        position: int,
    ) -> bool:
        """Make ends, parked ones, follow-ups and position durable together; False: not owner.

        May be repeated after a lost reply: what is over stays as it was said first.
        """
        ...

    def transaction(
        self, partition: int, owner: UUID | None
    ) -> AbstractAsyncContextManager[EffectTransaction]:
        """Open a transaction on the partition's database; it ends with the context."""
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
