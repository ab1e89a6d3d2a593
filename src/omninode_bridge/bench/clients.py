"""Clients that ask, wait for the answer and ask again, and what is measured of them."""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from omninode_bridge import Bridge

_F = TypeVar("_F")

WARM_UP_S: Final = 1.0
SAMPLES_MAX: Final = 200_000


class Sample:
    """Up to `SAMPLES_MAX` numbers, each of those offered with the same chance (R13)."""

    def __init__(self) -> None:
        """Begin empty."""
        self._offered = 0
        self._kept: list[float] = []

    def add(self, value: float) -> None:
        """Offer one number (reservoir sampling; Vitter, 1985, algorithm R)."""
        self._offered += 1
        if len(self._kept) < SAMPLES_MAX:
            self._kept.append(value)
        else:
            place = random.randrange(self._offered)  # noqa: S311 - no secret
            if place < SAMPLES_MAX:
                self._kept[place] = value

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile; 0 of nothing."""
        if not self._kept:
            return 0.0
        ordered = sorted(self._kept)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def ms(self, percent: float) -> float:
        """Return the percentile of seconds in milliseconds."""
        return round(self.percentile(percent) * 1000, 3)


class Clients(ABC, Generic[_F]):
    """So many clients at once. A measurement says what one does, and what came of all."""

    def __init__(self, clients: int, seconds: float) -> None:
        """Work with `clients` at once, for `seconds` after the warm-up."""
        self.clients = clients
        self.seconds = seconds
        self._measuring = False

    @abstractmethod
    async def keep_asking(self, bridge: Bridge, stop: asyncio.Event) -> None:
        """Be one client: ask, wait for the answer, and ask again, until told to stop."""

    @abstractmethod
    def figures(self, took: float, pgbench_tps: float | None) -> _F:
        """Return what was measured in `took` seconds."""

    async def run(self, bridge: Bridge, pgbench_tps: float | None) -> _F:
        """Warm up, measure, and return the figures once everything is done with."""
        stop = asyncio.Event()
        # Apart from those of earlier runs on the same database, but the same in each run.
        clients = [asyncio.create_task(self.keep_asking(bridge, stop)) for _ in range(self.clients)]
        await asyncio.sleep(WARM_UP_S)
        self._measuring, began = True, monotonic()
        await asyncio.sleep(self.seconds)
        self._measuring, took = False, monotonic() - began
        stop.set()
        await asyncio.gather(*clients)
        await bridge.settled()
        return self.figures(took, pgbench_tps)


def resident_mb() -> float:
    """Return the most memory this process has had resident, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / 1024 if sys.platform == "darwin" else peak / 1024
