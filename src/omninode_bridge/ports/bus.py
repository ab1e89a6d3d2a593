"""What stands between PostgreSQL's log and a bus outside of it, in both directions.

Rule 1: positions are kept in PostgreSQL, and each names the incarnation of the bus's topic that it
        was stored for: a topic that was deleted and made again is another one.
Rule 2: offsets on the bus may have gaps, and begin anywhere; those of our log are dense, from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.message import SealedAction


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An entry of a topic of our log that is history. `body` is what stands there: a JSON object.

    `version` is None where the entry says it in its body, or of its own.
    """

    offset: int
    workflow_key: str
    action_id: UUID
    version: int | None
    happened_at: datetime
    body: bytes


class RelayedLog(Protocol):
    """The topics of our log that are history, and how far a bus outside has them."""

    async def read(
        self, topic: str, partition: int, position: int, limit: int
    ) -> Sequence[LoggedEvent]:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        ...

    async def position(self, topic: str, partition: int, incarnation: str) -> int:
        """Return the next offset that the bus has not confirmed; 1 for one never relayed to.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
        """
        ...

    async def advance(self, topic: str, partition: int, incarnation: str, following: int) -> None:
        """Store that the bus has confirmed all before `following`; never goes back.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
        """
        ...


class OutgoingEvents(Protocol):
    """The topics of a bus to which our history is carried."""

    async def incarnation(self, topic: str) -> str:
        """Return which incarnation of the topic is there now."""
        ...

    async def send(self, topic: str, partition: int, events: Sequence[LoggedEvent]) -> None:
        """Return when all of `events` are confirmed, in order, by whichever incarnation was there.

        If it is asked for afterwards, and is the one that it was before, that one has them.

        Raises:
            BusUnavailable: whether they are there is unknown: send them again.
            BusRefused: one of them can never be sent.
        """
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the bus's action topic: an action or, with the `reason`, none.

    `message` is what it was, for who puts it aside.
    """

    offset: int
    message: object
    action: SealedAction | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class IncomingPage:
    """Messages of one partition in order; `following` is the position behind them.

    All of them are certain to be of `incarnation`; where there are none, it says nothing.
    """

    entries: Sequence[Incoming]
    following: int
    incarnation: str


class IncomingActions(Protocol):
    """The action topic of a bus, to which anybody may write."""

    async def beginning(self, partition: int) -> tuple[str, int]:
        """Return the topic's incarnation, and the first offset that is still there."""
        ...

    async def read(self, partition: int, position: int, limit: int) -> IncomingPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        Raises:
            BusUnavailable: try again.
            MessagesLost: what stood at `position` is no longer there.
        """
        ...

    def close(self, partition: int) -> None:
        """Read a partition no more."""
        ...


class DeadLetters(Protocol):
    """The dead-letter topic of a bus."""

    async def put_aside(self, partition: int, messages: Sequence[Incoming]) -> None:
        """Return when the bus has confirmed `messages`, which stood in `partition`.

        Raises:
            BusUnavailable: some may be there: put them aside again.
        """
        ...


class TakenOver(Protocol):
    """What was taken over from the bus's action topic into our action log, exactly once."""

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the position in `partition` of the bus's topic; `beginning` for a new one.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
        """
        ...

    async def take_over(
        self, target: int, actions: Sequence[SealedAction], source: BusSource
    ) -> TakenIn:
        """Append in order to the action log of `target`, durably; return how many were new.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            ValueRefused: one of them cannot be stored; none was.
        """
        ...


@dataclass(frozen=True, slots=True)
class TakenIn:
    """How many actions were new, and the offset from which on they stand in the action log.

    `first` is None where they are not all there, one behind the other: some were there before, or
    are not due yet.
    """

    added: int
    first: int | None


@dataclass(frozen=True, slots=True)
class BusSource:
    """Where appended actions come from: messages of `partition` of the bus, before `next`.

    They were read from `first` on, and stood at `offsets`. Each receiving partition stores `next`
    in the transaction that appends, and skips what comes from below the value it has stored.
    """

    partition: int
    incarnation: str
    first: int
    next: int
    offsets: Sequence[int]
