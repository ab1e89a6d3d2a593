"""An application with every kind of thing that a database can hold, and a look at all of it by key.

Counters pass on to each other and are given up, orders have effects that wait, are dead, or ask for
timers, a `fragile` key breaks as long as it is told to, and runs charge cards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import pytest

from omninode_bridge import Action, App, Bridge, EffectCall, Outcome, RunUnknown, Transition
from omninode_bridge.core.partition import partition_of
from tests.bridges import app as counting
from tests.bridges import fetch, until
from tests.integration import paying, shop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEYS: Final = 40
RUNS: Final = 8
LATER: Final = timedelta(days=1)
ORDER: Final = shop.contract(shop.reserve(), shop.charge())


@dataclass
class Fragile:
    """What breaks the reducer of `fragile` keys, and what tells of it from outside."""

    broken: bool = True

    def app(self) -> App:
        """Return the application with the key type."""
        app = App("fragile")

        @app.reducer("fragile")
        def _(state: dict[str, Any], _action: Action) -> Transition:
            if self.broken:
                raise RuntimeError("out of order")
            return Transition({"count": state.get("count", 0) + 1})

        return app


def everything(fragile: Fragile, cards: shop.Cards | None) -> App:
    """Return the application; without `cards`, what runs want to charge waits for a handler."""
    app = App("everything")
    for each in (counting, paying.app, fragile.app(), shop.shop()):
        app.include(each)
    if cards is not None:
        app.effect("ChargeCard", attempts=9, base_ms=1_500, cap_ms=1_500)(cards.charge)
        app.effect("RefundCard")(cards.refund)
    return app


class Away(shop.Cards):
    """A bank that is away."""

    async def charge(self, _call: EffectCall) -> dict[str, Any]:
        """Be away."""
        self.calls.append("charge")
        raise ConnectionError("the bank is away")


@dataclass
class Filled:
    """What was asked of a database, and the outcomes that were told."""

    gateway: Path
    outcomes: dict[tuple[str, UUID], tuple[tuple[str, str, dict[str, Any]], Outcome]] = field(
        default_factory=dict
    )

    async def ask(self, bridge: Bridge, key: str, kind: str, payload: dict[str, Any]) -> Outcome:
        """Ask under a new id, and note what was told."""
        action_id = uuid4()
        outcome = await bridge.submit(key, kind, payload, action_id=action_id, remember_for=LATER)
        self.outcomes[key, action_id] = ((key, kind, payload), outcome)
        return outcome


async def fill(database_url: str, partitions: int, gateway: Path, fragile: Fragile) -> Filled:
    """Do something of everything in a new database, and leave it at rest.

    Runs are under way: their charges have failed once, and wait.
    """
    away = Away()
    async with Bridge.open(
        everything(fragile, away), database_url=database_url, partitions=partitions
    ) as bridge:
        for n in range(RUNS):
            payload = {"sku": f"tea-{n % 3}", "quantity": 1, "amount": n + 1}
            with pytest.raises(RunUnknown):
                await bridge.run(ORDER, payload, workflow_id=str(n), timeout=0)
        await until(lambda: len(away.calls) >= RUNS, "every card is to be charged")
    async with Bridge.open(everything(fragile, None), database_url=database_url) as bridge:
        return await _fill(bridge, gateway, fragile)


async def _fill(bridge: Bridge, gateway: Path, fragile: Fragile) -> Filled:
    filled = Filled(gateway)
    told = {"gateway": str(gateway)}
    for version in range(3):
        for n in range(KEYS):
            passed = [f"counter:{(n * 7 + 1) % KEYS}"] if n % 5 == version else []
            payload = {"amount": n, "passes_on_to": passed}
            if n % 7 == 0:
                payload["mail"] = "SendMail"  # which nobody carries out
            await filled.ask(bridge, f"counter:{n}", "Counted", payload)
    for n in range(0, KEYS, 4):
        await filled.ask(bridge, f"counter:{n}", "Raised", {"message": "loud"})
        await filled.ask(bridge, f"counter:{n}", "Refused", {})
        await filled.ask(bridge, f"order:{n}", "Placed", told | {"remind_after_s": 3_600})
        await filled.ask(bridge, f"order:dead-{n}", "Placed", told | {"effect": "Refuse"})
        await filled.ask(bridge, f"order:parked-{n}", "Placed", told | {"effect": "Unheard"})
        await filled.ask(bridge, f"fragile:{n}", "Touched", {})
    for n in range(12):
        await bridge.fsm.initialize_workflow(str(n))
        await bridge.fsm.transition_state(str(n), "PENDING", "PROCESSING")
        await bridge.fsm.transition_state(str(n), "PROCESSING", "COMPLETED")
    for n in range(10):
        due_at = datetime.now(UTC) + LATER
        await bridge.enqueue(f"counter:{n}", "Counted", {"amount": 1_000}, due_at=due_at)
    await bridge.settled()
    await redrive(bridge, "fragile:0", "order:dead-0", "order:dead-8")
    fragile.broken = False
    await redrive(bridge, "fragile:4", "fragile:8")
    return filled


async def redrive(bridge: Bridge, *keys: str) -> None:
    """Put the dead letters of `keys` back, and wait for what becomes of them."""
    for letter in await bridge.dead_letters(limit=1_000):
        if letter.workflow_key in keys:
            assert await bridge.redrive(letter)
    await bridge.settled()


HISTORIES: Final = {
    "event_log_state_committed": "version::TEXT || action_id::TEXT || body::TEXT",
    "event_log_reducer_gave_up": "version::TEXT || action_id::TEXT || body::TEXT",
    "event_log_fsm_state_transitioned": "action_id::TEXT || body::TEXT",
    "event_log_intent": "intent_id::TEXT || body::TEXT",
    "effects": "intent_id::TEXT || status || attempts::TEXT || redriven::TEXT || due_at::TEXT",
    "effect_log": "intent_id::TEXT || redriven::TEXT || status || attempts::TEXT",
}


async def by_key(database_url: str) -> dict[tuple[str, str], list[str]]:
    """Return what each table holds of each key, in its order; timers in the order they are due."""
    found: dict[tuple[str, str], list[str]] = {}
    for table, content in HISTORIES.items():
        rows = await fetch(
            database_url,
            f'SELECT workflow_key, {content} AS it FROM {table} ORDER BY partition, "offset"'  # noqa: S608 - of ours
            + (", redriven" if table == "effect_log" else ""),
        )
        for row in rows:
            found.setdefault((table, row["workflow_key"]), []).append(row["it"])
    for row in await fetch(
        database_url,
        "SELECT workflow_key, action_id::TEXT FROM timers ORDER BY due_at, timer_number",
    ):
        found.setdefault(("timers", row["workflow_key"]), []).append(row["action_id"])
    return found


async def misplaced(database_url: str, partitions: int) -> list[tuple[str, str]]:
    """Return table and key of each row that is not in the partition of its key."""
    return [
        (table, row["workflow_key"])
        for table in (*HISTORIES, "timers")
        for row in await fetch(database_url, f"SELECT partition, workflow_key FROM {table}")  # noqa: S608 - of ours
        if row["partition"] != partition_of(row["workflow_key"], partitions)
    ]


async def explained(bridge: Bridge, ids: Iterable[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """Return what `explain` tells of each action, but for its place."""
    return {
        action_id: [
            {name: cell for name, cell in line.items() if name not in PLACE}
            for line in await bridge.explain(action_id)
        ]
        for action_id in ids
    }


PLACE: Final = frozenset({"partition", "commit_offset", "offset"})
