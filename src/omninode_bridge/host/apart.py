"""What this process does for partitions whose owners do not: its roles, apart from any worker.

Rule 1: who does what is computed by each from one table, beat after beat (`core.sharing`). It
        decides nothing. For a beat two may do the same, or nobody: what each writes is guarded
        (`role_loops`), and what is left undone stands in the log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from omninode_bridge.core.observation import FollowingChanged
from omninode_bridge.core.roles import FOLLOWING
from omninode_bridge.core.sharing import committer, follower, is_apart
from omninode_bridge.host.role_loops import RoleLoops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from omninode_bridge.core.roles import Role
    from omninode_bridge.core.sharing import Member
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.host.keeping import Keeper
    from omninode_bridge.host.world import World

    Duty = tuple[int, Role]


class Apart:
    """The loops of partitions that this process does not own."""

    def __init__(
        self,
        world: World,
        member: UUID,
        *,
        slots: Slots,
        appended: Callable[[int], None],
        intents_grew: Callable[[int], None],
        keeper: Keeper,
    ) -> None:
        """Begin with none. The callbacks are those of `RoleLoops`."""
        self._world = world
        self._member = member
        self._slots = slots
        self._appended = appended
        self._intents_grew = intents_grew
        self._keeper = keeper
        self._loops: dict[Duty, RoleLoops] = {}
        self._ending: dict[Duty, asyncio.Task[None]] = {}

    async def see(self, members: Sequence[Member]) -> None:
        """Begin and end so that this process does what is its part among `members`."""
        for partition, role in await self._duties(members):
            if (partition, role) not in self._loops and (partition, role) not in self._ending:
                self._begin(partition, role)

    async def end(self, *, but_commits: bool = False) -> None:
        """Let all of them end; or, `but_commits`, those that commit what others have folded not."""
        for duty in list(self._loops):
            if not (but_commits and duty[1] == "store-effect"):
                self._let_go(duty)
        await asyncio.gather(*self._ending.values())

    def look(self, partition: int) -> None:
        """Look at what was committed in a partition."""
        for loops in self._of(partition):
            loops.look()

    def timers_grew(self, partition: int) -> None:
        """Look at the timers of a partition: one may have been set."""
        for loops in self._of(partition):
            loops.timers_grew()

    def settle(self) -> None:
        """Look everywhere, now."""
        for loops in self._loops.values():
            loops.settle()

    async def _duties(self, members: Sequence[Member]) -> list[Duty]:
        """Return what is ours to do, having let go what is not."""
        world = self._world
        ours: list[Duty] = []
        if "store-effect" in world.duties:
            ours += [
                (partition, "store-effect")
                for partition in range(world.partitions)
                if committer(partition, members) == self._member
            ]
        if is_apart(members):
            owners = await world.members.owners()
            ours += [
                (partition, role)
                for role in FOLLOWING
                if role in world.duties
                for partition in range(world.partitions)
                if (owner := owners.get(partition)) != self._member
                and follower(role, partition, owner, members) == self._member
            ]
        for duty in self._loops.keys() - set(ours):
            self._let_go(duty)
        return ours

    def _begin(self, partition: int, role: Role) -> None:
        self._world.observe(FollowingChanged(partition, role, "begun"))
        self._loops[partition, role] = RoleLoops(
            self._world,
            partition,
            self._world.new_id(),
            [role],
            member=self._member,
            is_apart=True,
            slots=self._slots,
            appended=self._appended,
            fired=self._appended,
            intents_grew=self._intents_grew,
            keeper=self._keeper,
        )

    def _let_go(self, duty: Duty) -> None:
        loops = self._loops.pop(duty)
        self._ending[duty] = asyncio.create_task(self._end(duty, loops), name=f"{duty} ends")

    async def _end(self, duty: Duty, loops: RoleLoops) -> None:
        partition, role = duty
        try:
            await loops.end()
        finally:
            del self._ending[duty]
            self._world.observe(FollowingChanged(partition, role, "ended"))

    def _of(self, partition: int) -> list[RoleLoops]:
        return [loops for (number, _), loops in self._loops.items() if number == partition]
