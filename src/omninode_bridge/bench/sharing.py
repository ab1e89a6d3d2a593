"""Clients of one process of several: they ask for keys that are owned here, and for others."""

from __future__ import annotations

import random
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge import StateCommitted
from omninode_bridge.bench.clients import Clients, Sample

if TYPE_CHECKING:
    import asyncio

    from omninode_bridge import Bridge

TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What one process measured. Latencies in milliseconds, 0 where there were no such asks."""

    actions_per_s: float
    not_committed: int
    local_p50_ms: float
    local_p99_ms: float
    crossing_p50_ms: float
    crossing_p99_ms: float


class Asking(Clients[Shared]):
    """Clients of one process, which ask for keys that are owned here, and for others."""

    def __init__(
        self, clients: int, seconds: float, keys: tuple[list[str], list[str]], crossing: float
    ) -> None:
        """Ask with `clients` at once for `seconds`.

        `keys` are ours and the others', `crossing` is the share of asks for the others'.
        """
        super().__init__(clients, seconds)
        self._keys = keys
        self._crossing = crossing
        self._answered = 0
        self._not_committed = 0
        self._samples = (Sample(), Sample())

    async def keep_asking(self, bridge: Bridge, stop: asyncio.Event) -> None:
        """Be one client: ask, wait for the answer, and ask again, until told to stop."""
        while not stop.is_set():
            crosses = random.random() < self._crossing  # noqa: S311 - no secret
            asked = monotonic()
            key = random.choice(self._keys[crosses])  # noqa: S311 - no secret
            outcome = await bridge.submit(key, "Counted", {"amount": 3}, timeout=TIMEOUT_S)
            if not self._measuring:
                continue
            self._samples[crosses].add(monotonic() - asked)
            if isinstance(outcome, StateCommitted):
                self._answered += 1
            else:
                self._not_committed += 1

    def figures(self, took: float, pgbench_tps: float | None) -> Shared:  # noqa: ARG002 - the parent's
        """Return what was measured in `took` seconds."""
        local, crossing = self._samples
        return Shared(
            round(self._answered / took, 1),
            self._not_committed,
            local.ms(50),
            local.ms(99),
            crossing.ms(50),
            crossing.ms(99),
        )
