"""The contracts of `RelayedLog` and `TakenOver`: in step with a bus, and with one topic only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import orjson
import pytest

from omninode_bridge.core.errors import BrokenPromise, BusUnavailable, TopicReplaced, ValueRefused
from omninode_bridge.core.topics import ACTION, RELAYED, STATE_COMMITTED
from omninode_bridge.infrastructure.kafka.event_messages import event_message
from omninode_bridge.infrastructure.logged_events import logged_events
from omninode_bridge.ports import BusSource, CutOff, TakenIn
from tests.contract.batches import accepted, action, committed, folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.message import SealedAction
    from tests.contract.ports import Ports

FIRST: Final = "cluster/first"
AGAIN: Final = "cluster/made-again"


def some(count: int) -> list[SealedAction]:
    return [action(f"counter:{n}", payload={"amount": n}) for n in range(count)]


def source(
    first: int, following: int, offsets: Sequence[int], *, partition: int = 0, of: str = FIRST
) -> BusSource:
    return BusSource(partition, of, first, following, offsets)


async def logged(ports: Ports, partition: int = 0) -> list[SealedAction]:
    page = await ports.actions.read(partition, 1, 1_000)
    assert not isinstance(page, CutOff)
    return [entry.action for entry in page]


# -- what is relayed ---------------------------------------------------------------------------


async def test_history_is_read_as_it_stands_in_the_log(ports: Ports) -> None:
    absorbed, refused = action(payload={"amount": 2}), action(action_type="Refused")
    told = action("document:1", "Kept", {"transition": {"to": "there"}})
    await committed(ports, absorbed, refused, told)
    (first, second) = await ports.relayed.read("state-committed", 0, 1, 10)
    assert (first.offset, first.workflow_key, first.action_id, first.version) == (
        *(1, absorbed.workflow_key, absorbed.action_id, 1),
    )
    body = orjson.loads(first.body)
    assert body["action"]["action_id"] == str(absorbed.action_id)
    assert body["projection"]["tag"] == "odd"
    assert (second.offset, second.workflow_key) == (2, "document:1")
    (gave_up,) = await ports.relayed.read("reducer-gave-up", 0, 1, 10)
    assert (gave_up.offset, gave_up.action_id) == (1, refused.action_id)
    assert orjson.loads(gave_up.body)["reason"] == "rejected"
    (transition,) = await ports.relayed.read("fsm-state-transitioned", 0, 1, 10)
    assert (transition.offset, transition.action_id) == (1, told.action_id)
    assert orjson.loads(transition.body)["transition"] == {"to": "there"}
    assert first.happened_at == gave_up.happened_at == transition.happened_at
    for topic in RELAYED:
        assert list(await ports.relayed.read(topic, 1, 1, 10)) == []


async def test_what_is_told_of_a_commit_is_what_the_log_has_byte_for_byte(ports: Ports) -> None:
    odd = {
        "b": -0.0,
        "a": 1e16,
        "text": '\u00e4\u2028"/\\\n\U0001f600',
        "none": None,
        "deep": [[{"": 2**63}]],
    }
    ids: dict[str, Any] = {
        "correlation_id": uuid4(),
        "causation_id": uuid4(),
        "lease_id": uuid4(),
        "epoch": 3,
    }
    actions = [
        action(payload={"amount": 2.50}),
        action(action_type="Refused", payload=odd, **ids),
        action("document:\u00e4/\n1", "Kept", odd, **ids, reply_to="counter:9", depth=2),
        action("document:\u00e4/\n1", "Kept", {"transition": {"to": "there"}}),
        action("run:1", "Kept", {}, epoch=7, lease_id=uuid4()),
        action("run:1", "Kept", {}),
        action("run:1", "Kept", {}, epoch=6, lease_id=uuid4()),
        action("nobody:1", payload={"amount": 1}),
        action("counter:1", "Raised", {"message": "\u00e4"}, remember_s=None),
    ]
    for _ in range(2):
        commit = await folded(ports.store, *(replace(one, action_id=uuid4()) for one in actions))
        commit = replace(commit, committed_at=datetime.now(UTC))
        result = accepted(await ports.store.commit(commit))
        told = logged_events(commit, result)
        assert set(told) == set(RELAYED)
        assert told["fsm-state-transitioned"] is None, "a commit does not say where they stand"
        log = uuid4()
        for topic, first, count in (
            ("state-committed", result.state_committed_first, 5),
            ("reducer-gave-up", result.reducer_gave_up_first, 4),
        ):
            there = list(await ports.relayed.read(topic, 0, first, 100))
            events = list(told[topic] or ())
            assert len(events) == count
            assert events == there
            for event, logged_one in zip(events, there, strict=True):
                messages = [event_message(RELAYED[topic], 0, e, log) for e in (event, logged_one)]
                assert messages[0] == messages[1]


async def test_a_page_of_history_has_its_limit(ports: Ports) -> None:
    await committed(ports, *some(5))
    page = await ports.relayed.read("state-committed", 0, 2, 3)
    assert [event.offset for event in page] == [2, 3, 4]
    assert list(await ports.relayed.read("state-committed", 0, 6, 3)) == []


async def test_a_relays_position_begins_at_one_and_never_goes_back(ports: Ports) -> None:
    topic = "state-committed"
    assert await ports.relayed.position(topic, 0, FIRST) == 1
    await ports.relayed.advance(topic, 0, FIRST, 7)
    assert await ports.relayed.position(topic, 0, FIRST) == 7
    await ports.relayed.advance(topic, 0, FIRST, 4)
    assert await ports.relayed.position(topic, 0, FIRST) == 7
    assert await ports.relayed.position(topic, 1, FIRST) == 1
    assert await ports.relayed.position("reducer-gave-up", 0, FIRST) == 1


async def test_a_position_for_a_topic_that_was_made_again_is_an_error(ports: Ports) -> None:
    topic = "state-committed"
    await ports.relayed.position(topic, 0, FIRST)
    await ports.relayed.advance(topic, 0, FIRST, 7)
    with pytest.raises(TopicReplaced) as error:
        await ports.relayed.position(topic, 0, AGAIN)
    assert (error.value.topic, error.value.stored, error.value.actual) == (
        *(STATE_COMMITTED, FIRST, AGAIN),
    )
    with pytest.raises(TopicReplaced):
        await ports.relayed.advance(topic, 0, AGAIN, 9)
    assert await ports.relayed.position(topic, 0, FIRST) == 7


async def test_a_position_that_nobody_began_cannot_advance(ports: Ports) -> None:
    with pytest.raises(BusUnavailable):
        await ports.relayed.advance("state-committed", 0, FIRST, 2)


# -- what is taken over ------------------------------------------------------------------------


async def begun(ports: Ports, partition: int = 0, beginning: int = 0) -> int:
    return await ports.taken_over.position(partition, FIRST, beginning)


async def put(ports: Ports, target: int, actions: Sequence[SealedAction], of: BusSource) -> int:
    return (await ports.taken_over.take_over(target, actions, of)).added


async def test_what_stood_on_the_bus_is_appended_in_order_and_once(ports: Ports) -> None:
    asked = some(3)
    assert await begun(ports) == 0
    assert await put(ports, 0, asked, source(0, 9, [0, 4, 8])) == 3
    assert await put(ports, 0, asked, source(0, 9, [0, 4, 8])) == 0
    assert await logged(ports) == asked
    assert await begun(ports) == 9


async def test_of_messages_that_overlap_only_the_rest_is_new(ports: Ports) -> None:
    asked = some(4)
    await begun(ports)
    assert await put(ports, 0, asked[:2], source(0, 5, [1, 4])) == 2
    assert await put(ports, 0, asked, source(0, 12, [1, 4, 5, 11])) == 2
    assert await logged(ports) == asked
    assert await put(ports, 0, asked[:1], source(0, 3, [1])) == 0
    assert await begun(ports) == 12


async def test_a_position_moves_without_actions_too(ports: Ports) -> None:
    await begun(ports)
    assert await put(ports, 0, [], source(0, 5, [])) == 0
    assert await begun(ports) == 5
    assert await logged(ports) == []


async def test_a_topic_that_was_trimmed_before_is_begun_where_it_begins(ports: Ports) -> None:
    assert await begun(ports, beginning=40) == 40
    assert await begun(ports, beginning=90) == 40, "it had been begun"


async def test_who_would_leave_a_gap_is_refused(ports: Ports) -> None:
    await begun(ports)
    with pytest.raises(BrokenPromise):
        await ports.taken_over.take_over(0, some(1), source(3, 5, [4]))
    assert await begun(ports) == 0
    assert await logged(ports) == []


async def test_of_takers_at_once_each_message_is_taken_once(ports: Ports) -> None:
    asked = some(4)
    await begun(ports)
    added = await asyncio.gather(
        *(put(ports, 0, asked[:n], source(0, n, range(n))) for n in (2, 4, 3, 4))
    )
    assert sum(added) == 4
    assert await logged(ports) == asked


async def test_strays_have_a_position_of_their_own_in_each_target(ports: Ports) -> None:
    asked = some(4)
    await begun(ports, 0)
    await begun(ports, 1)
    assert await put(ports, 1, asked[:1], source(0, 6, [2])) == 1
    # Ours was not stored: read again, with more behind it.
    assert await put(ports, 1, asked[:2], source(0, 8, [2, 7])) == 1
    assert await put(ports, 0, asked[2:3], source(0, 8, [5])) == 1
    # Where nothing stood for it in between, there is no gap.
    assert await put(ports, 1, asked[3:], source(20, 22, [21])) == 1
    assert await logged(ports, 1) == [asked[0], asked[1], asked[3]]
    assert await logged(ports, 0) == [asked[2]]
    assert (await begun(ports, 0), await begun(ports, 1)) == (8, 0)


async def test_nothing_is_taken_from_a_topic_that_was_made_again(ports: Ports) -> None:
    await begun(ports)
    await ports.taken_over.take_over(0, some(1), source(0, 1, [0]))
    with pytest.raises(TopicReplaced) as error:
        await ports.taken_over.take_over(0, some(1), source(1, 9, [5], of=AGAIN))
    assert (error.value.topic, error.value.stored, error.value.actual) == (ACTION, FIRST, AGAIN)
    with pytest.raises(TopicReplaced):
        await ports.taken_over.position(0, AGAIN, 0)
    assert len(await logged(ports)) == 1
    assert await begun(ports) == 1


async def test_a_value_that_cannot_be_stored_takes_nothing_over(ports: Ports) -> None:
    await begun(ports)
    with pytest.raises(ValueRefused):
        await ports.taken_over.take_over(0, [action(), action("counter:\0")], source(0, 2, [0, 1]))
    assert await begun(ports) == 0
    assert await logged(ports) == []


async def test_what_is_not_due_is_a_timer_and_taken_once_too(ports: Ports) -> None:
    await begun(ports)
    later = action(due_at=await ports.beside.now() + timedelta(seconds=60))
    asked = [action(), later]
    assert await put(ports, 0, asked, source(0, 2, [0, 1])) == 2
    assert await put(ports, 0, asked, source(0, 2, [0, 1])) == 0
    assert await logged(ports) == asked[:1]
    await ports.beside.let_pass(timedelta(seconds=61))
    fired, _ = await ports.timers.fire(0, 10)
    assert fired == 1
    assert await logged(ports) == asked


async def test_it_is_told_where_actions_stand_that_stand_together(ports: Ports) -> None:
    asked = some(4)
    odd = action(
        "counter:\u00e4",
        payload={"amount": 2.50, "big": 1e16, "deep": [{"none": None, "text": "\u2028\n"}]},
        epoch=3,
        lease_id=uuid4(),
        correlation_id=uuid4(),
        causation_id=uuid4(),
        reply_to="counter:9",
        expected_version=7,
        remember_s=None,
    )
    asked[1] = replace(odd, occurred_at=datetime.fromisoformat("2026-01-01T12:00:00.123456+02:00"))
    take_over = ports.taken_over.take_over
    await begun(ports)
    assert await take_over(0, asked[:2], source(0, 2, [0, 1])) == TakenIn(2, 1)
    await ports.actions.append(0, some(3))  # others append there too
    assert await take_over(0, asked[2:3], source(2, 3, [2])) == TakenIn(1, 6)
    assert await take_over(0, asked[1:3], source(1, 3, [1, 2])) == TakenIn(0, None)
    assert await take_over(0, asked[2:], source(2, 4, [2, 3])) == TakenIn(1, None)
    assert await take_over(0, [], source(4, 5, [])) == TakenIn(0, None)
    soon = action(due_at=await ports.beside.now() + timedelta(seconds=60))
    due = action(due_at=await ports.beside.now() - timedelta(seconds=60))
    for n, each in enumerate((soon, due)):
        mixed = [action(), each, action()]
        offsets = range(5 + 3 * n, 8 + 3 * n)
        taken = await take_over(0, mixed, source(5 + 3 * n, 8 + 3 * n, offsets))
        assert taken == TakenIn(3, None)
    there = await ports.actions.read(0, 1, 100)
    assert not isinstance(there, CutOff)
    found = {entry.offset: entry.action for entry in there}
    assert (found[1], found[2], found[6]) == (asked[0], asked[1], asked[2]), "as it was told"


async def test_taking_over_does_not_wait_for_commits(ports: Ports) -> None:
    await begun(ports)
    async with ports.store.locked(0), asyncio.timeout(10):
        assert await put(ports, 0, [action()], source(0, 1, [0])) == 1
