"""Clients that each ask, wait for the answer, and ask again.

An application like any other: it sees the public names only. What it measures is what an asker
sees: an action counts when its outcome is here, with state, outcome, log entry and, a moment later,
the projection durable.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from omninode_bridge import (
    Action,
    App,
    BatchCommitted,
    Bridge,
    CommitRefused,
    Observation,
    Projection,
    ProjectionApplied,
    StateCommitted,
    Transition,
)
from omninode_bridge.bench.clients import Clients, Sample, resident_mb

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

Mode = Literal["spread", "hot"]

SPREAD_KEYS: Final = 10_000

app = App("bench")


@app.reducer("bench")
def _count(state: dict[str, Any], action: Action) -> Transition:
    count = state.get("count", 0) + 1
    total = state.get("total", 0) + action.payload["amount"]
    return Transition({"count": count, "total": total, "status": "open", "last": action.type})


@app.projection("bench")
def _view(key: str, state: dict[str, Any], action_type: str, committed_at: datetime) -> Projection:  # noqa: ARG001
    return Projection(tag=state["status"], namespace="bench", indices={"total": state["total"]})


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Times in milliseconds, memory in megabytes; `pgbench_tps` is None where it lacks."""

    mode: Mode
    clients: int
    seconds: float
    actions_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    projection_lag_p50_ms: float
    projection_lag_p99_ms: float
    conflicts: int
    gave_up: int
    retries: int
    rss_mb: float
    pgbench_tps: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


class Load(Clients[Figures]):
    """A running load, and the facts that the bridge reports of it meanwhile."""

    def __init__(self, mode: Mode, clients: int, seconds: float) -> None:
        """Ask with `clients` at once, for `seconds` after the warm-up."""
        super().__init__(clients, seconds)
        self.mode = mode
        self._answered = 0
        self._gave_up = 0
        self._conflicts = 0
        self._retries = 0
        self._latencies = Sample()
        self._lags = Sample()

    def observe(self, observation: Observation) -> None:
        """Take note of conflicts, retries and projection lag."""
        if not self._measuring:
            return
        match observation:
            case CommitRefused():
                self._conflicts += observation.stale_keys
            case BatchCommitted():
                self._retries += observation.attempts - 1
            case ProjectionApplied():
                self._lags.add(observation.lag_s)
            case _:
                pass

    async def keep_asking(self, bridge: Bridge, stop: asyncio.Event) -> None:
        """Be one client: ask, wait for the answer, and ask again, until told to stop."""
        key = self._hot if self.mode == "hot" else self._any
        while not stop.is_set():
            asked = monotonic()
            outcome = await bridge.submit(key(), "Counted", {"amount": 3}, timeout=30)
            if not self._measuring:
                continue
            self._latencies.add(monotonic() - asked)
            if isinstance(outcome, StateCommitted):
                self._answered += 1
            else:
                self._gave_up += 1

    def _hot(self) -> str:
        return "bench:hot"

    def _any(self) -> str:
        return f"bench:{random.randrange(SPREAD_KEYS)}"  # noqa: S311 - no secret

    def figures(self, took: float, pgbench_tps: float | None) -> Figures:
        """Return what was measured in `took` seconds."""
        return Figures(
            mode=self.mode,
            clients=self.clients,
            seconds=round(took, 3),
            actions_per_s=round(self._answered / took, 1),
            p50_ms=self._latencies.ms(50),
            p95_ms=self._latencies.ms(95),
            p99_ms=self._latencies.ms(99),
            projection_lag_p50_ms=self._lags.ms(50),
            projection_lag_p99_ms=self._lags.ms(99),
            conflicts=self._conflicts,
            gave_up=self._gave_up,
            retries=self._retries,
            rss_mb=round(resident_mb(), 1),
            pgbench_tps=pgbench_tps,
        )
