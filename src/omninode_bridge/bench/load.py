"""Clients that each ask, wait for the answer, and ask again.

An application like any other: it sees the public names only. What it measures is what an asker
sees: an action counts when its outcome is here, with state, outcome, log entry and, a moment later,
the projection durable.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
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

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

Mode = Literal["spread", "hot"]

SPREAD_KEYS: Final = 10_000
WARM_UP_S: Final = 1.0
SAMPLES_MAX: Final = 200_000

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


class Load:
    """A running load, and the facts that the bridge reports of it meanwhile."""

    def __init__(self, mode: Mode, clients: int, seconds: float) -> None:
        """Ask with `clients` at once, for `seconds` after the warm-up."""
        self.mode = mode
        self.clients = clients
        self.seconds = seconds
        self._measuring = False
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

    async def run(self, bridge: Bridge, pgbench_tps: float | None) -> Figures:
        """Warm up, measure, and return the figures once everything is projected."""
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
        return self._figures(took, pgbench_tps)

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

    def _figures(self, took: float, pgbench_tps: float | None) -> Figures:
        def ms(percentile: Callable[[float], float], percent: float) -> float:
            return round(percentile(percent) * 1000, 3)

        latency, lag = self._latencies.percentile, self._lags.percentile
        return Figures(
            mode=self.mode,
            clients=self.clients,
            seconds=round(took, 3),
            actions_per_s=round(self._answered / took, 1),
            p50_ms=ms(latency, 50),
            p95_ms=ms(latency, 95),
            p99_ms=ms(latency, 99),
            projection_lag_p50_ms=ms(lag, 50),
            projection_lag_p99_ms=ms(lag, 99),
            conflicts=self._conflicts,
            gave_up=self._gave_up,
            retries=self._retries,
            rss_mb=round(resident_mb(), 1),
            pgbench_tps=pgbench_tps,
        )


def resident_mb() -> float:
    """Return the most memory this process has had resident, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / 1024 if sys.platform == "darwin" else peak / 1024
