"""Keeps the projection of one partition up with its history.

Rule 1: rows and watermark become durable in one transaction; the watermark never goes back (R7).
Rule 2: it never folds and never reads the canonical store: projections travel in the log.

Entries come from memory right after their commit as long as they join what is projected; when they
do not (start, overflow, an outage, another materializer), they are read from the log.

What if the process dies before the write: the entries are in the log, behind the watermark. After
it: the watermark says so. What if an entry comes twice, or two materializers run: the watermark is
compared before it is set, and each row has a version guard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BrokenPromise, DatabaseUnavailable
from omninode_bridge.core.observation import (
    LoopStumbled,
    ProjectionApplied,
    WatermarkRegressed,
    ignore,
)
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.ports import LoggedProjection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import Clock, ProjectionLog

BATCH_MAX: Final = 2_000
BACKLOG_MAX: Final = 10_000
POLL_S: Final = 1.0


class ProjectionMaterializer:
    """The materializer of one partition. `run` it in a task.

    `advanced` is told which keys have reached which versions in the projection, and their tags.
    """

    def __init__(
        self,
        partition: int,
        *,
        log: ProjectionLog,
        clock: Clock,
        uniform: Uniform,
        advanced: Callable[[Iterable[tuple[str, int, str]]], None] = lambda _: None,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._log = log
        self._clock = clock
        self._uniform = uniform
        self._advanced = advanced
        self._observe = observe
        self._backlog: deque[LoggedProjection] = deque()
        self._handed_upto = 0
        self._batch_max = BATCH_MAX
        self._watermark = 1
        self._stopping = False
        self._hint = asyncio.Event()

    def on_state_committed(self, commit: Commit, accepted: Accepted) -> None:
        """Take the entries of a commit from memory; too many at once are read back instead."""
        absorbed = [step for step in commit.steps if isinstance(step, Absorbed)]
        if not absorbed:
            return
        self._hint.set()
        if len(self._backlog) + len(absorbed) > BACKLOG_MAX:
            self._backlog.clear()
            self._handed_upto = 0
            return
        self._handed_upto = accepted.state_committed_first + len(absorbed)
        for offset, step in enumerate(absorbed, start=accepted.state_committed_first):
            action = step.action
            self._backlog.append(
                LoggedProjection(
                    offset,
                    action.workflow_key,
                    step.snapshot.version,
                    action.type,
                    commit.committed_at,
                    step.projection,
                )
            )

    def look(self) -> None:
        """Look now; what was committed elsewhere is read from the log, for none of it is handed."""
        self._hint.set()

    def stop(self) -> None:
        """End `run` once everything that was handed over is projected."""
        self._stopping = True
        self._hint.set()

    async def run(self) -> None:
        """Project until stopped.

        Raises:
            BrokenPromise: somebody asked the watermark to go back.
        """
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = 0
        self._watermark = 0  # not known yet
        look = True
        while True:
            try:
                if self._watermark == 0:
                    self._watermark = await self._log.watermark(self.partition)
                self._hint.clear()
                batch = await self._next(look=look)
                look = False
                if batch:
                    await self._apply(batch)
                    self._batch_max = min(BATCH_MAX, self._batch_max * 2)
                    attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
                elif self._stopping:
                    return
                else:
                    look = not await self._hinted()
            except DatabaseUnavailable as error:
                attempt += 1
                self._watermark = 0  # it may have been set: unknown
                # Perhaps it was too much for one message.
                self._batch_max = max(1, self._batch_max // 2)
                self._observe(LoopStumbled("materializer", self.partition, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)

    async def _hinted(self) -> bool:
        """Wait for a hint, but not for ever: another process may have committed."""
        try:
            async with asyncio.timeout(POLL_S):
                await self._hint.wait()
        except TimeoutError:
            return False
        return True

    async def _next(self, *, look: bool) -> Sequence[LoggedProjection]:
        """Return entries that begin at the watermark: from memory when they join, else the log.

        When everything that was handed over is projected, the log is only read to `look`.
        """
        backlog = self._backlog
        while backlog and backlog[0].offset < self._watermark:
            backlog.popleft()
        batch: list[LoggedProjection] = []
        # Not further than they join: between two of our commits there may be one from beside us.
        while (
            backlog
            and len(batch) < self._batch_max
            and backlog[0].offset == self._watermark + len(batch)
        ):
            batch.append(backlog.popleft())
        if batch:
            return batch
        if not backlog and self._watermark == self._handed_upto and not look:
            return ()
        return await self._log.read(self.partition, self._watermark, self._batch_max)

    async def _apply(self, batch: Sequence[LoggedProjection]) -> None:
        following = batch[-1].offset + 1
        expected = self._watermark
        try:
            self._watermark = await self._log.apply(self.partition, expected, following, batch)
        except BrokenPromise:
            self._observe(WatermarkRegressed(self.partition, expected, following))
            raise
        if self._watermark != following:
            return  # another materializer was faster: go on from where it is
        rows = {entry.workflow_key: entry for entry in batch}
        self._advanced((e.workflow_key, e.version, e.projection.tag) for e in rows.values())
        lag_s = _seconds(batch[0].committed_at, self._clock())
        self._observe(ProjectionApplied(self.partition, len(batch), len(rows), following, lag_s))


def _seconds(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())
