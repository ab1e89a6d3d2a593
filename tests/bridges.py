"""A migrated database for each test, and an application whose history is easy to check.

- `database_url` is the URL of a fresh migrated database on the server of this test run.
- `app` counts: the state of a key is how many actions it has absorbed and the sum of their amounts.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from omninode_bridge import Action, App, Intent, Projection, Rejection, Transition
from omninode_bridge.infrastructure.postgres import migrations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from tests.servers import PostgresTestServer

WAIT_S: Final = 20.0

app = App("counting")


@app.reducer("counter")
def _count(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Count, or do what the action's type asks for, however bad."""
    match action.type:
        case "Counted":
            pass
        case "Refused":
            return Rejection("as you wished")
        case "Raised":
            raise RuntimeError(action.payload["message"])
        case "Mutated":
            state["count"] = 1_000_000
            action.payload["amount"] = 1_000_000
            return Rejection("after having changed what it was given")
        case "WrongType":
            return "neither a transition nor a rejection"  # type: ignore[return-value]
        case "NotAnObject":
            return Transition([1, 2, 3])  # type: ignore[arg-type]
        case "NotJson":
            return Transition({"when": object()})
        case "NaN":
            return Transition({"amount": float("nan")})
        case "Passed":
            state["changed"] = "in place"
        case _:
            return Rejection(f"unknown type {action.type}")
    count = state.get("count", 0) + 1
    total = state.get("total", 0) + action.payload.get("amount", 0)
    return Transition({"count": count, "total": total}, _asked(action))


def _asked(action: Action) -> tuple[Intent, ...]:
    """Return what the payload asks for: follow-up actions, and an effect."""
    amount, targets = action.payload.get("amount", 0), action.payload.get("passes_on_to", ())
    asked = [Intent.submit(target, "Counted", {"amount": amount}) for target in targets]
    if "mail" in action.payload:
        asked.append(Intent(action.payload["mail"]))
    return tuple(asked)


@app.projection("counter")
def _view(key: str, state: dict[str, Any], action_type: str, committed_at: datetime) -> Projection:  # noqa: ARG001
    parity = "even" if state["count"] % 2 == 0 else "odd"
    return Projection(tag=parity, namespace="counters", indices={"total": state["total"]})


async def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for `condition`, but not for ever."""
    deadline = monotonic() + wait_s
    while not condition():
        assert monotonic() < deadline, f"{what}: not within {wait_s:g} s"
        await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresTestServer) -> str:
    """Return the name of a migrated database without partitions, to be copied and left alone."""

    async def make() -> str:
        address = await postgres_server.create_database()
        await migrations.upgrade(address.connect_arguments)
        return address.database

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(make())


@pytest.fixture
async def database_url(
    postgres_server: PostgresTestServer, migrated_template: str
) -> AsyncIterator[str]:
    """Yield the URL of a migrated database of this test alone."""
    async with postgres_server.database(template=migrated_template) as address:
        yield address.url


async def fetch(database_url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Run a statement of a test's own."""
    connection = await asyncpg.connect(database_url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows
    finally:
        await connection.close()


__all__ = ["app", "database_url", "fetch", "migrated_template", "until"]
