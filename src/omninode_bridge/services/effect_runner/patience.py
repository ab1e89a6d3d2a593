"""Asking the database again for as long as it is away."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.retry import OUTAGE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform

_T = TypeVar("_T")


class Patience:
    """How calls of the effects of one partition are made."""

    def __init__(self, partition: int, uniform: Uniform, observe: Observe) -> None:
        """Be patient until `end`."""
        self._partition = partition
        self._uniform = uniform
        self._observe = observe
        self._is_over = False

    def end(self) -> None:
        """Make each call once only from now on: we stop."""
        self._is_over = True

    async def __call__(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Call until the database answers.

        Raises:
            DatabaseUnavailable: it is away, and we stop.
        """
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        for attempt in count(1):
            try:
                return await call()
            except DatabaseUnavailable as error:
                self._observe(LoopStumbled("effects", self._partition, attempt, error))
                if self._is_over:
                    raise
                await asyncio.sleep(next(waits_ms) / 1000)
        raise AssertionError  # pragma: no cover - count() does not end
