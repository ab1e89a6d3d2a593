"""Runs the loops of the partitions this process owns, and finds a way in for those it does not.

Rule 1: one token for each time a partition is taken: what an earlier owner in this same process
        left under way is refused like anyone else's.
Rule 2: one loop decides what is to be taken and let go. What it believes of others may be late: the
        store decides who gets a partition, and a partition is let go by its worker only when that
        has answered what it had taken.
Rule 3: what is submitted while a worker lets go is held until it has ended, and goes through the
        log behind what the worker has left (R5).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, assert_never

from omninode_bridge.core.errors import (
    BridgeClosed,
    BridgeError,
    DatabaseUnavailable,
    PartitionsChanged,
)
from omninode_bridge.core.observation import AnotherAppServes, LoopStumbled, OwnershipChanged
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.core.sharing import Member, app_print, share_of
from omninode_bridge.core.slots import Slots
from omninode_bridge.host.answers import Answers
from omninode_bridge.host.apart import Apart
from omninode_bridge.host.keeping import Keeper
from omninode_bridge.host.log_door import LogDoor
from omninode_bridge.host.partition_loops import PartitionLoops
from omninode_bridge.host.waking import Waking

if TYPE_CHECKING:
    from uuid import UUID

    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.host.partition_loops import Worker
    from omninode_bridge.host.world import World
    from omninode_bridge.ports import Wake

STOP_WAIT_S: Final = 10.0
BEAT_S: Final = 0.25
"""How often a host looks who is there. With a proper stop, a takeover takes one beat."""
HELD_MAX: Final = 10_000
HELD_LOOK_S: Final = 0.01


class PartitionHost:
    """Owns what partitions it can get, runs their loops, and takes actions for all of them.

    Use as an async context manager. `failures` are loops that stopped for good: a promise was
    broken, or the number of partitions changed.
    """

    def __init__(self, world: World) -> None:
        """Take the world; nothing happens before the context is entered."""
        self._world = world
        self._workers: dict[int, Worker] = {}
        self._loops: dict[int, PartitionLoops] = {}
        limits = {name: t.concurrency for name, t in world.effect_types.items()}
        self._slots = Slots(limits)
        self._answers = Answers()
        self._log_door = LogDoor(world, self._answers, self._log_grew)
        self._waking = Waking(world, self._heard)
        self._listener: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._letting_go: set[int] = set()
        self._held: dict[int, list[tuple[SealedAction, asyncio.Future[Outcome]]]] = {}
        self._stumbles: Counter[int] = Counter()
        versions = {name: key_type.version for name, key_type in world.key_types.items()}
        app = app_print(versions, world.effect_types)
        over_bus = world.committing is not None and "reducer" in world.roles
        self._member = Member(world.new_id(), world.name, app, world.duties, over_bus)
        self._beat_s = min(BEAT_S, world.lease.total_seconds() / 4)
        self._closing = asyncio.Event()
        self.failures: list[Exception] = []
        self._keeper = Keeper(world, self._pause, self.failures.append)
        self._apart = Apart(
            world,
            self._member.member,
            slots=self._slots,
            appended=self._log_grew,
            intents_grew=self._waking.committed,
            keeper=self._keeper,
        )

    async def __aenter__(self) -> Self:
        """Begin to own partitions; returns when our share of those that are free is served.

        Where another app is served, it waits until that has ended.

        Raises:
            PartitionsChanged: there is another number of partitions now than `world` says.
        """
        started = asyncio.Event()
        self._listener = asyncio.create_task(self._waking.run(), name="wakes heard")
        self._tasks = [
            asyncio.create_task(self._share(started), name="sharing"),
        ]
        try:
            await started.wait()
            self._require_current()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Answer what was taken, stop the loops, let the partitions go."""
        self._closing.set()
        for worker in self._workers.values():
            worker.stop()
        self._log_door.close()
        # The sharing loop first: it may be taking one more partition.
        for tasks in (self._tasks, self._serving.values()):
            await _end(list(tasks), STOP_WAIT_S)
        # Last: what the workers left behind goes through it.
        await self._log_door.ended(STOP_WAIT_S)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    # -- ways in -----------------------------------------------------------------------------------

    def submit_now(self, action: SealedAction) -> asyncio.Future[Outcome] | None:
        """Hand an action to a worker here that has room for it; None: `submit` knows another way.

        It costs an asker a tenth of what waiting does, and nearly always there is room.
        """
        partition = partition_of(action.workflow_key, self._world.partitions)
        worker = self._workers.get(partition)
        if worker is None or self._log_door.is_used(partition) or action.due_at is not None:
            return None
        try:
            return worker.submit_now(action)
        except BridgeClosed:
            return None

    async def submit(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Hand an action to the worker of its partition, or, if it is not here, to the log.

        One with a `due_at` always goes there: the log keeps it until then.

        Raises:
            BridgeClosed: this host is closing.
        """
        if action.due_at is not None:
            self._require_open()
            return await self._log_door.submit_due(action)
        partition = partition_of(action.workflow_key, self._world.partitions)
        while (worker := self._workers.get(partition)) is not None:
            # What went through the log meanwhile comes first; it is on its way to this worker.
            await self._log_door.unused(partition)
            if self._workers.get(partition) is not worker or self._log_door.is_used(partition):
                continue
            try:
                return await worker.submit(action)
            except BridgeClosed:
                self._require_open()  # or else it loses the partition, or lets it go
                if self._workers.get(partition) is worker:
                    held = self._held.setdefault(partition, [])
                    if len(held) < HELD_MAX:
                        future = asyncio.get_running_loop().create_future()
                        held.append((action, future))
                        return future
                    await asyncio.sleep(HELD_LOOK_S)  # R13: it has not much longer to go
        self._require_open()
        return await self._log_door.submit(action)

    async def enqueue(self, action: SealedAction) -> None:
        """Return when the action is durable in its log; those that come together go together."""
        self._require_open()
        await self._log_door.enqueue(action)

    def _require_current(self) -> None:
        past = [each for each in self.failures if isinstance(each, PartitionsChanged)]
        if past:
            raise past[0]

    def _require_open(self) -> None:
        if self._closing.is_set():
            message = "the bridge is closing and takes no more actions"
            raise BridgeClosed(message)

    def settle(self) -> None:
        """Ask every loop to look now at what there is to do."""
        for loops in self._loops.values():
            loops.settle()
        self._apart.settle()

    # -- owning ------------------------------------------------------------------------------------

    async def _share(self, started: asyncio.Event) -> None:
        """Do our part among those who are there, until we close or can do none any more."""
        try:
            await self._keep_share(started)
        except PartitionsChanged as error:  # whatever we know of partitions and offsets is past
            self._world.observe(LoopStumbled("leases", None, 1, error))
            self.failures.append(error)
            started.set()
            # What they have taken on goes to the log's door, which says the same to all who asked.
            for worker in self._workers.values():
                worker.stop()
        await self._go()

    async def _go(self) -> None:
        """Do nothing new, end what is under way, and be seen until then.

        Others do what we do no more, from the next beat on; but as long as we are seen, nobody
        takes effects from handlers that still run. Store effects go last: our own workers may be
        waiting for them.
        """
        seen = asyncio.create_task(self._be_seen(), name="going")
        try:
            await asyncio.gather(self._apart.end(but_commits=True), self._all_let_go())
            await self._apart.end()
        finally:
            seen.cancel()
            await asyncio.gather(seen, return_exceptions=True)
        with suppress(DatabaseUnavailable):  # we are then not seen any more before long
            await self._world.members.leave(self._member.member)

    async def _all_let_go(self) -> None:
        """Return when no partition is ours any more, or those that are hang."""
        if self._serving:
            await asyncio.wait(list(self._serving.values()), timeout=STOP_WAIT_S)

    async def _be_seen(self) -> None:
        """Say beat after beat that we are there, and do nothing of what is to be done."""
        world, member = self._world, replace(self._member, roles=frozenset())
        while True:
            try:
                await world.members.beat(member, world.lease)
            except BridgeError as error:
                world.observe(LoopStumbled("leases", None, 1, error))
            await asyncio.sleep(self._beat_s)

    async def _keep_share(self, started: asyncio.Event) -> None:
        """Take and let go until our share is ours, beat after beat, until we close.

        Every step may fail, come late or be the last: who died is not seen any more when its time
        is over, its leases run out, and the next beat of the others begins anew.
        """
        world = self._world
        waits_ms = OUTAGE_BACKOFF.waits_ms(world.uniform)
        attempt, waits_for = 0, None
        while not self._closing.is_set():
            try:
                members = await world.members.beat(self._member, world.lease)
                self._waking.see(members)
                await self._apart.see(members)
                share = share_of(self._member.member, members, world.partitions)
                if share.waits_for != waits_for:
                    waits_for = share.waits_for
                    if waits_for is not None:
                        world.observe(AnotherAppServes(waits_for))
                have = len(self._serving) - len(self._letting_go)
                if have < share.partitions:
                    await self._take(share.partitions - have, share.rank, started)
                for partition in self._surplus(have - share.partitions):
                    self._letting_go.add(partition)
                    self._workers[partition].stop()
            except PartitionsChanged:
                raise
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                attempt += 1
                world.observe(LoopStumbled("leases", None, attempt, error))
                await self._pause(next(waits_ms) / 1000)
                continue
            attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(world.uniform)
            if waits_for is None:
                started.set()
            await self._pause(self._beat_s)

    async def _take(self, wanted: int, rank: int, started: asyncio.Event) -> None:
        """Take up to `wanted` of the free partitions; at the start, wait until they are served."""
        world = self._world
        free = [n for n in await world.members.free() if n not in self._serving]
        begun: list[asyncio.Event] = []
        turn = rank % len(free) if free else 0  # so that not all try for the same one first
        for partition in free[turn:] + free[:turn]:
            if len(begun) == wanted or self._closing.is_set():
                break
            token = world.new_id()
            member = self._member.member
            if not await world.leases.acquire(token, world.name, world.lease, [partition], member):
                continue
            serves = asyncio.Event()
            begun.append(serves)
            task = asyncio.create_task(
                self._serve(partition, token, serves), name=f"partition {partition}"
            )
            self._serving[partition] = task
        if not started.is_set():
            for serves in begun:
                await serves.wait()

    def _surplus(self, count: int) -> list[int]:
        """Return `count` partitions to be let go, of those whose worker runs; the highest first."""
        candidates = sorted(self._workers.keys() - self._letting_go, reverse=True)
        return candidates[: max(count, 0)]

    async def _serve(self, partition: int, token: UUID, serves: asyncio.Event) -> None:
        """Own a partition that we have taken until it is lost, let go, or we close."""
        world = self._world
        world.observe(OwnershipChanged(partition, "taken"))
        try:
            await self._own(partition, token, serves)
            del self._stumbles[partition]
        except Exception as error:  # noqa: BLE001 - one partition's trouble must not end others
            self._stumbles[partition] += 1
            attempt = self._stumbles[partition]
            world.observe(LoopStumbled("reducer", partition, attempt, error))
            waits_ms = list(islice(OUTAGE_BACKOFF.waits_ms(world.uniform), min(attempt, 20)))
            serves.set()
            await self._pause(waits_ms[-1] / 1000)
        try:
            with suppress(DatabaseUnavailable):  # it then runs out by itself
                await world.leases.release(token)
        finally:
            serves.set()
            self._letting_go.discard(partition)
            del self._serving[partition]
            world.observe(OwnershipChanged(partition, "released"))

    async def _own(self, partition: int, token: UUID, started: asyncio.Event) -> None:
        """Run the loops of one partition until its worker ends, then the others after it."""
        loops = PartitionLoops(
            self._world,
            partition,
            token,
            self._member.member,
            slots=self._slots,
            answer=partial(self._answer, partition),
            appended=self._log_grew,
            committed=self._waking.committed,
            keeper=self._keeper,
        )
        worker = loops.worker
        self._loops[partition] = loops
        self._workers[partition] = worker
        if self._closing.is_set():  # while we took it
            worker.stop()
        started.set()
        try:
            await loops.work()
        finally:
            # In one turn of the loop, the one in which the worker ended: nothing gets in between.
            del self._workers[partition], self._loops[partition]
            left = [(ask.action, ask.future) for ask in worker.leftovers() if ask.future]
            left += self._held.pop(partition, [])
            self._log_door.take_over(partition, left)
            await loops.end()

    def _answer(self, partition: int, action: SealedAction, outcome: Outcome) -> None:
        """Tell an outcome of what came by the log.

        Whom nobody here waits for, somebody elsewhere may; follow-up actions have no asker.
        """
        if not self._answers.answer(action, outcome) and not action.depth:
            self._waking.decided(partition)

    def _log_grew(self, partition: int) -> None:
        """What was appended is in the log now, or it is a timer."""
        if partition not in self._workers or "orchestrator" not in self._world.duties:
            self._waking.log_grew(partition)
        self._look(partition)

    def _heard(self, wake: Wake) -> None:
        match wake.of:
            case "action":
                self._look(wake.partition)
            case "outcome":
                self._log_door.look(wake.partition)
            case "commit":
                self._apart.look(wake.partition)
            case _:
                assert_never(wake.of)

    def _look(self, partition: int) -> None:
        loops = self._loops.get(partition)
        if loops is not None:
            loops.log_grew()
        self._apart.timers_grew(partition)

    async def _pause(self, seconds: float) -> bool:
        """Wait, but not beyond our closing; return whether that has come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return self._closing.is_set()


async def _end(tasks: list[asyncio.Task[None]], wait_s: float) -> None:
    """Return when `tasks` have ended; those that hang for `wait_s` are cancelled."""
    if tasks:
        _ended, hanging = await asyncio.wait(tasks, timeout=wait_s)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
