"""The loops of one partition for as long as a process owns it: the worker, and those that follow.

Rule 1: the others end after the worker: what it committed last is projected and dispatched by them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from omninode_bridge.core.errors import OwnershipLost
from omninode_bridge.core.observation import LoopStumbled, OwnershipChanged
from omninode_bridge.core.roles import FOLLOWING
from omninode_bridge.host.role_loops import RoleLoops
from omninode_bridge.services.direct_path import DirectPath
from omninode_bridge.services.reducer_service import ReducerService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.host.keeping import Keeper
    from omninode_bridge.host.world import World

    Worker = ReducerService | DirectPath


class PartitionLoops:
    """`work`, then `end`. Made in the turn of the loop in which it begins to be known."""

    def __init__(
        self,
        world: World,
        partition: int,
        token: UUID,
        member: UUID,
        *,
        slots: Slots,
        answer: Callable[[SealedAction, Outcome], None],
        appended: Callable[[int], None],
        committed: Callable[[int], None],
        keeper: Keeper,
    ) -> None:
        """Make the loops of `partition`, which `member` owns with `token`.

        `answer` is told outcomes of what came by the log, `appended` each partition whose action
        log has grown by our doing, and `committed` the partition when others may have to follow.
        """
        self._world = world
        self._partition = partition
        self._token = token
        self._tell_others = committed
        self._renewal: asyncio.Task[None] | None = None
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
        self._followers = RoleLoops(
            world,
            partition,
            token,
            world.duties.intersection(FOLLOWING),
            member=member,
            intake=self._appended,
            slots=slots,
            appended=appended,
            fired=lambda _: self.worker.log_grew(),
            intents_grew=committed,
            keeper=keeper,
        )

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

    async def end(self) -> None:
        """Let the others end; the partition is ours as long as they do something."""
        await self._followers.end()
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def log_grew(self) -> None:
        """Look at the action log and at the timers: something was appended to one of them."""
        self.worker.log_grew()
        self._followers.timers_grew()

    def settle(self) -> None:
        """Look everywhere, now."""
        self._followers.settle()
        self.worker.log_grew()

    def _appended(self, first: int, actions: Sequence[SealedAction]) -> None:
        """Hand over what was appended to our own log."""
        if isinstance(self.worker, ReducerService):
            self.worker.on_appended(first, actions)
        else:
            self.worker.log_grew()

    def _committed(self, commit: Commit, accepted: Accepted) -> None:
        self._followers.committed(commit, accepted)
        self._tell_others(self._partition)

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
