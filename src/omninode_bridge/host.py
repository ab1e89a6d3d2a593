"""Runs the loops of the partitions this process owns, and finds a way in for those it does not.

Rule 1: one token for each time a partition is taken: what an earlier owner in this same process
        left under way is refused like anyone else's.
Rule 2: an action that was handed over here, and can no longer be decided here, goes through the log
        under its id; its asker is answered by that id (R9).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from omninode_bridge.core.commit import id_reused
from omninode_bridge.core.errors import BridgeClosed, BrokenPromise, DatabaseUnavailable
from omninode_bridge.core.message import content_hash
from omninode_bridge.core.observation import LoopStumbled, OwnershipChanged
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.services.dispatcher import Dispatcher
from omninode_bridge.services.projection_materializer import ProjectionMaterializer
from omninode_bridge.services.reducer_service import OwnershipLost, ReducerService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Remembered
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec, KeyType
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import (
        ActionLog,
        CanonicalStore,
        Clock,
        IntentLog,
        Leases,
        ProjectionLog,
    )

WAITING_MAX: Final = 10_000
WATCH_S: Final = 0.1
STOP_WAIT_S: Final = 10.0
ENQUEUE_BATCH_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class World:
    """What the loops of all partitions share: the ports, and the process's dice, clock and ids."""

    partitions: int
    name: str
    lease: timedelta
    key_types: Mapping[str, KeyType]
    codec: Codec
    store: CanonicalStore
    actions: ActionLog
    intents: IntentLog
    projections: ProjectionLog
    leases: Leases
    clock: Clock
    new_id: Callable[[], UUID]
    uniform: Uniform
    observe: Observe
    advanced: Callable[[Iterable[tuple[str, int]]], None]


class Answers:
    """Askers who wait for an outcome by its id, registered before their action is sent (R9)."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: dict[ActionName, list[tuple[SealedAction, asyncio.Future[Outcome]]]] = {}
        self._room = asyncio.BoundedSemaphore(WAITING_MAX)

    async def register(self, action: SealedAction, future: asyncio.Future[Outcome]) -> None:
        """Wait for room, then let `future` be answered with the outcome of `action`."""
        await self._room.acquire()
        name = (action.workflow_key, action.action_id)
        entry = (action, future)
        self._waiting.setdefault(name, []).append(entry)
        future.add_done_callback(lambda _: self._forget(name, entry))

    def names(self) -> list[ActionName]:
        """Return what is waited for."""
        return list(self._waiting)

    def answer(self, name: ActionName, outcome: Outcome) -> None:
        """Tell everyone who waits for `name`."""
        for _, future in list(self._waiting.get(name, ())):
            if not future.done():
                future.set_result(outcome)

    def answer_known(self, known: Mapping[ActionName, Remembered]) -> None:
        """Tell remembered outcomes; who asked for another content is told `id_reused`."""
        for name, remembered in known.items():
            for action, future in list(self._waiting.get(name, ())):
                same = content_hash(action.type, action.payload) == remembered.request_hash
                outcome = remembered.outcome if same else id_reused(action, remembered.outcome)
                if not future.done():
                    future.set_result(outcome)

    def _forget(
        self, name: ActionName, entry: tuple[SealedAction, asyncio.Future[Outcome]]
    ) -> None:
        entries = self._waiting[name]
        entries.remove(entry)
        if not entries:
            del self._waiting[name]
        self._room.release()


class PartitionHost:
    """Owns what partitions it can get, runs their loops, and takes actions for all of them.

    Use as an async context manager. `failures` are loops that stopped for good: a broken promise.
    """

    def __init__(self, world: World) -> None:
        """Take the world; nothing happens before the context is entered."""
        self._world = world
        self._workers: dict[int, ReducerService] = {}
        self._dispatchers: dict[int, Dispatcher] = {}
        self._answers = Answers()
        self._enqueued: dict[int, list[tuple[SealedAction, asyncio.Future[None]]]] = {}
        self._enqueuers: dict[int, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
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
        enqueuers = list(self._enqueuers.values())
        _ended, hanging = await asyncio.wait([*self._tasks, *enqueuers], timeout=STOP_WAIT_S)
        if self._watcher is not None:
            hanging.add(self._watcher)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*self._tasks, *hanging, return_exceptions=True)

    # -- ways in -----------------------------------------------------------------------------------

    def submit_now(self, action: SealedAction) -> asyncio.Future[Outcome] | None:
        """Hand an action to a worker here that has room for it; None: `submit` knows another way.

        It costs an asker a tenth of what waiting does, and nearly always there is room.
        """
        worker = self._workers.get(partition_of(action.workflow_key, self._world.partitions))
        try:
            return None if worker is None else worker.submit_now(action)
        except BridgeClosed:
            return None

    async def submit(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Hand an action to the worker of its partition, or, if it is not here, to the log.

        Raises:
            BridgeClosed: this host is closing.
        """
        partition = partition_of(action.workflow_key, self._world.partitions)
        worker = self._workers.get(partition)
        if worker is not None:
            try:
                return await worker.submit(action)
            except BridgeClosed:
                pass  # it has just lost the partition, or we close
        if self._closing.is_set():
            message = "the bridge is closing and takes no more actions"
            raise BridgeClosed(message)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        await self._through_the_log(partition, [(action, future)])
        return future

    async def enqueue(self, action: SealedAction) -> None:
        """Return when the action is durable in its log; those that come together go together."""
        if self._closing.is_set():
            message = "the bridge is closing and takes no more actions"
            raise BridgeClosed(message)
        partition = partition_of(action.workflow_key, self._world.partitions)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueued.setdefault(partition, []).append((action, future))
        if partition not in self._enqueuers:
            task = asyncio.create_task(self._flush(partition), name=f"enqueue {partition}")
            self._enqueuers[partition] = task
        await future

    def settle(self) -> None:
        """Ask every loop to look now at what there is to do."""
        for dispatcher in self._dispatchers.values():
            dispatcher.settle()
        for worker in self._workers.values():
            worker.log_grew()

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

        def committed(commit: Commit, accepted: Accepted) -> None:
            materializer.on_state_committed(commit, accepted)
            if any(isinstance(step, Absorbed) and step.intents for step in commit.steps):
                dispatcher.intents_grew()

        worker = ReducerService(
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
        ]
        self._workers[partition] = worker
        self._dispatchers[partition] = dispatcher
        started.set()
        try:
            await worker.run()
        except OwnershipLost as error:
            world.observe(LoopStumbled("reducer", partition, 1, error))
        finally:
            del self._workers[partition], self._dispatchers[partition]
            materializer.stop()
            dispatcher.stop()
            leftovers = [(ask.action, ask.future) for ask in worker.leftovers() if ask.future]
            if leftovers:
                await self._through_the_log(partition, leftovers)
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
        worker = self._workers.get(partition)
        if worker is not None:
            worker.log_grew()

    # -- through the log ---------------------------------------------------------------------------

    async def _through_the_log(
        self, partition: int, asked: Sequence[tuple[SealedAction, asyncio.Future[Outcome]]]
    ) -> None:
        """Register who waits, then append, in order; whoever owns the partition decides."""
        for action, future in asked:
            await self._answers.register(action, future)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="answers by id")
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        while True:
            # Whoever gave up waiting in the meantime was told "unknown": it may still go in.
            try:
                await self._world.actions.append(partition, [action for action, _ in asked])
            except DatabaseUnavailable as error:
                self._world.observe(LoopStumbled("enqueue", partition, 1, error))
                if self._closing.is_set():
                    return
                await self._pause(next(waits_ms) / 1000)
            else:
                break
        self._log_grew(partition)

    async def _watch(self) -> None:
        """Look for the outcomes that somebody waits for: another process may have decided them."""
        while names := self._answers.names():
            by_partition: dict[int, list[ActionName]] = {}
            for name in names:
                partition = partition_of(name[0], self._world.partitions)
                by_partition.setdefault(partition, []).append(name)
            for partition, theirs in by_partition.items():
                with suppress(DatabaseUnavailable):
                    async with self._world.store.locked(partition) as locked:
                        known = await locked.recall(theirs)
                    self._answers.answer_known(
                        {
                            name: replace(
                                remembered, outcome=replace(remembered.outcome, duplicate=False)
                            )
                            for name, remembered in known.items()
                        }
                    )
            await asyncio.sleep(WATCH_S)

    async def _flush(self, partition: int) -> None:
        """Append what was enqueued, batch after batch, until nothing is left."""
        waiting = self._enqueued[partition]
        try:
            while waiting:
                batch = waiting[:ENQUEUE_BATCH_MAX]
                del waiting[:ENQUEUE_BATCH_MAX]
                await self._append(partition, batch)
        finally:
            del self._enqueuers[partition]

    async def _append(
        self, partition: int, batch: Sequence[tuple[SealedAction, asyncio.Future[None]]]
    ) -> None:
        append = partial(self._world.actions.append, partition, [action for action, _ in batch])
        try:
            await append()
        except Exception as error:  # noqa: BLE001 - each asker gets it: unknown, or refused
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._log_grew(partition)
        for _, future in batch:
            if not future.done():
                future.set_result(None)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
