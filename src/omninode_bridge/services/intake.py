"""Takes over what others have written to one partition of a bus's action topic, exactly once.

Rule 1: nothing is thrown away. What is no action goes to the dead-letter topic, confirmed, before
        the position moves past it; the partition goes on.
Rule 2: an action in the wrong partition for its key goes to the right one under its id. Each target
        keeps a position of its own for this source, in the transaction that appends (R11).

Exactly once, as with the dispatcher: each target partition stores how far it has taken over in the
transaction that appends, and skips what lies below. Ours is stored last, so whoever comes after a
crash reads again what some target lacks. A message is put aside at least once: its repeats say the
same offset.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import (
    BusUnavailable,
    DatabaseUnavailable,
    MessagesLost,
    TopicReplaced,
    ValueRefused,
)
from omninode_bridge.core.observation import ActionsTakenOver, LoopStumbled, ignore
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.core.topics import ACTION
from omninode_bridge.ports import BusSource, Incoming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import DeadLetters, IncomingActions, IncomingPage, TakenOver

    Handed = Callable[[int, Sequence[SealedAction]], None]
    Numbered = tuple[Incoming, SealedAction]

PAGE_MAX: Final = 500


class Intake:
    """The intake of one partition. `run` it in a task, which may be cancelled at any point.

    `appended` is told each partition whose action log has grown; but `handed`, if it is given, what
    was appended to our own where that stands there one behind the other, and from which offset on.
    """

    def __init__(
        self,
        partition: int,
        *,
        partitions: int,
        bus: IncomingActions,
        dead_letters: DeadLetters,
        taken_over: TakenOver,
        uniform: Uniform,
        appended: Callable[[int], None] = lambda _: None,
        handed: Handed | None = None,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._partitions = partitions
        self._bus = bus
        self._dead_letters = dead_letters
        self._taken_over = taken_over
        self._uniform = uniform
        self._appended = appended
        self._handed = handed
        self._observe = observe
        self._incarnation: str | None = None
        self._position = 0
        self._limit = PAGE_MAX
        self._stopping = False

    def stop(self) -> None:
        """End `run` after the page under way; what is not taken over stays on the bus."""
        self._stopping = True

    async def run(self) -> None:
        """Take over until stopped.

        Raises:
            TopicReplaced: the topic is not the one that the position was stored for.
            MessagesLost: messages were deleted before they were taken over.
            BusRefused: a message can never be put aside.
        """
        try:
            await self._run()
        finally:
            self._bus.close(self.partition)

    async def _run(self) -> None:
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = 0
        while not self._stopping:
            try:
                incarnation = self._incarnation or await self._begin()
                page = await self._bus.read(self.partition, self._position, self._limit)
                if page.entries and page.incarnation != incarnation:
                    raise TopicReplaced(ACTION, incarnation, page.incarnation)
                if page.entries:
                    await self._take(page)
                    self._limit = min(PAGE_MAX, self._limit * 2)
                self._position = page.following
                attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
            except (BusUnavailable, DatabaseUnavailable) as error:
                attempt += 1
                self._incarnation = None  # the position may have moved: unknown
                self._limit = max(1, self._limit // 2)  # perhaps it was too much at once
                self._observe(LoopStumbled("intake", self.partition, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)

    async def _begin(self) -> str:
        """Find the stored position; return the incarnation that it holds for."""
        incarnation, beginning = await self._bus.beginning(self.partition)
        self._position = await self._taken_over.position(self.partition, incarnation, beginning)
        if self._position < beginning:
            raise MessagesLost(
                ACTION, self.partition, self._position, f"it begins at {beginning} now"
            )
        self._incarnation = incarnation
        return incarnation

    async def _take(self, page: IncomingPage) -> None:
        aside = [each for each in page.entries if each.action is None]
        if aside:
            await self._dead_letters.put_aside(self.partition, aside)
        by_target: dict[int, list[Numbered]] = {}
        for each in page.entries:
            if each.action is not None:
                target = partition_of(each.action.workflow_key, self._partitions)
                by_target.setdefault(target, []).append((each, each.action))
        ours = by_target.pop(self.partition, [])
        actions = strays = 0
        for target, theirs in by_target.items():
            strays += await self._append(target, theirs, page, page.following)
        actions += await self._append(self.partition, ours, page, page.following)
        self._observe(
            ActionsTakenOver(
                self.partition,
                len(page.entries),
                actions + strays,
                strays,
                len(aside),
                page.following,
            )
        )

    async def _append(
        self, target: int, numbered: Sequence[Numbered], page: IncomingPage, following: int
    ) -> int:
        """Append all that can be stored, and put the rest aside; return how many were new.

        What is refused for a value in it stops nobody: the page is halved until it is alone.
        """
        source = BusSource(
            self.partition,
            page.incarnation,
            self._position,
            following,
            [each.offset for each, _ in numbered],
        )
        actions = [action for _, action in numbered]
        try:
            taken = await self._taken_over.take_over(target, actions, source)
        except ValueRefused as error:
            if len(numbered) > 1:
                middle = len(numbered) // 2
                first, second = numbered[:middle], numbered[middle:]
                added = await self._append(target, first, page, second[0][0].offset)
                return added + await self._append(target, second, page, following)
            self._observe(LoopStumbled("intake", self.partition, 1, error))
            refused, _ = numbered[0]
            why = f"it could not be stored: {error}"
            await self._dead_letters.put_aside(
                self.partition, [Incoming(refused.offset, refused.message, None, why)]
            )
            return await self._append(target, [], page, following)
        if self._handed is not None and target == self.partition and taken.first is not None:
            self._handed(taken.first, actions)
        else:
            self._appended(target)
        return taken.added
