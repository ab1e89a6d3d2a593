"""Many actions under way at once, each key's in order, each answered.

Rule 1: nothing is handed over twice. The worker goes on asking the database itself, however long it
        is away, and asking it again meanwhile would only make its queue longer. Who runs the file
        again asks again, under the same ids.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from omninode_bridge import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omninode_bridge import Bridge, Outcome
    from omninode_bridge.ingest.rows import Row

UNDER_WAY_MAX: Final = 4_000
ANSWER_WAIT_S: Final = 300.0


class Pipeline:
    """Takes rows from one task, and tells `answered` the outcome of each, in order."""

    def __init__(
        self,
        bridge: Bridge,
        answered: Callable[[Row, Outcome], None],
        *,
        answer_wait_s: float = ANSWER_WAIT_S,
    ) -> None:
        """Give up when nothing is answered for `answer_wait_s` seconds."""
        self._bridge = bridge
        self._answered = answered
        self._answer_wait_s = answer_wait_s
        self._under_way: deque[tuple[Row, asyncio.Future[Outcome]]] = deque()

    async def put(self, rows: Sequence[Row]) -> None:
        """Hand rows over, after having waited for older ones if too many are under way.

        Raises:
            InvalidAction: one of the rows could never be stored; none was handed over.
            OutcomeUnknown: nothing has been answered for too long.
        """
        await self._answer(len(self._under_way) + len(rows) - UNDER_WAY_MAX)
        try:
            async with asyncio.timeout(self._answer_wait_s):
                outcomes = await self._bridge.hand_over(
                    (row.action for row in rows), remember_for=None
                )
        except TimeoutError:  # the inbox of a partition has stayed full
            raise self._unknown(rows[0]) from None
        self._under_way.extend(zip(rows, outcomes, strict=True))

    async def finish(self) -> None:
        """Return when every row has been answered.

        Raises:
            OutcomeUnknown: nothing has been answered for too long.
        """
        await self._answer(len(self._under_way))

    async def _answer(self, rows: int) -> None:
        """Wait for the outcomes of the oldest `rows`."""
        for _ in range(min(rows, len(self._under_way))):
            row, outcome = self._under_way[0]
            if not outcome.done():
                try:
                    async with asyncio.timeout(self._answer_wait_s):
                        await outcome
                except TimeoutError:
                    raise self._unknown(row) from None
            self._under_way.popleft()
            self._answered(row, outcome.result())

    def _unknown(self, row: Row) -> OutcomeUnknown:
        return OutcomeUnknown(row.action.workflow_key, row.action.action_id, self._answer_wait_s)
