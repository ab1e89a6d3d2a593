"""Wakes the other processes when something concerns them, and hears them.

Rule 1: who is alone tells nobody and does not listen.
Rule 2: whether anybody is there is known a beat late; polling covers that, and what gets lost.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.core.sharing import is_apart
from omninode_bridge.ports import Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omninode_bridge.core.sharing import Member
    from omninode_bridge.host.world import World


class Waking:
    """Tells what others own, or wait for. `run` it in a task, until cancelled."""

    def __init__(self, world: World, heard: Callable[[Wake], None]) -> None:
        """`heard` is called with what others tell."""
        self._world = world
        self._heard = heard
        self._company = asyncio.Event()
        self._is_apart = False

    def see(self, members: Sequence[Member]) -> None:
        """Take note of which processes are there, ourselves included."""
        self._is_apart = is_apart(members)
        if len(members) > 1:
            self._company.set()
        else:
            self._company.clear()

    def log_grew(self, partition: int) -> None:
        """Tell whoever owns `partition` that its action log has grown."""
        if self._company.is_set():
            self._world.wakes.tell(Wake("action", partition))

    def decided(self, partition: int) -> None:
        """Tell who waits elsewhere that something of `partition` was decided here."""
        if self._company.is_set():
            self._world.wakes.tell(Wake("outcome", partition))

    def committed(self, partition: int) -> None:
        """Tell who follows `partition` elsewhere that there is something to be done."""
        if self._is_apart and self._company.is_set():
            self._world.wakes.tell(Wake("commit", partition))

    async def run(self) -> None:
        """Listen from the first company on; begin anew whenever the connection is lost."""
        await self._company.wait()
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._world.uniform)
        for attempt in count(1):
            try:
                await self._world.wakes.hear(self._heard)
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                self._world.observe(LoopStumbled("wakes", None, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)
            else:
                return
