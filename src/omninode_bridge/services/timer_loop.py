"""Fires timers: moves actions that have become due into the action log of their partition.

Rule 1: the store's clock decides what is due; ours only says when to look again.
Rule 2: whoever fires, each timer fires once: it goes in the transaction that appends its action.
        Die before it, and the next look fires it; the reply lost, and the next look does not find
        it.

It looks when the next one is due, when a hint says that there may be an earlier one, and as a
safety net every `POLL_S`: another process may have set one. An idle look is one index look-up.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.core.observation import LoopStumbled, TimersFired, ignore
from omninode_bridge.core.retry import OUTAGE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import Timers

BATCH_MAX: Final = 1_000
POLL_S: Final = 0.5


class TimerLoop:
    """The timers of one partition. `run` it in a task; `fired` is told the partition after it."""

    def __init__(
        self,
        partition: int,
        *,
        timers: Timers,
        uniform: Uniform,
        fired: Callable[[int], None] = lambda _: None,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._timers = timers
        self._uniform = uniform
        self._fired = fired
        self._observe = observe
        self._hint = asyncio.Event()
        self._stopping = False

    def look(self) -> None:
        """Look now rather than when the next one that is known is due."""
        self._hint.set()

    def stop(self) -> None:
        """End `run` after the look under way; what is not due stays stored."""
        self._stopping = True
        self._hint.set()

    async def run(self) -> None:
        """Fire what becomes due, until stopped."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = 0
        while not self._stopping:
            self._hint.clear()
            try:
                actions, next_s = await self._timers.fire(self.partition, BATCH_MAX)
            except DatabaseUnavailable as error:
                attempt += 1
                self._observe(LoopStumbled("timers", self.partition, attempt, error))
                await self._wait(next(waits_ms) / 1000)
                continue
            attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
            if actions:
                self._fired(self.partition)
                self._observe(TimersFired(self.partition, actions))
            if next_s is None or next_s > 0:
                await self._wait(POLL_S if next_s is None else min(next_s, POLL_S))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hint.wait()
