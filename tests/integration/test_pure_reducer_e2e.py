"""The five scenarios of the pure reducer, end to end, each on a database of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import asyncpg

from omninode_bridge import (
    App,
    Bridge,
    CommitRefused,
    Intent,
    Projection,
    ProjectionApplied,
    ReducerGaveUp,
    Rejection,
    StateCommitted,
    Transition,
)
from tests.bridges import app as counting
from tests.bridges import fetch, until

if TYPE_CHECKING:
    from datetime import datetime

    from omninode_bridge import Action, Observation

WRITERS: Final = 100
WRITES: Final = 5
BESIDE: Final = 200

shop = App("shop")


@shop.reducer("order")
def _order(state: dict[str, Any], action: Action) -> Transition | Rejection:
    match action.type:
        case "Placed" if not state:
            told = Intent.submit("books:shop", "Booked", {"total": action.payload["total"]})
            return Transition({"status": "open", "total": action.payload["total"]}, (told,))
        case "Reserved":
            return Transition({**state, "reserved": True})
        case "Released":
            return Transition({**state, "reserved": False})
        case "Broken":
            message = "a bug in the reducer"
            raise RuntimeError(message)
        case _:
            return Rejection(f"an order that is {state.get('status', 'new')} cannot be that")


@shop.projection("order")
def _view(key: str, state: dict[str, Any], action_type: str, committed_at: datetime) -> Projection:  # noqa: ARG001 - the signature it has to have
    tag = "reserved" if state.get("reserved") else state.get("status", "new")
    return Projection(tag=tag, namespace="shop", indices={"total": state.get("total", 0)})


@shop.reducer("books")
def _books(state: dict[str, Any], action: Action) -> Transition:
    return Transition({"total": state.get("total", 0) + action.payload["total"]})


async def test_happy_path(database_url: str) -> None:
    """Action, reduce, commit, projection; and what follows from it."""
    async with Bridge.open(shop, database_url=database_url) as bridge:
        outcome = await bridge.submit("order:17", "Placed", {"total": 40})
        assert isinstance(outcome, StateCommitted)
        assert (outcome.version, outcome.duplicate) == (1, False)
        row = await bridge.read("order:17", required_version=1)
        assert row is not None
        assert (row.version, row.tag, row.namespace) == (1, "open", "shop")
        assert (row.indices, row.last_action) == ({"total": 40}, "Placed")
        state = await bridge.state("order:17")
        assert state is not None
        assert state.state == {"status": "open", "total": 40}
        assert state.provenance.action_id == outcome.action_id
        await bridge.settled()
        books = await bridge.state("books:shop")
        assert books is not None
        assert books.state == {"total": 40}
        (line,) = await bridge.history("order:17")
        assert line["chain"] == outcome.provenance.chain
        assert (await bridge.verify()).mismatches == []


async def test_conflict_resolution(database_url: str) -> None:
    """Concurrent writers on one key, among them a process on the direct path: all are applied."""
    stale = 0

    def observe(fact: Observation) -> None:
        nonlocal stale
        stale += isinstance(fact, CommitRefused) and fact.stale_keys > 0

    async with Bridge.open(
        counting, database_url=database_url, partitions=1, observe=observe
    ) as bridge:
        beside = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.direct_writer"),
            *(database_url, "counter:1", str(BESIDE)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert beside.stdout is not None
        async with asyncio.timeout(60):
            assert await beside.stdout.readline() == b"begun\n"

        async def write() -> list[int]:
            asked = ("counter:1", "Counted", {"amount": 1})
            outcomes = [await bridge.submit(*asked, timeout=60) for _ in range(WRITES)]
            return [outcome.committed().version for outcome in outcomes]

        ours = await asyncio.gather(*(write() for _ in range(WRITERS)))
        async with asyncio.timeout(60):
            said = (await beside.stdout.read()).decode().split()
            assert await beside.wait() == 0
        theirs = [int(version) for version in said]
        versions = sorted([version for each in ours for version in each] + theirs)
        assert versions == list(range(1, WRITERS * WRITES + BESIDE + 1))
        assert stale > 0, "nobody got in anybody's way: no test"
        state = await bridge.state("counter:1")
        assert state is not None
        assert state.state["count"] == state.version == len(versions)
        assert await bridge.dead_letters() == []
        assert (await bridge.verify()).mismatches == []


async def test_deduplication(database_url: str) -> None:
    """Whoever asks again under one id, by whatever door and whenever, hears the first outcome."""
    placed, refused = uuid4(), uuid4()
    payload = {"total": 40}

    async def again(bridge: Bridge, action_id: UUID) -> object:
        return await bridge.submit("order:1", "Placed", payload, action_id=action_id)

    async with Bridge.open(shop, database_url=database_url) as bridge:
        first = await asyncio.gather(*(again(bridge, placed) for _ in range(50)))
        assert len(set(first)) == 1
        assert isinstance(first[0], StateCommitted)
        gave_up = await again(bridge, refused)
        assert isinstance(gave_up, ReducerGaveUp)
        assert gave_up.reason == "rejected"
        for action_id in (placed, refused):
            await bridge.enqueue("order:1", "Placed", payload, action_id=action_id)
        await bridge.settled()
        assert await again(bridge, refused) == gave_up, "a give-up is remembered too"
        other = await bridge.submit("order:1", "Placed", {"total": 41}, action_id=placed)
        assert isinstance(other, ReducerGaveUp)
        assert other.reason == "id_reused"
    async with Bridge.open(shop, database_url=database_url) as bridge:
        assert await again(bridge, placed) == first[0], "in another process's life"
        state = await bridge.state("order:1")
        assert state is not None
        assert state.version == 1
        assert len(await bridge.history("order:1")) == 1


async def test_projection_lag(database_url: str) -> None:
    """While the materializer is held up, the canonical state answers with equal content."""
    applied: list[int] = []

    def observe(fact: Observation) -> None:
        if isinstance(fact, ProjectionApplied):
            applied.append(fact.rows)

    async with Bridge.open(shop, database_url=database_url, observe=observe) as bridge:
        holder = await asyncpg.connect(database_url)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE workflow_projection IN SHARE MODE")
        await bridge.submit("order:1", "Placed", {"total": 40})
        outcome = await bridge.submit("order:1", "Reserved", {})
        version = outcome.committed().version
        assert await bridge.read("order:1") is None, "the projection is behind"
        behind = await bridge.read("order:1", required_version=version, max_wait_ms=50)
        assert behind is not None
        assert (behind.version, behind.tag) == (version, "reserved")
        assert await bridge.read("order:1") is None
        assert applied == []
        await transaction.rollback()
        await holder.close()
        await until(lambda: bool(applied), "the materializer")
        await bridge.settled()
        caught_up = await bridge.read("order:1")
        assert caught_up == behind, "equal content, whoever answers"


async def test_reducer_gave_up(database_url: str) -> None:
    """A step that is given up is asked for again as its policy says; then the others are undone."""
    contract = {
        "name": "sale",
        "version": 1,
        "steps": [
            {
                "name": "reserve",
                "action": {"key": "order:{input.order}", "type": "Reserved"},
                "undo": {"action": {"key": "order:{input.order}", "type": "Released"}},
            },
            {
                "name": "bill",
                "depends_on": ["reserve"],
                "action": {"key": "order:bill-{input.order}", "type": "Broken"},
                "retry": {"attempts": 3, "base_ms": 5, "cap_ms": 20},
                "on_failure": "compensate",
            },
        ],
    }
    async with Bridge.open(shop, database_url=database_url) as bridge:
        outcome = await bridge.run(contract, {"order": "17"}, workflow_id="sale-17")
        assert outcome.status == "COMPENSATED"
        reserve, bill = outcome.steps
        assert (reserve.status, bill.status, bill.attempts) == ("UNDONE", "FAILED", 3)
        state = await bridge.state("order:17")
        assert state is not None
        assert (state.version, state.state["reserved"]) == (2, False)
        rows = await fetch(
            database_url,
            "SELECT DISTINCT action_id, body ->> 'reason' AS reason FROM event_log_reducer_gave_up",
        )
        assert [row["reason"] for row in rows] == ["reducer_error"] * 3, "each under a new id"
        assert len(await bridge.dead_letters()) == 3
        assert (await bridge.verify()).mismatches == []
