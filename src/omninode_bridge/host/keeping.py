"""Keeps a loop of one partition running: it is started again after an error, until we close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.errors import BrokenPromise
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.retry import OUTAGE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode_bridge.host.world import World


class Keeper:
    """Runs loops. `pause` and `failed` are the host's."""

    def __init__(
        self,
        world: World,
        pause: Callable[[float], Awaitable[bool]],
        failed: Callable[[Exception], None],
    ) -> None:
        """`pause` waits so many seconds, but not beyond our closing; it returns whether that came.

        `failed` is told what stops a loop for good.
        """
        self._world = world
        self.pause = pause
        self._failed = failed

    async def keep(self, loop: str, partition: int, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop; start it again after an error, but not after a broken promise."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        attempt = 0
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                attempt += 1
                self._world.observe(LoopStumbled(loop, partition, attempt, error))
                if isinstance(error, BrokenPromise) or await self.pause(next(waits_ms) / 1000):
                    self._failed(error)
                    return
            else:
                return
