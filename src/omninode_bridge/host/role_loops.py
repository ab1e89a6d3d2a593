"""The loops of one partition that follow its commits, for some of the roles, or for all of them.

They run with the worker where the owner has their roles, and are then told each commit from memory;
or apart from it, in a process that need not know how to fold: what they do is found in the log.

Rule 1: two of them may do the same for a while, an owner and one who has not heard of it yet. What
        they project, dispatch, fire and relay is guarded by positions, which each compares when it
        writes. Effects, which cannot be undone, are claimed: whoever carries them out, the owner or
        somebody apart, gives the claim back when the handlers under way have ended.
Rule 2: what keeps us in step with a bus holds nothing that is not durable somewhere, so that it may
        be cancelled at any point: a bus that is away keeps nobody from ending.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.core.message import FOLLOW_UPS
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.infrastructure.logged_events import logged_events
from omninode_bridge.services.dispatcher import Dispatcher
from omninode_bridge.services.effect_runner import EffectRunner
from omninode_bridge.services.intake import Intake
from omninode_bridge.services.projection_materializer import ProjectionMaterializer
from omninode_bridge.services.relay import Relay
from omninode_bridge.services.store_effect_loop import StoreEffectLoop
from omninode_bridge.services.timer_loop import TimerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.roles import Role
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.host.keeping import Keeper
    from omninode_bridge.host.world import World

TAKE_S: Final = 0.1
"""Effects that another process still carries out are asked for again after this time."""

BUS_END_WAIT_S: Final = 1.0


class RoleLoops:
    """What follows the commits of `partition`, until `end`."""

    def __init__(
        self,
        world: World,
        partition: int,
        token: UUID,
        roles: Collection[Role],
        *,
        member: UUID,
        is_apart: bool = False,
        intake: Callable[[int, Sequence[SealedAction]], None] | None = None,
        slots: Slots,
        appended: Callable[[int], None],
        fired: Callable[[int], None],
        intents_grew: Callable[[int], None],
        keeper: Keeper,
    ) -> None:
        """Begin, as `member`; `token` is the partition's owner's or, apart from it, a new one.

        With `intake`, what others wrote on the bus is taken over; it is told what was appended to
        this partition's action log, and from which offset on. `appended` and `fired` are told
        each partition whose action log has grown by our doing, `intents_grew` a partition with new
        intents that we do not dispatch.
        """
        self._world = world
        self._partition = partition
        self._token = token
        self._member = member
        self._is_apart = is_apart
        self._keeper = keeper
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._bus_tasks: list[asyncio.Task[None]] = []
        self._materializer: ProjectionMaterializer | None = None
        self._dispatcher: Dispatcher | None = None
        self._timers: TimerLoop | None = None
        self._runner: EffectRunner | None = None
        self._relay: Relay | None = None
        self._intake: Intake | None = None
        self._store_effect: StoreEffectLoop | None = None
        if "materializer" in roles:
            self._materializer = ProjectionMaterializer(
                partition,
                log=world.projections,
                clock=world.clock,
                uniform=world.uniform,
                advanced=world.advanced,
                observe=world.observe,
            )
            self._start("materializer", self._materializer.run)
        if "orchestrator" in roles:
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
            self._start("dispatcher", self._dispatcher.run)
            self._timers = TimerLoop(
                partition,
                timers=world.timers,
                uniform=world.uniform,
                fired=fired,
                observe=world.observe,
            )
            self._start("timers", self._timers.run)
        if "effects" in roles:
            dispatcher = self._dispatcher
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
                followed=(
                    partial(intents_grew, partition)
                    if dispatcher is None
                    else dispatcher.intents_grew
                ),
                observe=world.observe,
            )
            self._start("effects", partial(self._carry_out, self._runner))
        if "relay" in roles and world.bus is not None:
            self._relay = Relay(
                partition,
                log=world.bus.relayed,
                logged=logged_events,
                bus=world.bus.outgoing,
                uniform=world.uniform,
                observe=world.observe,
            )
            self._bus_tasks.append(self._kept("relay", self._relay.run))
        if "store-effect" in roles and world.bus is not None:
            self._store_effect = StoreEffectLoop(
                partition,
                commands=world.bus.commands,
                positions=world.bus.command_positions,
                store=world.committing or world.store,
                uniform=world.uniform,
                observe=world.observe,
            )
            self._bus_tasks.append(self._kept("store effect", self._store_effect.run))
        if intake is not None and world.bus is not None:
            self._intake = Intake(
                partition,
                partitions=world.partitions,
                bus=world.bus.incoming,
                dead_letters=world.bus.dead_letters,
                taken_over=world.bus.taken_over,
                uniform=world.uniform,
                appended=appended,
                handed=intake,
                observe=world.observe,
            )
            self._bus_tasks.append(self._kept("intake", self._intake.run))

    def committed(self, commit: Commit, accepted: Accepted) -> None:
        """Take a commit from memory, right after it is durable."""
        if self._materializer is not None:
            self._materializer.on_state_committed(commit, accepted)
        if self._relay is not None:
            self._relay.on_committed(commit, accepted)
        follow_ups = others = False
        for step in commit.steps:
            follow_ups = follow_ups or step.action.reply_to is not None
            if isinstance(step, Absorbed):
                for intent in step.intents:
                    is_follow_up = intent.intent_type in FOLLOW_UPS
                    follow_ups, others = follow_ups or is_follow_up, others or not is_follow_up
        if follow_ups and self._dispatcher is not None:
            self._dispatcher.intents_grew()
        if others and self._runner is not None:
            self._runner.intents_grew()

    def look(self) -> None:
        """Look now: somebody elsewhere has committed."""
        if self._materializer is not None:
            self._materializer.look()
        if self._relay is not None:
            self._relay.look()
        if self._dispatcher is not None:
            self._dispatcher.intents_grew()
        if self._runner is not None:
            self._runner.intents_grew()

    def timers_grew(self) -> None:
        """Look at the timers: one may have been set."""
        if self._timers is not None:
            self._timers.look()

    def settle(self) -> None:
        """Look everywhere, now."""
        if self._dispatcher is not None:
            self._dispatcher.settle()
        if self._runner is not None:
            self._runner.intents_grew()

    async def end(self) -> None:
        """Let what is under way end; on a bus that is away it has a second."""
        self._ending.set()
        for loop in (self._materializer, self._dispatcher, self._timers, self._runner):
            if loop is not None:
                loop.stop()
        await asyncio.gather(*self._tasks)
        if self._runner is not None:
            await self._leave_effects()
        for bus_loop in (self._relay, self._intake, self._store_effect):
            if bus_loop is not None:
                bus_loop.stop()
        if self._bus_tasks:
            _ended, hanging = await asyncio.wait(self._bus_tasks, timeout=BUS_END_WAIT_S)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*self._bus_tasks, return_exceptions=True)

    def _start(self, loop: str, run: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(self._kept(loop, run))

    def _kept(self, loop: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        kept = self._keeper.keep(loop, self._partition, run)
        return asyncio.create_task(kept, name=f"{loop} {self._partition}")

    async def _carry_out(self, runner: EffectRunner) -> None:
        """Carry out effects whenever they are ours, until we end."""
        claims, place = self._world.claims, (self._partition, self._token)
        try:
            while not self._ending.is_set():
                if await claims.take(*place, self._member, apart=self._is_apart):
                    await runner.run()  # returns when others have taken them, too
                with suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_S):
                        await self._ending.wait()
        except DatabaseUnavailable:
            if not self._ending.is_set():
                raise

    async def _leave_effects(self) -> None:
        """Let the effects go: as long as we are there, they are taken by nobody else."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        for attempt in count(1):
            try:
                await self._world.claims.leave(self._partition, self._token)
            except DatabaseUnavailable as error:
                self._world.observe(LoopStumbled("effects", self._partition, attempt, error))
                if await self._keeper.pause(next(waits_ms) / 1000):
                    return  # who closes is not seen any more before long
            else:
                return
