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
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Refusal, Remembered
    from omninode_bridge.core.effects import EndedEffect, LoggedIntent, OpenEffect, ParkedEffect
    from omninode_bridge.core.fsm_workflow import IllegalTransition, StateDiffers, UnknownWorkflow
    from omninode_bridge.core.message import (
        Event,
        Outcome,
        Provenance,
        SealedAction,
        StateCommitted,
        StateConflict,
    )
    from omninode_bridge.core.reducer import SealedProjection, Snapshot

    Clock = Callable[[], datetime]
    WentOrNot = Outcome | IllegalTransition | StateDiffers | UnknownWorkflow


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
class LoggedTransition:
    """An entry of the `fsm-state-transitioned` log. `transition` is canonical JSON."""

    offset: int
    workflow_key: str
    version: int
    action_id: UUID
    correlation_id: UUID | None
    committed_at: datetime
    transition: bytes


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """Nobody has told what became of the action while it was waited for (R9): ask again."""

    action_id: UUID
    waited_ms: float


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


class TransitionLog(Protocol):
    """The `fsm-state-transitioned` topic, as who looks at one key reads it."""

    async def history(
        self, workflow_key: str, after: int, limit: int
    ) -> Sequence[LoggedTransition]:
        """Return up to `limit` transitions of a key in offset order, from behind `after` on.

        `after` is the offset of the last one seen, 0 for the first page.
        """
        ...

    async def last(self, workflow_key: str, version: int) -> LoggedTransition | None:
        """Return the last transition of a key at `version` or before; None: there was none."""
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


class Submit(Protocol):
    """How a loop asks for an action of its own, as any asker does."""

    async def __call__(
        self,
        key: str,
        action_type: str,
        payload: Mapping[str, Any],
        /,
        *,
        action_id: UUID | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Outcome:
        """Return the action's outcome; raise OutcomeUnknown when there is none in time (R9)."""
        ...


class StateReplacing(Protocol):
    """Compare and set, for one key: what the store effect's door is asked for."""

    async def try_commit(
        self,
        workflow_key: str,
        expected_version: int,
        state_prime: Mapping[str, Any],
        provenance: Provenance | None = None,
    ) -> StateCommitted | StateConflict:
        """Replace the state of a key that is still at `expected_version` (0: never seen)."""
        ...


class WorkflowStates(Protocol):
    """Workflows that are state machines, as the store effect's door moves them."""

    async def transition_state(
        self,
        workflow_id: str,
        from_state: str,
        to_state: str,
        trigger: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        action_id: UUID | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> WentOrNot:
        """Go from one state to another, or say what would be allowed."""
        ...


class Expectation(Protocol):
    """Somebody who waits for an event of one action; registered when it is made."""

    async def within(self, timeout_ms: float) -> Event | StillUnknown:
        """Return the event, at once if it came already, or that it is unknown after that time."""
        ...

    def close(self) -> None:
        """Wait no more; nothing, when it has ended."""
        ...


class EventBus(Protocol):
    """How nodes tell each other what became of an action, by its id (R9)."""

    async def publish(self, topic: str, payload: Event) -> None:
        """Tell those who wait for it; what is durable is so by its commit, not by this.

        Raises:
            ValueError: the event does not belong on that topic.
        """
        ...

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Expectation:
        """Wait from now on: do so before the action is sent, then send it, then ask `within`.

        Raises:
            TooManyWaiting: there is no room for one more.
        """
        ...

    async def wait_any(
        self, types: Collection[type[Event]], action_id: UUID, timeout_ms: float
    ) -> Event | StillUnknown:
        """Wait for the first event of one of `types`, for what was sent by somebody else."""
        ...


class Runs(Protocol):
    """What carries out an orchestrator's contract, durably."""

    async def __call__(
        self,
        contract: Mapping[str, Any],
        input: Mapping[str, Any],  # noqa: A002 - the plan's word
        /,
        *,
        workflow_id: str,
        timeout: float,  # noqa: ASYNC109 - the outcome is unknown then, the run goes on
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> object:
        """Run to the end and return the outcome; wait at most `timeout` seconds for it."""
        ...
