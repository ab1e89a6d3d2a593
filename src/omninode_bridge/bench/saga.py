"""How many runs a second: each asks two keys, one after the other, and is waited for to its end."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from omninode_bridge.bench.clients import Clients, Sample, resident_mb
from omninode_bridge.bench.load import SPREAD_KEYS

if TYPE_CHECKING:
    import asyncio

    from omninode_bridge import Bridge, RunOutcome

TIMEOUT_S: Final = 60.0


def _step(name: str, *after: str) -> dict[str, Any]:
    action = {"key": f"bench:{{input.{name}}}", "type": "Counted", "payload": {"amount": 3}}
    return {"name": name, "depends_on": list(after), "action": action, "undo": "none"}


STEPS: Final = (_step("first"), _step("second", "first"))
CONTRACT: Final = {"name": "bench", "version": 1, "steps": list(STEPS)}


@dataclass(frozen=True, slots=True)
class SagaFigures:
    """One measurement. A run takes as long as its asker waits, a step from ask to reply."""

    mode: str
    clients: int
    seconds: float
    runs_per_s: float
    steps_per_s: float
    run_p50_ms: float
    run_p95_ms: float
    run_p99_ms: float
    step_p50_ms: float
    step_p99_ms: float
    not_completed: int
    rss_mb: float
    pgbench_tps: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


class Saga(Clients[SagaFigures]):
    """Clients that each start a run, wait for its end, and start the next."""

    def __init__(self, clients: int, seconds: float) -> None:
        """Have `clients` runs under way at once, for `seconds` after the warm-up."""
        super().__init__(clients, seconds)
        self._completed = 0
        self._not_completed = 0
        self._runs = Sample()
        self._steps = Sample()

    async def keep_asking(self, bridge: Bridge, stop: asyncio.Event) -> None:
        """Be one client: start a run, wait for its end, and start another."""
        contract = bridge.app.workflow(CONTRACT)
        while not stop.is_set():
            given = {name: random.randrange(SPREAD_KEYS) for name in ("first", "second")}  # noqa: S311 - no secret
            asked = monotonic()
            outcome = await bridge.run(contract, given, workflow_id=str(uuid4()), timeout=TIMEOUT_S)
            if self._measuring:
                self._runs.add(monotonic() - asked)
                self._note(outcome)

    def _note(self, outcome: RunOutcome) -> None:
        if outcome.status == "COMPLETED":
            self._completed += 1
        else:
            self._not_completed += 1
        for step in outcome.steps:
            if step.asked_at is not None and step.ended_at is not None:
                took = datetime.fromisoformat(step.ended_at) - datetime.fromisoformat(step.asked_at)
                self._steps.add(took.total_seconds())

    def figures(self, took: float, pgbench_tps: float | None) -> SagaFigures:
        """Return what was measured in `took` seconds."""
        return SagaFigures(
            mode="saga",
            clients=self.clients,
            seconds=round(took, 3),
            runs_per_s=round(self._completed / took, 1),
            steps_per_s=round(self._completed * len(STEPS) / took, 1),
            run_p50_ms=self._runs.ms(50),
            run_p95_ms=self._runs.ms(95),
            run_p99_ms=self._runs.ms(99),
            step_p50_ms=self._steps.ms(50),
            step_p99_ms=self._steps.ms(99),
            not_completed=self._not_completed,
            rss_mb=round(resident_mb(), 1),
            pgbench_tps=pgbench_tps,
        )
