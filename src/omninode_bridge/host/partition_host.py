"""Runs the loops of the partitions this process owns, and finds a way in for those it does not.

Rule 1: one token for each time a partition is taken: what an earlier owner in this same process
        left under way is refused like anyone else's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from omninode_bridge.core.errors import (
    BridgeClosed,
    BrokenPromise,
    DatabaseUnavailable,
    OwnershipLost,
)
from omninode_bridge.core.message import FOLLOW_UPS
from omninode_bridge.core.observation import LoopStumbled, OwnershipChanged
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.core.slots import Slots
from omninode_bridge.host.answers import Answers
from omninode_bridge.host.log_door import LogDoor
from omninode_bridge.services.direct_path import DirectPath
from omninode_bridge.services.dispatcher import Dispatcher
from omninode_bridge.services.effect_runner import EffectRunner
from omninode_bridge.services.projection_materializer import ProjectionMaterializer
from omninode_bridge.services.reducer_service import ReducerService
from omninode_bridge.services.timer_loop import TimerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.host.world import World

    Worker = ReducerService | DirectPath

STOP_WAIT_S: Final = 10.0


class PartitionHost:
    """Owns what partitions it can get, runs their loops, and takes actions for all of them.

    Use as an async context manager. `failures` are loops that stopped for good: a broken promise.
    """

    def __init__(self, world: World) -> None:
        """Take the world; nothing happens before the context is entered."""
        self._world = world
        self._workers: dict[int, Worker] = {}
        self._dispatchers: dict[int, Dispatcher] = {}
        self._timer_loops: dict[int, TimerLoop] = {}
        self._effect_runners: dict[int, EffectRunner] = {}
        limits = {name: t.concurrency for name, t in world.effect_types.items()}
        self._slots = Slots(limits)
        self._answers = Answers()
        self._log_door = LogDoor(world, self._answers, self._log_grew)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        self.failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        """Begin to own partitions; returns when all that are free are served."""
        started = [asyncio.Event() for _ in range(self._world.partitions)]
        self._tasks = [
            asyncio.create_task(self._serve(n, event), name=f"partition {n}")
            for n, event in enumerate(started)
        ]
        self._tasks.append(asyncio.create_task(self._renew(), name="leases"))
        await asyncio.gather(*(event.wait() for event in started))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Answer what was taken, stop the loops, let the partitions go."""
        self._closing.set()
        for worker in self._workers.values():
            worker.stop()
        self._log_door.close()
        _ended, hanging = await asyncio.wait(self._tasks, timeout=STOP_WAIT_S)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Last: what the workers left behind goes through it.
        await self._log_door.ended(STOP_WAIT_S)

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
                self._require_open()  # or else it has just lost the partition
        self._require_open()
        return await self._log_door.submit(action)

    async def enqueue(self, action: SealedAction) -> None:
        """Return when the action is durable in its log; those that come together go together."""
        self._require_open()
        await self._log_door.enqueue(action)

    def _require_open(self) -> None:
        if self._closing.is_set():
            message = "the bridge is closing and takes no more actions"
            raise BridgeClosed(message)

    def settle(self) -> None:
        """Ask every loop to look now at what there is to do."""
        for dispatcher in self._dispatchers.values():
            dispatcher.settle()
        for worker in self._workers.values():
            worker.log_grew()
        for runner in self._effect_runners.values():
            runner.intents_grew()

    # -- owning ------------------------------------------------------------------------------------

    async def _serve(self, partition: int, started: asyncio.Event) -> None:
        """Own the partition as often and as long as we can get it, until we close."""
        world = self._world
        waits_ms = OUTAGE_BACKOFF.waits_ms(world.uniform)
        attempt = 0
        while not self._closing.is_set():
            token = world.new_id()
            try:
                taken = await world.leases.acquire(token, world.name, world.lease, [partition])
            except DatabaseUnavailable as error:
                attempt += 1
                world.observe(LoopStumbled("leases", partition, attempt, error))
                await self._pause(next(waits_ms) / 1000)
                continue
            if not taken:
                started.set()
                await self._pause(world.lease.total_seconds() / 4)
                continue
            world.observe(OwnershipChanged(partition, "taken"))
            try:
                await self._own(partition, token, started)
                attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(world.uniform)
            except Exception as error:  # noqa: BLE001 - one partition's trouble must not end others
                attempt += 1
                world.observe(LoopStumbled("reducer", partition, attempt, error))
                await self._pause(next(waits_ms) / 1000)
            with suppress(DatabaseUnavailable):  # it then runs out by itself
                await world.leases.release(token)
            world.observe(OwnershipChanged(partition, "released"))

    async def _own(self, partition: int, token: UUID, started: asyncio.Event) -> None:
        """Run the loops of one partition until its worker ends, then the others after it."""
        world = self._world
        materializer = ProjectionMaterializer(
            partition,
            log=world.projections,
            clock=world.clock,
            uniform=world.uniform,
            advanced=world.advanced,
            observe=world.observe,
        )
        dispatcher = Dispatcher(
            partition,
            partitions=world.partitions,
            intents=world.intents,
            actions=world.actions,
            codec=world.codec,
            uniform=world.uniform,
            appended=self._log_grew,
            observe=world.observe,
        )

        timer_loop = TimerLoop(
            partition,
            timers=world.timers,
            uniform=world.uniform,
            fired=self._fired,
            observe=world.observe,
        )

        runner = EffectRunner(
            partition,
            token,
            types=world.effect_types,
            slots=self._slots,
            log=world.effect_log,
            parked=world.parked_effects,
            ends=world.effect_ends,
            codec=world.codec,
            clock=world.clock,
            uniform=world.uniform,
            followed=dispatcher.intents_grew,
            observe=world.observe,
        )

        def committed(commit: Commit, accepted: Accepted) -> None:
            materializer.on_state_committed(commit, accepted)
            follow_ups = others = False
            for step in commit.steps:
                follow_ups = follow_ups or step.action.reply_to is not None
                if isinstance(step, Absorbed):
                    for intent in step.intents:
                        is_follow_up = intent.intent_type in FOLLOW_UPS
                        follow_ups, others = follow_ups or is_follow_up, others or not is_follow_up
            if follow_ups:
                dispatcher.intents_grew()
            if others:
                runner.intents_grew()

        # The direct path recalls each id under the lock: a hint would save it nothing.
        pure = partial(ReducerService, outcomes=world.outcomes, hints=world.hints)
        worker: Worker = (pure if world.pure_reducer else DirectPath)(
            partition,
            token,
            store=world.store,
            action_log=world.actions,
            key_types=world.key_types,
            codec=world.codec,
            clock=world.clock,
            new_id=world.new_id,
            uniform=world.uniform,
            committed=committed,
            answer=self._answers.answer,
            observe=world.observe,
        )
        others = [
            asyncio.create_task(self._keep("materializer", partition, materializer.run)),
            asyncio.create_task(self._keep("dispatcher", partition, dispatcher.run)),
            asyncio.create_task(self._keep("timers", partition, timer_loop.run)),
            asyncio.create_task(self._keep("effects", partition, runner.run)),
        ]
        self._workers[partition] = worker
        self._dispatchers[partition] = dispatcher
        self._timer_loops[partition] = timer_loop
        self._effect_runners[partition] = runner
        started.set()
        try:
            await worker.run()
        except OwnershipLost as error:
            world.observe(LoopStumbled("reducer", partition, 1, error))
        finally:
            # In one turn of the loop, the one in which the worker ended: nothing gets in between.
            del self._workers[partition], self._dispatchers[partition]
            del self._timer_loops[partition], self._effect_runners[partition]
            left = [(ask.action, ask.future) for ask in worker.leftovers() if ask.future]
            self._log_door.take_over(partition, left)
            materializer.stop()
            dispatcher.stop()
            timer_loop.stop()
            runner.stop()
            await asyncio.gather(*others)

    async def _keep(self, loop: str, partition: int, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop; start it again after an error, but not after a broken promise."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        attempt = 0
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                attempt += 1
                self._world.observe(LoopStumbled(loop, partition, attempt, error))
                if isinstance(error, BrokenPromise) or self._closing.is_set():
                    self.failures.append(error)
                    return
                await self._pause(next(waits_ms) / 1000)
            else:
                return

    async def _renew(self) -> None:
        """Lengthen the leases of idle partitions: commits do it for busy ones."""
        world = self._world
        attempt = 0
        while not self._closing.is_set():
            await self._pause(world.lease.total_seconds() / 3)
            for worker in list(self._workers.values()):
                try:
                    if worker.owner is not None:
                        await world.leases.renew(worker.owner, world.lease)
                    attempt = 0
                except DatabaseUnavailable as error:
                    attempt += 1
                    world.observe(LoopStumbled("leases", worker.partition, attempt, error))

    def _log_grew(self, partition: int) -> None:
        """What was appended is in the log now, or it is a timer."""
        self._fired(partition)
        timer_loop = self._timer_loops.get(partition)
        if timer_loop is not None:
            timer_loop.look()

    def _fired(self, partition: int) -> None:
        worker = self._workers.get(partition)
        if worker is not None:
            worker.log_grew()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
