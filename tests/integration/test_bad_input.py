"""A bad action is answered clearly: no stuck key, no lost neighbour, no spoiled cache."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from omninode_bridge import App, Bridge, InvalidAction, ReducerGaveUp, StateCommitted, Transition
from tests.bridges import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(app, database_url=database_url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ([1, 2], "must be a JSON object"),
        ("text", "must be a JSON object"),
        (None, "must be a JSON object"),
        ({"amount": float("nan")}, "nan is not a JSON number"),
        ({"amount": float("-inf")}, "-inf is not a JSON number"),
        ({"deep": [{"amount": float("nan")}]}, "nan is not a JSON number"),
        ({"text": "a\0b"}, "NUL"),
        ({"a\0b": 1}, "NUL"),
        ({"text": "\ud800"}, "surrogates"),
        ({"number": 2**64}, "64-bit"),
        ({"number": -(2**63) - 1}, "64-bit"),
        ({1: "a key that is no text"}, "key must be str"),
        ({"when": datetime(2026, 1, 1)}, "not JSON"),  # noqa: DTZ001 - the point is the type
        ({"set": {1, 2}}, "not JSON"),
        ({"text": "x" * 1_048_577}, "1048576 are allowed"),
    ],
)
async def test_a_payload_that_cannot_be_stored_is_refused_by_name(
    bridge: Bridge,
    payload: Any,  # noqa: ANN401 - anything at all
    says: str,
) -> None:
    with pytest.raises(InvalidAction, match=says) as refusal:
        await bridge.submit("counter:1", "Counted", payload)
    assert refusal.value.field == "payload"
    assert (await bridge.submit("counter:1", "Counted", {})).committed().version == 1


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "0 bytes"),
        ("a:", "2 bytes"),
        ("counter:" + "x" * 505, "513 bytes"),
        ("counter:" + "é" * 253, "514 bytes"),
        ("counter", "form type:id"),
        (":17x", "form type:id"),
        ("counter:", "form type:id"),
        ("counter:a\0b", "NUL"),
        ("counter:\ud800", "lone surrogate"),
        ("nobody:1", "no reducer is declared for 'nobody'"),
        (17, "is a int"),
    ],
)
async def test_a_key_that_cannot_be_stored_is_refused_by_name(
    bridge: Bridge,
    key: Any,  # noqa: ANN401
    says: str,
) -> None:
    with pytest.raises(InvalidAction, match=says) as refusal:
        await bridge.submit(key, "Counted", {})
    assert refusal.value.field == "workflow_key"


async def test_the_longest_and_the_shortest_key_are_taken(bridge: Bridge) -> None:
    longest = "counter:" + "x" * 504
    for key in ("counter:1", longest):
        assert (await bridge.submit(key, "Counted", {"amount": 1})).committed().version == 1
    await bridge.settled()
    assert [row.workflow_key for row in await bridge.list()] == ["counter:1", longest]


async def test_an_unknown_key_type_that_comes_by_the_log_is_given_up_as_invalid(
    database_url: str,
) -> None:
    other = App("other")

    @other.reducer("stranger")
    def _(state: dict[str, Any], action: object) -> Transition:  # noqa: ARG001
        return Transition(state)

    # One process knows the type and enqueues; the one that owns the partitions does not.
    async with Bridge.open(other, database_url=database_url) as sender:
        action_id = await sender.enqueue("stranger:1", "Seen", {})
        await sender.settled()
    async with Bridge.open(app, database_url=database_url) as owner:
        with pytest.raises(InvalidAction):
            await owner.submit("stranger:1", "Seen", {})
        assert await owner.explain(action_id) != []
        verification = await owner.verify()
    assert verification.unregistered == {"stranger@1": 1}


@pytest.mark.parametrize(
    ("action_type", "payload", "reason", "detail"),
    [
        ("Refused", {}, "rejected", "as you wished"),
        ("Raised", {"message": "a loud noise"}, "reducer_error", "RuntimeError: a loud noise"),
        ("Raised", {"message": "a\\u0000b"}, "reducer_error", "RuntimeError"),
        ("WrongType", {}, "reducer_error", "returned str; return a Transition or a Rejection"),
        ("NotAnObject", {}, "reducer_error", "a state must be a dict"),
        ("NotJson", {}, "reducer_error", "not JSON serializable"),
        ("NaN", {}, "reducer_error", "nan is not a JSON number"),
        ("Mutated", {"amount": 1}, "rejected", "after having changed"),
    ],
)
async def test_a_reducer_that_fails_gives_up_that_action_alone(
    bridge: Bridge, action_type: str, payload: dict[str, Any], reason: str, detail: str
) -> None:
    bad_id = uuid4()
    first, bad, last = await bridge.submit_many(
        [
            ("counter:1", "Counted", {"amount": 5}),
            ("counter:1", action_type, payload),
            ("counter:1", "Counted", {"amount": 7}),
        ]
    )
    assert first.committed().version == 1
    assert isinstance(bad, ReducerGaveUp)
    assert bad.reason == reason
    assert detail in bad.detail
    assert last.committed().version == 2
    again = await bridge.submit("counter:1", action_type, payload, action_id=bad_id)
    once_more = await bridge.submit("counter:1", action_type, payload, action_id=bad_id)
    assert again == once_more
    assert once_more.duplicate
    state = await bridge.state("counter:1")
    assert state is not None
    assert state.state == {"count": 2, "total": 12}
    assert (await bridge.submit("counter:1", "Counted", {"amount": 1})).committed().version == 3
    assert (await bridge.verify()).mismatches == []


async def test_a_reducer_that_changes_its_input_in_place_spoils_no_cache(bridge: Bridge) -> None:
    await bridge.submit("counter:1", "Counted", {"amount": 1})
    for _ in range(3):
        await bridge.submit("counter:1", "Passed", {"amount": 1})
        await bridge.submit("counter:1", "Mutated", {"amount": 1})
    state = await bridge.state("counter:1")
    assert state is not None
    assert state.state == {"count": 4, "total": 4}
    assert (await bridge.verify()).mismatches == []


async def test_the_same_id_with_other_content_is_told_so_and_changes_nothing(
    bridge: Bridge,
) -> None:
    action_id = uuid4()
    first = await bridge.submit("counter:1", "Counted", {"amount": 1}, action_id=action_id)
    for action_type, payload in (("Counted", {"amount": 2}), ("Refused", {"amount": 1})):
        other = await bridge.submit("counter:1", action_type, payload, action_id=action_id)
        assert isinstance(other, ReducerGaveUp)
        assert other.reason == "id_reused"
    same = await bridge.submit("counter:1", "Counted", {"amount": 1}, action_id=action_id)
    assert same == first
    elsewhere = await bridge.submit("counter:2", "Counted", {"amount": 2}, action_id=action_id)
    assert elsewhere.committed().version == 1, "another key's id is another id"


async def test_one_id_in_one_batch_is_one_action(bridge: Bridge) -> None:
    action_id = uuid4()
    asked = [
        bridge.submit("counter:1", "Counted", {"amount": 1 + n % 2}, action_id=action_id)
        for n in range(10)
    ]
    outcomes = await asyncio.gather(*asked)
    assert sum(isinstance(outcome, StateCommitted) for outcome in outcomes) == 5
    assert sum(getattr(outcome, "reason", "") == "id_reused" for outcome in outcomes) == 5
    assert (
        sum(not outcome.duplicate and isinstance(outcome, StateCommitted) for outcome in outcomes)
        == 1
    )
    state = await bridge.state("counter:1")
    assert state is not None
    assert state.version == 1


async def test_an_action_type_of_the_bridge_itself_is_refused(bridge: Bridge) -> None:
    with pytest.raises(InvalidAction, match="the bridge's own") as refusal:
        await bridge.submit("counter:1", "StateReplaced", {"count": 7})
    assert refusal.value.field == "type"


async def test_a_time_without_a_zone_is_refused(bridge: Bridge) -> None:
    with pytest.raises(InvalidAction, match="time zone"):
        await bridge.submit("counter:1", "Counted", {}, occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_an_expected_version_that_is_past_is_given_up_as_a_conflict(bridge: Bridge) -> None:
    assert (
        await bridge.submit("counter:1", "Counted", {}, expected_version=0)
    ).committed().version == 1
    late = await bridge.submit("counter:1", "Counted", {}, expected_version=0)
    assert isinstance(late, ReducerGaveUp)
    assert (late.reason, late.version) == ("conflict", 1)


@pytest.mark.parametrize(
    ("term", "value", "says"),
    [
        ("remember_for", timedelta.max, "up to 36525 days are allowed"),
        ("remember_for", timedelta(seconds=-1), "up to 36525 days are allowed"),
        ("epoch", 2**70, "are allowed"),
        ("epoch", 2**63, "are allowed"),
        ("epoch", -1, "are allowed"),
        ("epoch", "3", "not an integer"),
        ("expected_version", -1, "are allowed"),
        ("action_id", "17", "not a UUID"),
        ("lease_id", "17", "not a UUID"),
        ("correlation_id", "17", "not a UUID"),
        ("occurred_at", "now", "not a datetime"),
        ("occurred_at", datetime.fromisoformat("9999-12-31T23:59:59-12:00"), "no time in UTC"),
        ("occurred_at", datetime.fromisoformat("0001-01-01T00:00+12:00"), "no time in UTC"),
        ("due_at", datetime.fromisoformat("9999-12-31T23:59:59-12:00"), "no time in UTC"),
        ("due_at", datetime.fromisoformat("0001-01-01T00:00+12:00"), "no time in UTC"),
    ],
)
async def test_a_term_that_cannot_be_stored_is_refused_and_stops_nobody(
    bridge: Bridge,
    term: str,
    value: Any,  # noqa: ANN401
    says: str,
) -> None:
    with pytest.raises(InvalidAction, match=says) as refusal:
        await bridge.submit("counter:1", "Counted", {}, **{term: value})
    assert refusal.value.field == term
    if term in {"occurred_at", "due_at"}:
        with pytest.raises(InvalidAction, match=says):
            await bridge.enqueue("counter:1", "Counted", {}, **{term: value})
    assert (await bridge.submit("counter:1", "Counted", {})).committed().version == 1
