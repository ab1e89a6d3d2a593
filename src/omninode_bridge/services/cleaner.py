"""Removes what is no longer needed: expired outcomes, and segments behind all consumers (R13).

Rule 1: bounded batches with pauses twice as long: cleaning never makes a commit wait for long, and
        leaves it the machine, however slow that is.
Rule 2: what cannot be had now (a lock, the database) is tried again at the next round.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BridgeError
from omninode_bridge.core.observation import (
    LoopStumbled,
    OutcomesForgotten,
    SegmentsDropped,
    ignore,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.ports import OutcomeCleaning, SegmentCleaning

BATCH_ROWS: Final = 5_000
"""Some 20 ms of work, so some 60,000 in a second."""

PAUSE_S_MIN: Final = 0.01
REST_FACTOR: Final = 2
EVERY_S: Final = 30.0
TRANSIENT_TOPICS: Final = ("action", "intent")


class Cleaner:
    """Cleans every `every_s` seconds. `run` it in a task."""

    def __init__(
        self,
        partitions: Iterable[int],
        *,
        outcomes: OutcomeCleaning,
        segments: SegmentCleaning,
        observe: Observe = ignore,
        every_s: float = EVERY_S,
        batch_rows: int = BATCH_ROWS,
        pause_s_min: float = PAUSE_S_MIN,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self._partitions = list(partitions)
        self._outcomes = outcomes
        self._segments = segments
        self._observe = observe
        self._every_s = every_s
        self._batch_rows = batch_rows
        self._pause_s_min = pause_s_min
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End `run` after the batch under way."""
        self._stopped.set()

    async def run(self) -> None:
        """Clean until stopped."""
        attempt = 0
        while not self._stopped.is_set():
            try:
                await self.clean()
                attempt = 0
            except BridgeError as error:
                # Away, or busy (a lock in the way): the next round may do better.
                attempt += 1
                self._observe(LoopStumbled("cleaner", None, attempt, error))
            await self._pause(self._every_s)

    async def clean(self) -> None:
        """Make one round: all that can go now goes, in bounded batches."""
        forgotten = 0
        while not self._stopped.is_set():
            began = monotonic()
            rows = await self._outcomes.cleanup_expired(self._batch_rows)
            forgotten += rows
            if rows < self._batch_rows:
                break
            await self._pause(max(self._pause_s_min, REST_FACTOR * (monotonic() - began)))
        if forgotten:
            self._observe(OutcomesForgotten(forgotten))
        for topic in TRANSIENT_TOPICS:
            for partition in self._partitions:
                dropped = await self._segments.drop_segments(topic, partition)
                if dropped:
                    self._observe(SegmentsDropped(topic, partition, dropped))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
