"""The way through the action log, for partitions whose worker is not here.

Rule 1: an action that was handed over here goes through the log under its id; whoever owns the
        partition decides it, and its asker is answered by that id (R9).
Rule 2: order (R5). What comes this way for one partition is appended in the order in which it came,
        by one task. As long as any of it is undecided, nothing may go to the inbox of a worker that
        has come here meanwhile: it would take it before it has read the log. What a worker that
        lost the partition leaves behind is handed over in the same turn of the loop in which that
        worker is forgotten, so that nothing gets before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import (
    BridgeClosed,
    BridgeError,
    DatabaseUnavailable,
    OutcomeNotAwaited,
    OutcomeUnknown,
)
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.retry import OUTAGE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from omninode_bridge.core.commit import ActionName
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.host.answers import Answers
    from omninode_bridge.host.world import World

WATCH_S: Final = 0.1
BATCH_MAX: Final = 500
ENQUEUED_MAX: Final = 10_000


class LogDoor:
    """Appends what is handed over, and looks for what others decided.

    It ends with `close`, then `ended`.
    """

    def __init__(self, world: World, answers: Answers, grew: Callable[[int], None]) -> None:
        """`grew` is told each partition whose action log has grown."""
        self._world = world
        self._answers = answers
        self._grew = grew
        self._undecided: Counter[int] = Counter()
        self._unused: dict[int, asyncio.Event] = {}
        self._enqueue_room = asyncio.BoundedSemaphore(ENQUEUED_MAX)
        self._sending: dict[int, deque[tuple[SealedAction, asyncio.Future[Outcome]]]] = {}
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._enqueued: dict[int, list[tuple[SealedAction, asyncio.Future[None]]]] = {}
        self._enqueuers: dict[int, asyncio.Task[None]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._hinted: set[int] = set()
        self._hint = asyncio.Event()
        self._closing = asyncio.Event()

    def is_used(self, partition: int) -> bool:
        """Return whether something that came this way is undecided (Rule 2)."""
        return self._undecided.get(partition, 0) > 0

    async def unused(self, partition: int) -> None:
        """Wait until nothing that came this way is undecided."""
        if self.is_used(partition):
            await self._unused[partition].wait()

    async def submit(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Take an action and return the future of its outcome; waits while too many are waiting.

        It is appended soon, however long the database is away: only this process's end prevents it.
        """
        partition = partition_of(action.workflow_key, self._world.partitions)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        await self._answers.register(action, future)
        self._send(partition, action, future)
        return future

    async def submit_due(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Take an action that is not due yet; return the future of its outcome once it is durable.

        It promises no order with what is handed over meanwhile: nothing waits for it. While the
        database is away it is tried again, for as long as its asker waits.

        Raises:
            OutcomeUnknown: the database is away, and we close; it may be durable.
            OutcomeNotAwaited: it is durable, but too many wait for what is due later.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # Room to wait is no condition for becoming durable: nobody knows when there will be some.
        has_room = self._answers.register_due(action, future)
        try:
            await self._enqueue_patiently(action)
        except BaseException:
            future.cancel()
            raise
        if not has_room:
            raise OutcomeNotAwaited(action.workflow_key, action.action_id, self._answers.due_max)
        self._watch_answers()
        return future

    def take_over(
        self, partition: int, left: Iterable[tuple[SealedAction, asyncio.Future[Outcome]]]
    ) -> None:
        """Take what a worker has left behind, in its order, before anything else comes."""
        for action, future in left:
            self._answers.register_now(action, future)
            self._send(partition, action, future)

    async def enqueue(self, action: SealedAction) -> None:
        """Return when the action is durable in its log; those that come together go together.

        Waits while too many are on their way.
        """
        partition = partition_of(action.workflow_key, self._world.partitions)
        async with self._enqueue_room:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._enqueued.setdefault(partition, []).append((action, future))
            if partition not in self._enqueuers:
                task = asyncio.create_task(self._append_enqueued(partition), name="enqueue")
                self._enqueuers[partition] = task
            await future

    def look(self, partition: int) -> None:
        """Look now for outcomes of `partition` that are waited for: some were decided elsewhere."""
        self._hinted.add(partition)
        self._hint.set()

    async def _enqueue_patiently(self, action: SealedAction) -> None:
        # One whose reply was lost goes in again: its id is found in the commit (R3).
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        partition = partition_of(action.workflow_key, self._world.partitions)
        for attempt in count(1):
            try:
                await self.enqueue(action)
            except DatabaseUnavailable as error:
                self._world.observe(LoopStumbled("enqueue", partition, attempt, error))
                if self._closing.is_set():
                    raise OutcomeUnknown(action.workflow_key, action.action_id, 0) from error
            else:
                return
            await self._pause(next(waits_ms) / 1000)

    def close(self) -> None:
        """From now on, try only once more where the database is away."""
        self._closing.set()

    async def ended(self, wait_s: float) -> None:
        """Return when all that was taken is appended, or could not be; look for answers no more."""
        appending = [*self._senders.values(), *self._enqueuers.values()]
        hanging = set[asyncio.Task[None]]()
        if appending:
            _ended, hanging = await asyncio.wait(appending, timeout=wait_s)
        if self._watcher is not None:
            hanging.add(self._watcher)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        self._answers.give_up()

    def _send(self, partition: int, action: SealedAction, future: asyncio.Future[Outcome]) -> None:
        self._undecided[partition] += 1
        self._unused.setdefault(partition, asyncio.Event()).clear()
        future.add_done_callback(lambda _: self._decided(partition))
        self._sending.setdefault(partition, deque()).append((action, future))
        if partition not in self._senders:
            task = asyncio.create_task(self._append_sent(partition), name=f"to log {partition}")
            self._senders[partition] = task
        self._watch_answers()

    def _watch_answers(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="answers by id")

    def _decided(self, partition: int) -> None:
        self._undecided[partition] -= 1
        if not self._undecided[partition]:
            self._unused[partition].set()

    async def _append_sent(self, partition: int) -> None:
        """Append what was sent, batch after batch, until nothing is left."""
        waiting = self._sending[partition]
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        attempt, size = 0, BATCH_MAX
        try:
            while waiting:
                # Whoever gave up waiting in the meantime was told "unknown": it may still go in. A
                # batch whose reply was lost goes in again; its ids are found in the commit (R3).
                batch = list(islice(waiting, size))
                try:
                    await self._world.actions.append(partition, [action for action, _ in batch])
                except DatabaseUnavailable as error:
                    attempt += 1
                    self._world.observe(LoopStumbled("enqueue", partition, attempt, error))
                    if self._closing.is_set():
                        return
                    await self._pause(next(waits_ms) / 1000)
                except Exception as error:  # noqa: BLE001 - refused: for one of them
                    if len(batch) > 1:
                        size = 1
                        continue
                    _, future = waiting.popleft()
                    size = BATCH_MAX
                    if not future.done():
                        future.set_exception(error)
                else:
                    for _ in batch:
                        waiting.popleft()
                    self._grew(partition)
                    attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        finally:
            del self._senders[partition]

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _append_enqueued(self, partition: int) -> None:
        """Append what was enqueued, batch after batch, until nothing is left."""
        waiting = self._enqueued[partition]
        try:
            while waiting:
                batch = waiting[:BATCH_MAX]
                await self._append(partition, batch)
                del waiting[: len(batch)]
        finally:
            del self._enqueuers[partition]
            for _, future in waiting:  # none, unless we were cancelled: the host has closed
                if not future.done():
                    message = "the bridge has closed; what was enqueued may or may not be durable"
                    future.set_exception(BridgeClosed(message))

    async def _append(
        self, partition: int, batch: Sequence[tuple[SealedAction, asyncio.Future[None]]]
    ) -> None:
        """Append a batch; each asker hears what became of it: unknown, or refused."""
        try:
            await self._world.actions.append(partition, [action for action, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, each asker is told
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailable):
                for one in batch:  # one of them is refused: its neighbours are not
                    await self._append(partition, [one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._grew(partition)
        for _, future in batch:
            if not future.done():
                future.set_result(None)

    async def _watch(self) -> None:
        """Look for the outcomes that somebody waits for: another process may have decided them.

        What hints name is looked for at once, everything now and then.
        """
        loop = asyncio.get_running_loop()
        look_at = loop.time() + WATCH_S
        while not self._answers.is_empty:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at):
                    await self._hint.wait()
            self._hint.clear()
            hinted, self._hinted = self._hinted, set()
            if loop.time() < look_at:
                await self._look_for(hinted)
            else:
                await self._look_for(range(self._world.partitions))
                look_at = loop.time() + WATCH_S

    async def _look_for(self, partitions: Collection[int]) -> None:
        by_partition: dict[int, list[ActionName]] = {}
        for name in self._answers.decidable(self._world.clock()):
            partition = partition_of(name[0], self._world.partitions)
            if partition in partitions:
                by_partition.setdefault(partition, []).append(name)
        for partition, names in by_partition.items():
            with suppress(BridgeError):  # whatever it is, the next look may do better
                # Without the owner's lock: what is found is final, what is not is looked for again.
                # So many askers elsewhere cost the owner no waiting.
                known = await self._world.outcomes.recall(partition, names)
                # They are theirs who ask, as far as we know.
                self._answers.answer_known(
                    {
                        name: replace(
                            remembered, outcome=replace(remembered.outcome, duplicate=False)
                        )
                        for name, remembered in known.items()
                    }
                )
