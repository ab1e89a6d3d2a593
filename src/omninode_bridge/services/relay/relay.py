"""The loop: topic after topic a page, from memory where that joins, else from the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import (
    BrokenPromise,
    BusUnavailable,
    DatabaseUnavailable,
)
from omninode_bridge.core.observation import EventsRelayed, LoopStumbled, ignore
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.core.topics import RELAYED
from omninode_bridge.services.relay.handed_over import HandedOver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import LoggedEvent, OutgoingEvents, RelayedLog

    Logged = Callable[[Commit, Accepted], Mapping[str, Sequence[LoggedEvent] | None]]

PAGE_MAX: Final = 500
PAGE_FIRST: Final = 32
"""Nobody knows yet how large entries are: some have three megabytes."""

PAGE_BYTES: Final = 8 * 1_048_576
"""After a larger page from the log the next one has fewer entries; from memory none is larger."""

POLL_S: Final = 1.0
STORE_S: Final = 0.5


@dataclass(slots=True)
class _Relayed:
    """A topic of our log: what is sent next, and what is stored of that."""

    topic: str
    handed: HandedOver
    following: int
    stored: int
    limit: int = PAGE_FIRST


class Relay:
    """The relay of one partition. `run` it in a task, which may be cancelled at any point.

    `logged` says what a commit has written to each topic; None: only the log says where.
    """

    def __init__(
        self,
        partition: int,
        *,
        log: RelayedLog,
        logged: Logged,
        bus: OutgoingEvents,
        uniform: Uniform,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._log = log
        self._logged = logged
        self._bus = bus
        self._uniform = uniform
        self._observe = observe
        self._handed = {topic: HandedOver() for topic in RELAYED}
        self._topics: list[_Relayed] = []
        self._look_at = 0.0
        self._store_at = 0.0
        self._hint = asyncio.Event()
        self._stopping = False

    def on_committed(self, commit: Commit, accepted: Accepted) -> None:
        """Take the entries of a commit from memory, right after it is durable."""
        self._hint.set()
        if not self._handed["state-committed"].listens:  # we are behind: it would be for nothing
            for handed in self._handed.values():
                handed.miss()
            return
        for topic, events in self._logged(commit, accepted).items():
            if events is None:
                self._handed[topic].miss()
            else:
                self._handed[topic].add(events)

    def look(self) -> None:
        """Look at the log now rather than at the next poll: somebody else has committed."""
        self._look_at = 0.0
        self._hint.set()

    def stop(self) -> None:
        """End `run` once what is there has been sent; if nobody takes it, cancel the task."""
        self._stopping = True
        self._hint.set()

    async def run(self) -> None:
        """Relay until stopped.

        Raises:
            TopicReplaced: a topic of the bus is not the one that positions were stored for.
            BusRefused: an entry can never be sent.
        """
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = 0
        while True:
            stopping = self._stopping
            try:
                if not self._topics:
                    self._topics = [await self._begin(topic) for topic in RELAYED]
                self._hint.clear()
                look = stopping or self._look_is_due()
                busy = False
                for relayed in self._topics:
                    busy = await self._step(relayed, look=look) or busy
                await self._store_when_due(at_once=stopping and not busy)
                if busy:
                    attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
                    continue
                if stopping:
                    return
                await self._wait(min(POLL_S, self._unstored_s()))
            except (BusUnavailable, DatabaseUnavailable) as error:
                attempt += 1
                self._topics = []  # what was sent, and what was stored, is unknown
                self._observe(LoopStumbled("relay", self.partition, attempt, error))
                if self._stopping:
                    return
                await asyncio.sleep(next(waits_ms) / 1000)

    def _look_is_due(self) -> bool:
        """Return whether the log is to be looked at, whatever is in memory: now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return False
        self._look_at = now + POLL_S
        return True

    async def _begin(self, topic: str) -> _Relayed:
        incarnation = await self._bus.incarnation(topic)
        position = await self._log.position(topic, self.partition, incarnation)
        return _Relayed(topic, self._handed[topic], position, position)

    async def _step(self, relayed: _Relayed, *, look: bool) -> bool:
        """Send one page; return whether there was anything in it.

        Where memory knows of nothing more, the log is only read to `look`.
        """
        topic = relayed.topic
        page: Sequence[LoggedEvent] = relayed.handed.joining(
            relayed.following, PAGE_MAX, PAGE_BYTES
        )
        if not page:
            if relayed.handed.is_all_before(relayed.following) and not look:
                return False
            page = await self._read(relayed)
            if not page:
                return False
        await self._bus.send(topic, self.partition, page)
        relayed.following = page[-1].offset + 1
        self._observe(EventsRelayed(topic, self.partition, len(page), relayed.following))
        return True

    async def _read(self, relayed: _Relayed) -> Sequence[LoggedEvent]:
        """Return a page from the log."""
        topic, position, told = relayed.topic, relayed.following, relayed.handed.told
        page = await self._log.read(topic, self.partition, position, relayed.limit)
        if len(page) < relayed.limit:
            relayed.handed.listen()
        if not page:
            relayed.handed.ended_at(position, told)
            return ()
        if page[0].offset != position:
            raise BrokenPromise(
                f"{topic}/{self.partition} has no entry {position}, but {page[0].offset}: history"
                " is never cut off"
            )
        is_large = sum(len(event.body) for event in page) > PAGE_BYTES
        relayed.limit = max(1, relayed.limit // 4) if is_large else min(PAGE_MAX, relayed.limit * 2)
        return page

    async def _store_when_due(self, *, at_once: bool) -> None:
        unstored = [each for each in self._topics if each.stored < each.following]
        now = asyncio.get_running_loop().time()
        if not unstored:
            self._store_at = now + STORE_S
        elif at_once or now >= self._store_at:
            for each in unstored:
                await self._store(each)
            self._store_at = now + STORE_S

    async def _store(self, relayed: _Relayed) -> None:
        """Store how far the bus has a topic, if it is the one that the position is stored for."""
        topic, following = relayed.topic, relayed.following
        # Asked for after all before `following` was confirmed, and an incarnation never comes back:
        # if it is the stored one now, it has been that all the while (decision 87).
        incarnation = await self._bus.incarnation(topic)
        await self._log.advance(topic, self.partition, incarnation, following)
        relayed.stored = following

    def _unstored_s(self) -> float:
        """Return how long what is not stored may still wait, in seconds."""
        if all(each.stored == each.following for each in self._topics):
            return POLL_S
        return max(0.0, self._store_at - asyncio.get_running_loop().time())

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hint.wait()
