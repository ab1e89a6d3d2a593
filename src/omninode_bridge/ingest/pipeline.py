"""Many actions under way at once, each key's in order, each answered.

Why asking again keeps the order: if an outcome does not come, everything that is under way is
handed over again under the same ids, oldest first, before anything new. Of two deliveries of an
action only the first counts (R3). In each handing over the actions of a key stand in order, and
what one lacks is its end, never its middle. So of two actions the earlier one comes first in both,
and its first delivery comes before the other's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from omninode_bridge import InvalidAction, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from omninode_bridge import Bridge, Outcome
    from omninode_bridge.ingest.rows import Row

UNDER_WAY_MAX: Final = 4_000
ANSWERED_AT_ONCE: Final = 500
ANSWER_WAIT_S: Final = 30.0
ASKS_MAX: Final = 10


class Pipeline:
    """Takes rows from one task, and tells `answered` the outcome of each, in order."""

    def __init__(
        self,
        bridge: Bridge,
        answered: Callable[[Row, Outcome], None],
        *,
        answer_wait_s: float = ANSWER_WAIT_S,
        asks_max: int = ASKS_MAX,
    ) -> None:
        """Ask up to `asks_max` times, each time waiting `answer_wait_s` seconds."""
        self._bridge = bridge
        self._answered = answered
        self._answer_wait_s = answer_wait_s
        self._asks_max = asks_max
        self._rows: deque[Row] = deque()
        self._outcomes: deque[asyncio.Future[Outcome]] = deque()

    async def put(self, rows: Sequence[Row]) -> None:
        """Hand rows over, after having waited for older ones if too many are under way.

        Raises:
            InvalidAction: one of the rows could never be stored; none was handed over.
            OutcomeUnknown: no answer, however often we asked.
        """
        while self._rows and len(self._rows) + len(rows) > UNDER_WAY_MAX:
            await self._answer_oldest()
        self._rows.extend(rows)
        try:
            async with asyncio.timeout(self._answer_wait_s):
                self._outcomes.extend(await self._handed_over(rows))
        except InvalidAction:
            for _ in rows:
                self._rows.pop()
            raise
        except TimeoutError:  # the inboxes are full, and some of the rows may be in
            while self._rows:
                await self._answer_oldest(again=len(self._outcomes) < len(self._rows))

    async def finish(self) -> None:
        """Return when every row has been answered.

        Raises:
            OutcomeUnknown: no answer, however often we asked.
        """
        while self._rows:
            await self._answer_oldest()

    async def _answer_oldest(self, *, again: bool = False) -> None:
        remaining = min(ANSWERED_AT_ONCE, len(self._rows))
        for _ in range(self._asks_max):
            try:
                async with asyncio.timeout(self._answer_wait_s):
                    if again:
                        self._outcomes = deque(await self._handed_over(self._rows))
                    while remaining:
                        outcome = await self._outcomes[0]
                        self._outcomes.popleft()
                        self._answered(self._rows.popleft(), outcome)
                        remaining -= 1
                    return
            except TimeoutError:
                again = True
        oldest, waited_s = self._rows[0].action, self._asks_max * self._answer_wait_s
        raise OutcomeUnknown(oldest.workflow_key, oldest.action_id, waited_s)

    async def _handed_over(self, rows: Iterable[Row]) -> Sequence[asyncio.Future[Outcome]]:
        return await self._bridge.hand_over((row.action for row in rows), remember_for=None)
