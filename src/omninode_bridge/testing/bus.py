"""What is in step with a bus, and a bus, in memory: `RelayedLog`, `TakenOver`, and its two ends.

None of these calls waits, so each is done whole before anybody else's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.commit import Refusal
from omninode_bridge.core.errors import (
    BrokenPromise,
    BusUnavailable,
    MessagesLost,
    TopicReplaced,
)
from omninode_bridge.core.topics import ACTION, PERSIST_STATE, RELAYED
from omninode_bridge.ports import Command, CommandPage, Incoming, IncomingPage, TakenIn
from omninode_bridge.testing.interruptions import Interruptions
from omninode_bridge.testing.logs import check_actions, put_actions
from omninode_bridge.testing.tables import BusPosition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.ports import BusSource, Clock, LoggedEvent, Unstorable
    from omninode_bridge.testing.interruptions import Call, When
    from omninode_bridge.testing.tables import Consumer, Tables

    Answer = Accepted | Refusal | Unstorable

READ_WAIT_S: Final = 0.01


class MemoryRelayedLog:
    """Implements the port `RelayedLog`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Read from `tables`, and keep positions there."""
        self._tables = tables
        self._interruptions = interruptions

    async def read(
        self, topic: str, partition: int, position: int, limit: int
    ) -> Sequence[LoggedEvent]:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        with self._interruptions.around("relayed.read"):
            first = max(0, position - 1)
            return self._tables.partition(partition).events[topic][first : first + limit]

    async def position(self, topic: str, partition: int, incarnation: str) -> int:
        """Return the next offset that the bus has not confirmed.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
        """
        with self._interruptions.around("relayed.position"):
            place = ("relay", RELAYED[topic], partition, partition)
            return _begin(self._tables, place, incarnation, 1)

    async def advance(self, topic: str, partition: int, incarnation: str, following: int) -> None:
        """Store that the bus has confirmed all before `following`; never goes back.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            BusUnavailable: somebody has made us forget the position: begin again.
        """
        with self._interruptions.around("relayed.advance"):
            place = ("relay", RELAYED[topic], partition, partition)
            stored = self._tables.bus_positions.get(place)
            if stored is None:
                raise BusUnavailable(f"the position of the relay to {place[1]} was forgotten")
            _check(place, stored, incarnation)
            following = max(stored.next, following)
            self._tables.bus_positions[place] = BusPosition(incarnation, following)


class MemoryCommandPositions:
    """Implements the port `CommandPositions`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Keep positions in `tables`."""
        self._tables = tables
        self._interruptions = interruptions

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the next offset to look at; `beginning` for a topic that is not the one before."""
        with self._interruptions.around("command_positions.position"):
            place = ("store-effect", PERSIST_STATE, partition, partition)
            stored = self._tables.bus_positions.get(place)
            if stored is None or stored.incarnation != incarnation:
                stored = BusPosition(incarnation, beginning)
            following = max(stored.next, beginning)
            self._tables.bus_positions[place] = BusPosition(incarnation, following)
            return following

    async def go_back(self, partition: int, incarnation: str, position: int) -> None:
        """Store a position that may be before the one that is stored."""
        with self._interruptions.around("command_positions.go_back"):
            place = ("store-effect", PERSIST_STATE, partition, partition)
            stored = self._tables.bus_positions.get(place)
            if stored is not None and stored.incarnation == incarnation:
                self._tables.bus_positions[place] = BusPosition(incarnation, position)

    async def advance(self, partition: int, incarnation: str, following: int) -> None:
        """Store that all before `following` was looked at."""
        with self._interruptions.around("command_positions.advance"):
            place = ("store-effect", PERSIST_STATE, partition, partition)
            stored = self._tables.bus_positions.get(place)
            if stored is not None and stored.incarnation == incarnation:
                following = max(stored.next, following)
                self._tables.bus_positions[place] = BusPosition(incarnation, following)


class MemoryPersistBus:
    """Commits on their way and back. Implements the ports `PersistAsks` and `PersistCommands`.

    `sent` holds the commits of each partition. The next `commits_lost` commits are not sent, and
    the next `answers_lost` answers not told; whoever asks waits for them in vain.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.sent: dict[int, list[Commit]] = defaultdict(list)
        self.commits_lost = 0
        self.answers_lost = 0
        self._waiting: dict[UUID, asyncio.Future[Answer]] = {}

    async def ask(self, commit: Commit, wait_s: float) -> Answer | None:
        """Send a commit; return the answer to it, or None when none has come within `wait_s`."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[commit.effect_id] = answered
        if self.commits_lost:
            self.commits_lost -= 1
        else:
            self.sent[commit.partition].append(commit)
        try:
            async with asyncio.timeout(wait_s):
                return await answered
        except TimeoutError:
            return None
        finally:
            del self._waiting[commit.effect_id]

    async def bounds(self, partition: int) -> tuple[str, int, int]:
        """Return the topic's incarnation, the first offset that is there, and the next one."""
        return "memory", 0, len(self.sent[partition])

    async def read(self, partition: int, position: int, limit: int) -> CommandPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        Raises:
            MessagesLost: it does not go so far.
        """
        if position > len(self.sent[partition]):
            raise MessagesLost(PERSIST_STATE, partition, position, "it ends before")
        found = self.sent[partition][position : position + limit]
        if not found:
            await asyncio.sleep(READ_WAIT_S)
        commands = [Command(position + n, commit) for n, commit in enumerate(found)]
        return CommandPage(commands, position + len(found))

    async def answer(self, commit: Commit, answer: Answer) -> None:
        """Tell who sent `commit` what became of it."""
        if self.answers_lost:
            self.answers_lost -= 1
            return
        if isinstance(answer, Refusal):
            unnamed: Any = None  # outcomes do not travel, only their names
            answer = replace(answer, known=dict.fromkeys(answer.known, unnamed))
        answered = self._waiting.get(commit.effect_id)
        if answered is not None and not answered.done():
            answered.set_result(answer)

    def close(self, partition: int) -> None:
        """Read a partition no more."""


class MemoryTakenOver:
    """Implements the port `TakenOver`."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Append to `tables`, by the clock of the world."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the position in `partition` of the bus's topic; `beginning` for a new one.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
        """
        with self._interruptions.around("taken_over.position"):
            place = ("intake", ACTION, partition, partition)
            return _begin(self._tables, place, incarnation, beginning)

    async def take_over(
        self, target: int, actions: Sequence[SealedAction], source: BusSource
    ) -> TakenIn:
        """Append in order to the action log of `target`, durably; return how many were new.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            BrokenPromise: messages before these were left out.
        """
        with self._interruptions.around("taken_over.take_over"):
            here = self._tables.partition(target)
            place = ("intake", ACTION, source.partition, target)
            stored = self._tables.bus_positions.get(
                place, BusPosition(source.incarnation, source.first)
            )
            _check(place, stored, source.incarnation)
            if stored.next >= source.next:
                return TakenIn(0, None)
            if stored.next < source.first and source.partition == target:
                raise BrokenPromise(f"messages from {stored.next} on were left out")
            numbered = zip(actions, source.offsets, strict=True)
            new = [action for action, offset in numbered if offset >= stored.next]
            check_actions(new)
            self._tables.bus_positions[place] = BusPosition(source.incarnation, source.next)
            first = here.actions.head
            put_actions(here, new, self._clock())
            are_together = len(new) == len(actions) > 0 and not any(each.due_at for each in new)
            return TakenIn(len(new), first if are_together else None)


class MemoryBus:
    """A bus outside of the world: implements `OutgoingEvents`, `IncomingActions`, `DeadLetters`.

    `sent` and `aside` are what it has confirmed, for each partition; `incoming` is what others have
    written to its action topic.
    """

    def __init__(self) -> None:
        """Begin empty, with the first incarnation of each topic."""
        self.sent: defaultdict[tuple[str, int], list[LoggedEvent]] = defaultdict(list)
        self.incoming: defaultdict[int, list[Incoming]] = defaultdict(list)
        self.aside: defaultdict[int, list[Incoming]] = defaultdict(list)
        self._incarnations: defaultdict[str, int] = defaultdict(lambda: 1)
        self._interruptions = Interruptions()

    def interrupt(self, call: Call, *, when: When, skip: int = 0, times: int = 1) -> None:
        """Let the next `times` calls of `call` raise BusUnavailable, after `skip` that work."""
        self._interruptions.plan(call, when, skip=skip, times=times)

    def make_again(self, topic: str) -> None:
        """Delete a topic and make it again."""
        self._incarnations[topic] += 1
        if topic == ACTION:
            self.incoming.clear()
        for place in [place for place in self.sent if RELAYED[place[0]] == topic]:
            del self.sent[place]

    async def incarnation(self, topic: str) -> str:
        """Return which incarnation of the topic is there now."""
        with self._interruptions.around("bus.incarnation"):
            return self._incarnation(RELAYED[topic])

    async def send(self, topic: str, partition: int, events: Sequence[LoggedEvent]) -> None:
        """Return when all of `events` are confirmed, in order, by the incarnation that is there."""
        with self._interruptions.around("bus.send"):
            self.sent[topic, partition] += events

    async def beginning(self, partition: int) -> tuple[str, int]:
        """Return the topic's incarnation, and the first offset that is still there."""
        with self._interruptions.around("bus.beginning"):
            first = min((each.offset for each in self.incoming[partition]), default=0)
            return self._incarnation(ACTION), first

    async def read(self, partition: int, position: int, limit: int) -> IncomingPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        Raises:
            MessagesLost: what stood at `position` is no longer there.
        """
        with self._interruptions.around("bus.read"):
            there = self.incoming[partition]
            if there and position < there[0].offset:
                raise MessagesLost(ACTION, partition, position, f"begins at {there[0].offset}")
            entries = [each for each in there if each.offset >= position][:limit]
            if not entries:
                await asyncio.sleep(READ_WAIT_S)
            following = entries[-1].offset + 1 if entries else position
            return IncomingPage(entries, following, self._incarnation(ACTION))

    def close(self, partition: int) -> None:
        """Read a partition no more."""

    async def put_aside(self, partition: int, messages: Sequence[Incoming]) -> None:
        """Return when the bus has confirmed `messages` on its dead-letter topic."""
        with self._interruptions.around("bus.put_aside"):
            self.aside[partition] += messages

    def _incarnation(self, topic: str) -> str:
        return f"memory/{self._incarnations[topic]}"


def _begin(tables: Tables, place: Consumer, incarnation: str, beginning: int) -> int:
    stored = tables.bus_positions.setdefault(place, BusPosition(incarnation, beginning))
    _check(place, stored, incarnation)
    return stored.next


def _check(place: Consumer, stored: BusPosition, incarnation: str) -> None:
    if stored.incarnation != incarnation:
        raise TopicReplaced(place[1], stored.incarnation, incarnation)
