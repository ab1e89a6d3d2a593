"""What PostgreSQL keeps in tables, kept in memory: rows, logs, positions, leases.

Rule 1: everything changes through `Changes`, applied whole or dropped whole (R2). Until then only
        the transaction they belong to sees them.
Rule 2: nothing here waits. Who must not be in the way of others takes `Partition.lock` first.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from omninode_bridge.core.errors import DatabaseRefused
from omninode_bridge.core.topics import RELAYED
from omninode_bridge.ports import CutOff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.commit import ActionName, Remembered
    from omninode_bridge.core.effects import EndedEffect, LoggedIntent, OpenEffect
    from omninode_bridge.core.message import ReducerGaveUp, SealedAction
    from omninode_bridge.core.reducer import Snapshot
    from omninode_bridge.core.sharing import Member
    from omninode_bridge.ports import LoggedAction, LoggedEvent, LoggedProjection, LoggedTransition

FOR_EVER: Final = float("inf")

_E = TypeVar("_E")
Consumer = tuple[str, str, int, int]
"""Name, topic, the partition that is read, and the one whose transactions move the position."""


class TransientLog(Generic[_E]):
    """A topic of one partition, in segments of `segment_entries` that are dropped whole."""

    def __init__(self, segment_entries: int) -> None:
        """Begin empty: the first offset is 1."""
        self._segment_entries = segment_entries
        self._entries: list[_E] = []
        self.low = 1

    @property
    def head(self) -> int:
        """The next offset it will give."""
        return self.low + len(self._entries)

    def extend(self, entries: Sequence[_E]) -> None:
        """Append `entries`, which carry the offsets from `head` on."""
        self._entries.extend(entries)

    def read(self, position: int, limit: int) -> Sequence[_E] | CutOff:
        """Return up to `limit` entries from `position` on."""
        if position < self.low:
            return CutOff(self.low)
        first = position - self.low
        return self._entries[first : first + limit]

    def first(self, condition: Callable[[_E], bool]) -> int:
        """Return the offset of the first entry with `condition`; of none, the head."""
        offsets = (self.low + n for n, entry in enumerate(self._entries) if condition(entry))
        return next(offsets, self.head)

    def segments_behind(self, position: int) -> int:
        """Return how many whole segments lie before `position`."""
        return (position - self.low) // self._segment_entries

    def drop(self, segments: int) -> None:
        """Forget the first `segments` segments."""
        entries = segments * self._segment_entries
        del self._entries[:entries]
        self.low += entries


@dataclass(slots=True)
class Lease:
    """Who holds a partition, and until when."""

    owner: UUID
    name: str
    until: datetime
    member: UUID | None = None


@dataclass(frozen=True, slots=True)
class EffectClaim:
    """Which member carries out the effects of a partition; `owner` is its token, if it is apart."""

    owner: UUID | None
    member: UUID


@dataclass(slots=True)
class Seen:
    """A process that shares partitions, and until when it is taken to be there."""

    member: Member
    until: datetime


@dataclass(frozen=True, slots=True)
class BusPosition:
    """How far something is in step with a topic of a bus, and which incarnation of it that is."""

    incarnation: str
    next: int


@dataclass(frozen=True, slots=True)
class EffectRow:
    """A parked effect: it waits until `due_at`, or it is dead."""

    effect: OpenEffect
    status: Literal["waiting", "dead"]
    due_at: datetime

    @property
    def offset(self) -> int:
        """The offset of its intent."""
        return self.effect.entry.offset


@dataclass(slots=True)
class Partition:
    """What belongs to one partition. `lock` stands for the lock on its row."""

    actions: TransientLog[LoggedAction]
    intents: TransientLog[LoggedIntent]
    committed: list[LoggedProjection] = field(default_factory=list)
    gave_up: list[ReducerGaveUp] = field(default_factory=list)
    transitions: list[LoggedTransition] = field(default_factory=list)
    events: dict[str, list[LoggedEvent]] = field(
        default_factory=lambda: {topic: [] for topic in RELAYED}
    )
    timers: list[tuple[datetime, int, SealedAction]] = field(default_factory=list)
    timers_set: int = 0
    effects: dict[int, EffectRow] = field(default_factory=dict)
    effects_ended: dict[tuple[int, int], EndedEffect] = field(default_factory=dict)
    lease: Lease | None = None
    effects_claim: EffectClaim | None = None
    watermark: int = 1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What an action id came to. `expires_at` is in seconds since 1970."""

    remembered: Remembered
    expires_at: float


@dataclass(slots=True)
class Changes:
    """What a transaction on one partition will have changed when it ends."""

    states: dict[str, Snapshot] = field(default_factory=dict)
    outcomes: dict[ActionName, OutcomeRow] = field(default_factory=dict)
    committed: list[LoggedProjection] = field(default_factory=list)
    gave_up: list[ReducerGaveUp] = field(default_factory=list)
    intents: list[LoggedIntent] = field(default_factory=list)
    transitions: list[LoggedTransition] = field(default_factory=list)
    events: list[tuple[str, LoggedEvent]] = field(default_factory=list)
    position: int | None = None
    lease_until: datetime | None = None


class Tables:
    """The whole database."""

    def __init__(self, partitions: int, segment_entries: int) -> None:
        """Make `partitions` empty partitions with the consumers that the bridge itself has."""
        assert partitions >= 1, partitions
        self.states: dict[str, Snapshot] = {}
        self.outcomes: dict[ActionName, OutcomeRow] = {}
        self.projections: dict[str, LoggedProjection] = {}
        self.positions: dict[Consumer, int] = {}
        self.members: dict[UUID, Seen] = {}
        self.bus_positions: dict[Consumer, BusPosition] = {}
        self._partitions = [
            Partition(TransientLog(segment_entries), TransientLog(segment_entries))
            for _ in range(partitions)
        ]
        for number in range(partitions):
            self.positions["reducer", "action", number, number] = 1
            for home in range(partitions):
                self.positions["dispatcher", "intent", number, home] = 1
            self.positions["effects", "intent", number, number] = 1

    def __iter__(self) -> Iterator[Partition]:
        """Yield the partitions in order."""
        return iter(self._partitions)

    def partition(self, number: int) -> Partition:
        """Return a partition.

        Raises:
            DatabaseRefused: there is none of that number.
        """
        if not 0 <= number < len(self._partitions):
            raise DatabaseRefused("P0002", f"there is no partition {number}")
        return self._partitions[number]

    def worker_position(self, partition: int) -> int:
        """Return how far the worker of `partition` has come in its action log."""
        return self.positions["reducer", "action", partition, partition]

    def seen_states(self, changes: Changes) -> MutableMapping[str, Snapshot]:
        """Return the states as the transaction of `changes` sees them."""
        return ChainMap(changes.states, self.states)

    def seen_outcomes(self, changes: Changes) -> MutableMapping[ActionName, OutcomeRow]:
        """Return the remembered outcomes as the transaction of `changes` sees them."""
        return ChainMap(changes.outcomes, self.outcomes)

    def apply(self, partition: int, changes: Changes) -> None:
        """End the transaction: `changes` are there for everyone, from one moment on."""
        here = self._partitions[partition]
        self.states.update(changes.states)
        self.outcomes.update(changes.outcomes)
        here.committed.extend(changes.committed)
        here.gave_up.extend(changes.gave_up)
        here.intents.extend(changes.intents)
        here.transitions.extend(changes.transitions)
        for topic, event in changes.events:
            here.events[topic].append(event)
        if changes.position is not None:
            self.positions["reducer", "action", partition, partition] = changes.position
        if changes.lease_until is not None and here.lease is not None:
            here.lease.until = changes.lease_until
