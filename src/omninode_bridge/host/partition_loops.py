"""The loops of one partition for as long as a process owns it: the worker, and those that follow.

Rule 1: the others end after the worker: what it committed last is projected and dispatched by them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from omninode_bridge.core.errors import BrokenPromise, OwnershipLost
from omninode_bridge.core.message import FOLLOW_UPS
from omninode_bridge.core.observation import LoopStumbled, OwnershipChanged
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.host.bus_loops import BusLoops
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
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.host.world import World

    Worker = ReducerService | DirectPath


class PartitionLoops:
    """`work`, then `end`. Made in the turn of the loop in which it begins to be known."""

    def __init__(
        self,
        world: World,
        partition: int,
        token: UUID,
        *,
        slots: Slots,
        answer: Callable[[SealedAction, Outcome], None],
        appended: Callable[[int], None],
        pause: Callable[[float], Awaitable[bool]],
        failed: Callable[[Exception], None],
    ) -> None:
        """Make the loops of `partition`, which is owned with `token`.

        `answer` is told outcomes of what came by the log, `appended` each partition whose action
        log has grown by our doing. `pause` waits so many seconds, but not beyond our closing, and
        returns whether that has come. `failed` is told what stops a loop for good.
        """
        self._world = world
        self._partition = partition
        self._token = token
        self._pause = pause
        self._failed = failed
        self._renewal: asyncio.Task[None] | None = None
        self._materializer = ProjectionMaterializer(
            partition,
            log=world.projections,
            clock=world.clock,
            uniform=world.uniform,
            advanced=world.advanced,
            observe=world.observe,
        )
        self._dispatcher = Dispatcher(
            partition,
            partitions=world.partitions,
            intents=world.intents,
            actions=world.actions,
            codec=world.codec,
            uniform=world.uniform,
            appended=appended,
            observe=world.observe,
        )
        self._timer_loop = TimerLoop(
            partition,
            timers=world.timers,
            uniform=world.uniform,
            fired=lambda _partition: self.worker.log_grew(),
            observe=world.observe,
        )
        self._runner = EffectRunner(
            partition,
            token,
            types=world.effect_types,
            slots=slots,
            log=world.effect_log,
            parked=world.parked_effects,
            ends=world.effect_ends,
            codec=world.codec,
            clock=world.clock,
            uniform=world.uniform,
            followed=self._dispatcher.intents_grew,
            observe=world.observe,
        )
        # The direct path recalls each id under the lock: a hint would save it nothing.
        pure = partial(ReducerService, outcomes=world.outcomes, hints=world.hints)
        self.worker: Worker = (pure if world.pure_reducer else DirectPath)(
            partition,
            token,
            store=world.store,
            action_log=world.actions,
            key_types=world.key_types,
            codec=world.codec,
            clock=world.clock,
            new_id=world.new_id,
            uniform=world.uniform,
            committed=self._committed,
            answer=answer,
            observe=world.observe,
        )
        self._others = [
            asyncio.create_task(self._keep("materializer", self._materializer.run)),
            asyncio.create_task(self._keep("dispatcher", self._dispatcher.run)),
            asyncio.create_task(self._keep("timers", self._timer_loop.run)),
            asyncio.create_task(self._keep("effects", self._runner.run)),
        ]
        self._bus_loops = BusLoops(world, partition, appended, self._keep)

    async def work(self) -> None:
        """Return when the worker has ended: it was stopped, or the partition is lost."""
        observe = self._world.observe
        self._renewal = asyncio.create_task(self._renew(), name=f"lease {self._partition}")
        try:
            await self.worker.run()
        except OwnershipLost as error:
            observe(LoopStumbled("reducer", self._partition, 1, error))
        else:
            if self._renewal.done():
                observe(OwnershipChanged(self._partition, "lost"))
        finally:
            self._renewal.cancel()

    async def end(self) -> None:
        """Let the others end."""
        self._materializer.stop()
        self._dispatcher.stop()
        self._timer_loop.stop()
        self._runner.stop()
        await asyncio.gather(*self._others)
        await self._bus_loops.end()
        if self._renewal is not None:
            await asyncio.gather(self._renewal, return_exceptions=True)

    def log_grew(self) -> None:
        """Look at the action log and at the timers: something was appended to one of them."""
        self.worker.log_grew()
        self._timer_loop.look()

    def settle(self) -> None:
        """Look everywhere, now."""
        self._dispatcher.settle()
        self.worker.log_grew()
        self._runner.intents_grew()

    def _committed(self, commit: Commit, accepted: Accepted) -> None:
        self._materializer.on_state_committed(commit, accepted)
        self._bus_loops.history_grew()
        follow_ups = others = False
        for step in commit.steps:
            follow_ups = follow_ups or step.action.reply_to is not None
            if isinstance(step, Absorbed):
                for intent in step.intents:
                    is_follow_up = intent.intent_type in FOLLOW_UPS
                    follow_ups, others = follow_ups or is_follow_up, others or not is_follow_up
        if follow_ups:
            self._dispatcher.intents_grew()
        if others:
            self._runner.intents_grew()

    async def _keep(self, loop: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop; start it again after an error, but not after a broken promise."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        attempt = 0
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                attempt += 1
                self._world.observe(LoopStumbled(loop, self._partition, attempt, error))
                if isinstance(error, BrokenPromise) or await self._pause(next(waits_ms) / 1000):
                    self._failed(error)
                    return
            else:
                return

    async def _renew(self) -> None:
        """Lengthen the lease of an idle partition (commits do it for busy ones) until it is lost.

        Each partition has a task of its own: one that waits for a long commit holds up no other.
        Returns when another process has taken the partition: an idle worker would not find out.
        """
        world, attempt = self._world, 0
        while True:
            await asyncio.sleep(world.lease.total_seconds() / 3)
            try:
                if not await world.leases.renew(self._token, world.lease):
                    self.worker.stop()
                    return
                attempt = 0
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                attempt += 1
                world.observe(LoopStumbled("leases", self._partition, attempt, error))
