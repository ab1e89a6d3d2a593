"""Entries of the log as messages: they tell what the log tells, and where it stands there."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

import orjson
import pytest
from cloudevents.core.bindings import kafka as cloud_events_kafka

from omninode_bridge.core.commit import Commit, gave_up, provenance_of
from omninode_bridge.core.message import StateCommitted, StateConflict
from omninode_bridge.core.reducer import NEVER_SEEN, Refused, fold
from omninode_bridge.core.topics import (
    FSM_STATE_TRANSITIONED,
    REDUCER_GAVE_UP,
    STATE_COMMITTED,
    STATE_CONFLICT,
)
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable
from omninode_bridge.infrastructure.kafka.event_messages import (
    LogPlace,
    conflict_message,
    event_message,
    place_of,
    read_event_message,
)
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.ports import LoggedEvent
from tests.asyncapi import check_message
from tests.unit.actions import CODEC, COMMITTED_AT, COUNTER, EFFECT_ID, KEY, absorbed, sealed

LOG: Final = UUID(int=7)
STEP: Final = absorbed(
    fold(NEVER_SEEN, [sealed(payload={"amount": 1})], COUNTER, CODEC, COMMITTED_AT)[1][0]
)
COMMIT: Final = Commit(2, None, {KEY: 0}, [STEP], COMMITTED_AT, EFFECT_ID)
COMMITTED: Final = LoggedEvent(
    17, KEY, STEP.action.action_id, 1, COMMITTED_AT, wire.committed_text(STEP, COMMIT).encode()
)


def check(topic: str, message: Message) -> None:
    """Assert that a message is what the document says of its topic."""
    check_message(topic, {name: said or b"" for name, said in message.headers}, message.value)


def test_a_commit_is_told_as_the_log_tells_it() -> None:
    message = event_message(STATE_COMMITTED, 2, COMMITTED, LOG)
    check(STATE_COMMITTED, message)
    assert message.key == KEY.encode()
    provenance = provenance_of(STEP, COMMIT)
    expected = StateCommitted(KEY, 1, STEP.action.action_id, 17, provenance)
    assert read_event_message(message) == expected
    fields = orjson.loads(message.value or b"")
    body = orjson.loads(COMMITTED.body)
    assert fields == body | {
        "workflow_key": KEY,
        "version": 1,
        "action_id": str(STEP.action.action_id),
        "commit_offset": 17,
        "committed_at": COMMITTED_AT.isoformat(),
    }


def test_a_give_up_is_told_as_the_log_tells_it() -> None:
    step = Refused(sealed(), "rejected", "as you wished", 3)
    body = wire.gave_up_text(step, COMMIT).encode()
    event = LoggedEvent(4, KEY, step.action.action_id, 3, COMMITTED_AT, body)
    message = event_message(REDUCER_GAVE_UP, 0, event, LOG)
    check(REDUCER_GAVE_UP, message)
    assert read_event_message(message) == gave_up(step, 1)


def test_a_transition_tells_no_asker_and_has_its_time() -> None:
    named = b"00000000-0000-0000-0000-000000000001"
    body = b'{"workflow_key":"fsm:1","version":2,"action_id":"%b","transition":{}}' % named
    event = LoggedEvent(1, "fsm:1", UUID(int=1), None, COMMITTED_AT, body)
    message = event_message(FSM_STATE_TRANSITIONED, 0, event, LOG)
    check(FSM_STATE_TRANSITIONED, message)
    assert read_event_message(message) is None
    assert orjson.loads(message.value or b"") == orjson.loads(body) | {
        "committed_at": COMMITTED_AT.isoformat()
    }


def test_a_repeat_is_told_by_its_place_in_the_log() -> None:
    message = event_message(STATE_COMMITTED, 2, COMMITTED, LOG)
    again = event_message(STATE_COMMITTED, 2, COMMITTED, LOG)
    assert place_of(message, 2) == place_of(again, 2) == LogPlace(str(LOG), STATE_COMMITTED, 2, 17)
    other = event_message(STATE_COMMITTED, 2, replace(COMMITTED, offset=18), LOG)
    assert place_of(other, 2) != place_of(message, 2)
    assert dict(other.headers)["ce_id"] != dict(message.headers)["ce_id"]


def test_a_conflict_is_read_back() -> None:
    conflict = StateConflict(KEY, 1, 2, UUID(int=9))
    message = conflict_message(conflict, "urn:here")
    check(STATE_CONFLICT, message)
    assert read_event_message(message) == conflict


def test_an_action_with_all_that_can_be_said_is_told_as_the_document_says() -> None:
    every = replace(
        sealed(payload={"amount": 1}),
        epoch=3,
        lease_id=UUID(int=1),
        correlation_id=UUID(int=2),
        causation_id=UUID(int=3),
        depth=4,
        reply_to="counter:2",
        due_at=COMMITTED_AT,
        purpose="redrive",
        redrive_id=UUID(int=5),
    )
    _, (step,) = fold(NEVER_SEEN, [every], replace(COUNTER, fenced=True), CODEC, COMMITTED_AT)
    body = wire.committed_text(absorbed(step), COMMIT).encode()
    event = LoggedEvent(1, KEY, every.action_id, 1, COMMITTED_AT, body)
    check(STATE_COMMITTED, event_message(STATE_COMMITTED, 0, event, LOG))
    refused = Refused(every, "invalid", "it cannot be stored", 0, payload_kept=False)
    gave_up_body = wire.gave_up_text(refused, COMMIT).encode()
    given_up = LoggedEvent(1, KEY, every.action_id, 0, COMMITTED_AT, gave_up_body)
    check(REDUCER_GAVE_UP, event_message(REDUCER_GAVE_UP, 0, given_up, LOG))


def test_the_cloudevents_sdk_reads_an_event() -> None:
    message = event_message(STATE_COMMITTED, 2, COMMITTED, LOG)
    headers = {name: value or b"" for name, value in message.headers}
    read = cloud_events_kafka.from_binary_event(
        cloud_events_kafka.KafkaMessage(headers, message.key, message.value or b"")
    )
    assert read.get_type() == STATE_COMMITTED
    assert read.get_source() == f"urn:omninode-bridge:{LOG}"
    assert read.get_id() == f"{STATE_COMMITTED}/2/17"
    assert read.get_subject() == KEY
    assert read.get_time() == COMMITTED_AT
    assert read.get_extension("logoffset") == "17"
    assert read.get_data()["commit_offset"] == 17  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    "message",
    [
        Message(None, b"{}"),
        Message(b"a:b", b"{}", event_message(STATE_COMMITTED, 2, COMMITTED, LOG).headers),
        Message(b"a:b", b"[]", event_message(STATE_COMMITTED, 2, COMMITTED, LOG).headers),
        Message(b"a:b", None, event_message(STATE_COMMITTED, 2, COMMITTED, LOG).headers),
    ],
)
def test_what_is_no_event_is_not_readable(message: Message) -> None:
    with pytest.raises(NotReadable):
        read_event_message(message)


def test_what_says_no_place_has_none() -> None:
    headers = tuple(
        (name, value)
        for name, value in event_message(STATE_COMMITTED, 2, COMMITTED, LOG).headers
        if name != "ce_logoffset"
    )
    with pytest.raises(NotReadable, match="where in the log"):
        place_of(Message(b"a:b", b"{}", headers), 2)
