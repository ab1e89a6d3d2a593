"""When all that was asked is done with: looks at how far the logs and their readers have come."""

from __future__ import annotations

import asyncio
from operator import ge
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from omninode_bridge.host import PartitionHost
    from omninode_bridge.services.event_log import EventLogService, LogProgress

SETTLE_LOOK_S: Final = 0.01
CAUGHT_UP_S: Final = 60.0
"""How long the projection has to show what is committed, before a recovery gives up."""


class Settling:
    """Waits until a database has come to rest, or its projection has caught up."""

    def __init__(self, event_log: EventLogService, effect_types: Collection[str]) -> None:
        """`event_log` tells how far everything is; `effect_types` are handled here."""
        self._event_log = event_log
        self._effect_types = effect_types

    async def settled(
        self,
        host: PartitionHost,
        timeout: float,  # noqa: ASYNC109 - a bound, not a race
    ) -> None:
        """Return when all that was committed or enqueued until now is done with.

        Follow-up actions are dispatched and reduced (and theirs), the effects that are handled here
        are done or dead, but for those whose own time has not come, and the projection shows it
        all, however much is asked meanwhile.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            BrokenPromise: a loop has stopped for good.
        """
        goals: list[LogProgress] = []
        async with asyncio.timeout(timeout):
            while True:
                if host.failures:
                    raise host.failures[0]
                host.settle()
                now = await self._event_log.progress(self._effect_types)
                if now.has_reached(now):
                    return
                if not goals or now.has_reached(goals[-1]):
                    if len(goals) > 1 and not await self._follows(goals):
                        return
                    goals.append(now)
                await asyncio.sleep(SETTLE_LOOK_S)

    async def projection_caught_up(self) -> None:
        """Return when the projection shows all that is committed now; TimeoutError: it does not."""
        goal = (await self._event_log.progress()).state_committed
        async with asyncio.timeout(CAUGHT_UP_S):
            while True:
                *_, watermarks = (await self._event_log.progress()).positions
                if all(map(ge, watermarks, goal)):
                    return
                await asyncio.sleep(SETTLE_LOOK_S)

    async def _follows(self, goals: Sequence[LogProgress]) -> bool:
        """Return whether what was there at the first goal may still have something to follow.

        Whatever stands before one goal is consumed before the next is set: what came of it stands
        between the two. So with each round every chain goes one step: from action to intent, from
        the intent of an effect to what follows from it, from intent to action. Depth grows with
        every third round at least: what is below is others'.
        """
        rounds = len(goals)
        return await self._event_log.follow_ups_between(
            goals[-2], goals[-1], action_depth=rounds // 3, intent_depth=(rounds - 1) // 3
        )
