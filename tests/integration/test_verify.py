"""`verify` names what was tampered with (R14): it is tested by tampering."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge import App, Bridge, Projection, Transition
from omninode_bridge.services import verifier
from tests.bridges import app, fetch

if TYPE_CHECKING:
    from datetime import datetime

    from omninode_bridge.services.verifier import Verification


@pytest.fixture
async def filled(database_url: str) -> str:
    """Return the URL of a database with some history in it."""
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit_many(
            [(f"counter:{n % 7}", "Counted", {"amount": n}) for n in range(70)]
        )
        await bridge.settled()
    return database_url


async def verify(database_url: str, with_app: App = app) -> Verification:
    async with Bridge.open(with_app, database_url=database_url, writing=False) as bridge:
        return await bridge.verify()


async def test_what_nobody_touched_verifies(filled: str) -> None:
    verification = await verify(filled)
    assert (verification.keys, verification.actions) == (7, 70)
    assert verification.mismatches == []
    assert verification.unregistered == {}


@pytest.mark.parametrize(
    ("tampering", "what"),
    [
        (
            (
                "UPDATE workflow_state SET state = jsonb_set(state, '{total}', '9')"
                " WHERE workflow_key = 'counter:3'"
            ),
            {"state"},
        ),
        (
            "UPDATE workflow_state SET version = version + 1 WHERE workflow_key = 'counter:3'",
            {"state version"},
        ),
        (
            (
                "UPDATE workflow_state SET provenance = jsonb_set(provenance, '{chain}', '\"00\"')"
                " WHERE workflow_key = 'counter:3'"
            ),
            {"state chain"},
        ),
        ("DELETE FROM workflow_state WHERE workflow_key = 'counter:3'", {"state"}),
        (
            (
                "INSERT INTO workflow_state SELECT 'counter:orphan', version, state, updated_at,"
                " schema_version, provenance FROM workflow_state WHERE workflow_key = 'counter:3'"
            ),
            {"state without history"},
        ),
        (
            "UPDATE workflow_projection SET tag = 'golden' WHERE workflow_key = 'counter:3'",
            {"projection"},
        ),
        (
            (
                "UPDATE workflow_projection SET version = version - 1, tag = 'odd'"
                " WHERE workflow_key = 'counter:3'"
            ),
            {"projection behind its watermark", "projection"},
        ),
        (
            "DELETE FROM workflow_projection WHERE workflow_key = 'counter:3'",
            {"projection behind its watermark"},
        ),
        (
            'UPDATE projection_watermarks SET "offset" = 1',
            {"projection ahead of its watermark"},
        ),
        (
            (
                "INSERT INTO workflow_projection SELECT 'counter:orphan', version, tag,"
                " last_action, namespace, updated_at, indices, extras FROM workflow_projection"
                " WHERE workflow_key = 'counter:3'"
            ),
            {"projection without history"},
        ),
        (
            (
                "DELETE FROM event_log_state_committed"
                " WHERE workflow_key = 'counter:3' AND version = 5"
            ),
            {"version", "chain", "result_hash", "logged projection"},
        ),
        (
            (
                "DELETE FROM event_log_state_committed"
                " WHERE workflow_key = 'counter:3' AND version = 10"
            ),
            {"state version", "state", "state chain", "projection ahead of its watermark"},
        ),
        (
            (
                "UPDATE event_log_state_committed SET body = jsonb_set(body::jsonb,"
                " '{action,payload,amount}', '1000')::json"
                " WHERE workflow_key = 'counter:3' AND version = 5"
            ),
            {"chain", "result_hash", "logged projection"},
        ),
        (
            (
                "UPDATE event_log_state_committed SET body = jsonb_set(body::jsonb,"
                " '{result_hash}', '\"00\"')::json WHERE workflow_key = 'counter:3' AND version = 5"
            ),
            {"chain", "result_hash"},
        ),
        (
            (
                "UPDATE event_log_state_committed SET body = jsonb_set(body::jsonb,"
                " '{projection,tag}', '\"golden\"')::json"
                " WHERE workflow_key = 'counter:3' AND version = 5"
            ),
            {"logged projection"},
        ),
        (
            (
                "UPDATE event_log_state_committed SET body = jsonb_set(body::jsonb,"
                " '{action,type}', '\"Refused\"')::json"
                " WHERE workflow_key = 'counter:3' AND version = 5"
            ),
            {"chain", "outcome"},
        ),
    ],
)
async def test_tampering_is_named(filled: str, tampering: str, what: set[str]) -> None:
    await fetch(filled, tampering)
    verification = await verify(filled)
    assert {mismatch["what"] for mismatch in verification.mismatches} == what
    keys = {mismatch["workflow_key"] for mismatch in verification.mismatches}
    if "watermark" not in tampering:
        assert keys <= {"counter:3", "counter:orphan"}


async def test_a_reducer_that_now_gives_something_else_is_found(filled: str) -> None:
    other = App("other")

    @other.reducer("counter")
    def _(state: dict[str, Any], action: object) -> Transition:  # noqa: ARG001
        return Transition({"count": state.get("count", 0) + 2, "total": 0})

    verification = await verify(filled, other)
    assert verification.mismatches_found > 70
    assert {m["what"] for m in verification.mismatches} >= {"result_hash", "logged projection"}


async def test_an_unregistered_reducer_version_is_reported_and_its_chain_checked(
    filled: str,
) -> None:
    newer = App("newer")

    @newer.reducer("counter", version=2)
    def _(state: dict[str, Any], action: object) -> Transition:  # noqa: ARG001
        return Transition(state)

    verification = await verify(filled, newer)
    assert verification.unregistered == {"counter@1": 70}
    assert verification.mismatches == []
    await fetch(
        filled,
        "UPDATE event_log_state_committed SET body = jsonb_set(body::jsonb,"
        " '{action,payload,amount}', '1000')::json"
        " WHERE workflow_key = 'counter:3' AND version = 5",
    )
    verification = await verify(filled, newer)
    assert [mismatch["what"] for mismatch in verification.mismatches] == ["chain"]


async def test_history_of_two_reducer_versions_verifies_with_both(filled: str) -> None:
    both = App("both")
    both.include(app)

    @both.reducer("counter", version=2)
    def _(state: dict[str, Any], action: object) -> Transition:  # noqa: ARG001
        return Transition({"count": state["count"] + 100, "total": state["total"]})

    async with Bridge.open(both, database_url=filled) as bridge:
        await bridge.submit("counter:3", "Counted", {})
        await bridge.settled()
        verification = await bridge.verify()
    assert verification.mismatches == []
    assert verification.unregistered == {}


async def test_a_changed_projection_belongs_to_a_new_reducer_version(filled: str) -> None:
    changed = App("changed")

    @changed.reducer("counter")
    def _(state: dict[str, Any], action: Any) -> Transition:  # noqa: ANN401
        amount = action.payload["amount"]
        return Transition(
            {"count": state.get("count", 0) + 1, "total": state.get("total", 0) + amount}
        )

    @changed.projection("counter")
    def _view(key: str, state: dict[str, Any], action_type: str, at: datetime) -> Projection:  # noqa: ARG001
        return Projection(tag="always the same", namespace="counters")

    verification = await verify(filled, changed)
    assert {mismatch["what"] for mismatch in verification.mismatches} == {"logged projection"}


async def test_a_live_database_verifies(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        stop = asyncio.Event()

        async def load(number: int) -> None:
            while not stop.is_set():
                await bridge.submit(f"counter:{number}", "Counted", {"amount": 1})

        running = [asyncio.create_task(load(number)) for number in range(50)]
        while await bridge.state("counter:49") is None:
            pass
        for _ in range(5):
            verification = await bridge.verify()
            assert verification.mismatches == []
        stop.set()
        await asyncio.gather(*running)
        assert verification.actions > 50


async def test_keys_created_on_either_side_of_what_is_being_read_have_their_history(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "PAGE_ENTRIES", 4)  # each key has ten entries
    pages = 0

    async def create(keys: list[str]) -> None:
        async with Bridge.open(app, database_url=filled) as bridge:
            await bridge.submit_many([(key, "Counted", {}) for key in keys])
            await bridge.settled()

    def create_between_pages(_: Verification) -> None:
        nonlocal pages
        pages += 1
        if pages == 4:  # counter:1 is in hand, counter:0 is done
            keys = ["counter:00", "counter:01", "counter:11"]
            with ThreadPoolExecutor(1) as thread:  # the loop of this test stands still meanwhile
                thread.submit(asyncio.run, create(keys)).result()

    async with Bridge.open(app, database_url=filled, writing=False) as bridge:
        verification = await bridge.verify(create_between_pages)
        assert verification.mismatches == []
        assert (verification.keys, verification.actions) == (8, 71)
        again = await bridge.verify()
        assert again.mismatches == []
        assert (again.keys, again.actions) == (10, 73)
