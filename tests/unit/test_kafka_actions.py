"""Actions as messages: what is written is read back; what anybody else writes is no error."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from uuid import UUID

import pytest
from cloudevents.core.bindings import kafka as cloud_events_kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st

from omninode_bridge.core.message import PAYLOAD_BYTES_MAX, SealedAction
from omninode_bridge.core.topics import ACTION
from omninode_bridge.infrastructure.kafka.action_messages import (
    VALUE_BYTES_MAX,
    NotAnAction,
    action_message,
    read_action_message,
)
from omninode_bridge.infrastructure.kafka.header_tables import ACTION_HEADERS
from omninode_bridge.infrastructure.kafka.message import Message
from tests.asyncapi import check_message
from tests.unit.actions import CODEC, LEASE, OCCURRED_AT, json_objects, sealed, storable_text

SOURCE: Final = "urn:a-shop"
GOOD: Final = action_message(sealed(payload={"amount": 1}), SOURCE)

offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets)  # noqa: DTZ001
short_text = storable_text.filter(lambda text: 1 <= len(text.encode()) <= 200)
keys = st.builds("{}:{}".format, short_text.filter(lambda text: ":" not in text), short_text)
maybe_id = st.none() | st.uuids()
counts = st.none() | st.integers(0, 2**63 - 1)
actions = st.builds(
    SealedAction,
    action_id=st.uuids(),
    workflow_key=keys,
    type=short_text,
    payload=json_objects.map(CODEC.encode),
    occurred_at=moments,
    epoch=counts,
    lease_id=maybe_id,
    correlation_id=maybe_id,
    causation_id=maybe_id,
    reply_to=st.none() | keys,
    expected_version=counts,
    remember_s=st.none() | st.integers(0, 10**15).map(lambda us: us / 10**6),
    due_at=st.none() | moments,
)


def with_header(name: str, value: bytes | None) -> Message:
    """Return a good message but for one header; None: without it."""
    others = tuple((key, said) for key, said in GOOD.headers if key != name)
    return replace(GOOD, headers=others if value is None else (*others, (name, value)))


def reason(message: Message) -> str:
    read = read_action_message(message, CODEC)
    assert isinstance(read, NotAnAction), read
    return read.reason


@given(actions)
def test_an_action_is_read_back_as_it_was_written(action: SealedAction) -> None:
    assert read_action_message(action_message(action, SOURCE), CODEC) == action


@given(actions)
@example(replace(sealed(), workflow_key="a:\n", reply_to="b:\n\n", type="\n"))
def test_an_action_is_written_as_the_document_says(action: SealedAction) -> None:
    message = action_message(action, SOURCE)
    headers = {name: value or b"" for name, value in message.headers}
    assert headers.keys() <= ACTION_HEADERS.keys()
    check_message(ACTION, headers, message.value)


@pytest.mark.parametrize("name", [name for name, each in ACTION_HEADERS.items() if each.required])
def test_a_header_that_the_document_requires_is_required(name: str) -> None:
    assert f"{name} is missing" in reason(with_header(name, None))


@pytest.mark.parametrize(
    "name", [name for name, each in ACTION_HEADERS.items() if not each.required]
)
def test_a_header_that_the_document_does_not_require_may_be_missing(name: str) -> None:
    assert isinstance(read_action_message(with_header(name, None), CODEC), SealedAction)


@given(
    st.none() | st.binary(max_size=40),
    st.none() | st.binary(max_size=80),
    st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in GOOD.headers]) | st.text(max_size=20),
            st.none() | st.binary(max_size=40),
        ),
        max_size=8,
    ),
)
def test_whatever_the_bytes_are_they_are_an_action_or_a_reason(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    read = read_action_message(Message(key, value, tuple(headers)), CODEC)
    assert isinstance(read, NotAnAction)
    assert read.reason


@given(st.sampled_from([name for name, _ in GOOD.headers]), st.none() | st.binary(max_size=60))
@example("ce_time", b"2026-02-30T00:00:00Z")
@example("ce_time", b"9999-12-31T23:59:59-12:00")
@example("ce_actiontype", b"\xff")
def test_whatever_one_header_is_the_message_is_an_action_or_a_reason(
    name: str, value: bytes | None
) -> None:
    read = read_action_message(with_header(name, value), CODEC)
    assert isinstance(read, SealedAction | NotAnAction)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_whatever_the_value_is_the_message_is_an_action_or_a_reason(value: bytes) -> None:
    assert isinstance(
        read_action_message(replace(GOOD, value=value), CODEC), SealedAction | NotAnAction
    )


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (replace(GOOD, key=None), "no key"),
        (replace(GOOD, key=b"\xff\xfe"), "key is not UTF-8"),
        (replace(GOOD, key=b"nocolon"), "not of the form type:id"),
        (replace(GOOD, key=b"a:\0"), "NUL"),
        (replace(GOOD, key=b"a:" + b"x" * 511), "513 bytes"),
        (replace(GOOD, headers=()), "ce_specversion is missing"),
        (with_header("ce_specversion", b"0.3"), "'0.3' is an unknown version"),
        (with_header("ce_type", None), "ce_type is missing"),
        (with_header("ce_type", b"onex.cmd.omninode-bridge.action.v2"), "only 'onex.cmd"),
        (with_header("ce_source", None), "ce_source is missing"),
        (with_header("ce_id", None), "ce_id is missing"),
        (with_header("ce_id", b"17"), "not a UUID"),
        (with_header("ce_id", b"{12345678-1234-5678-1234-567812345678}"), "not a UUID"),
        (with_header("ce_time", None), "ce_time is missing"),
        (with_header("ce_time", b"yesterday"), "not a time as RFC 3339"),
        (with_header("ce_time", b"2026-01-01T00:00:00"), "not a time as RFC 3339"),
        (with_header("ce_time", b"2026-13-01T00:00:00Z"), "month"),
        (with_header("ce_actiontype", None), "ce_actiontype is missing"),
        (with_header("ce_actiontype", b"x" * 201), "201 bytes"),
        (with_header("ce_actiontype", b"EffectAnswered"), "the bridge's own"),
        (with_header("ce_actiontype", b"StateReplaced"), "the bridge's own"),
        (with_header("ce_subject", b"\xff"), "ce_subject is not UTF-8"),
        (with_header("ce_epoch", b"-1"), "not a whole number"),
        (with_header("ce_epoch", b"9223372036854775808"), "are allowed"),
        (with_header("ce_expectedversion", "٣".encode()), "not a whole number"),
        (with_header("ce_leaseid", b"x"), "not a UUID"),
        (with_header("ce_replyto", b"nobody"), "type:id"),
        (with_header("ce_dueat", b"soon"), "not a time"),
        (with_header("ce_rememberseconds", b"nan"), "not a number of seconds"),
        (with_header("ce_rememberseconds", b"9999999999"), "up to 36525 days"),
        (with_header("content-type", b"application/avro"), "not application/json"),
        (replace(GOOD, headers=(*GOOD.headers, ("CE_ID", b"1"))), "more than once"),
        (replace(GOOD, value=None), "no value"),
        (replace(GOOD, value=b""), "not JSON"),
        (replace(GOOD, value=b"<xml/>"), "not JSON"),
        (replace(GOOD, value=b'{"a":1'), "not JSON"),
        (replace(GOOD, value=b"[1]"), "not a JSON object"),
        (replace(GOOD, value=b'{"a":"\\u0000"}'), "NUL"),
        (replace(GOOD, value=b'{"a":' * 300 + b"1" + b"}" * 300), "cannot be stored"),
        (replace(GOOD, value=b'{"a":18446744073709551616}'), "does not fit into 64 bits"),
        (replace(GOOD, value=b'{"a":-9223372036854775809}'), "does not fit into 64 bits"),
        (replace(GOOD, value=b'{"a":' + b"1" * 300 + b"}"), "does not fit into 64 bits"),
        (replace(GOOD, value=b'{"a":"' + b"x" * PAYLOAD_BYTES_MAX + b'"}'), "are allowed"),
        (replace(GOOD, value=b" " * VALUE_BYTES_MAX + b"{}"), "are looked at"),
    ],
)
def test_foreign_bytes_are_told_apart_with_their_reason(message: Message, says: str) -> None:
    assert says in reason(message)


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 10**18])
def test_integers_of_64_bits_come_through_unrounded(number: int) -> None:
    message = replace(GOOD, value=b'{"a":%d}' % number)
    read = read_action_message(message, CODEC)
    assert isinstance(read, SealedAction)
    assert read.payload == b'{"a":%d}' % number


def test_white_space_and_the_order_of_fields_do_not_matter() -> None:
    message = replace(GOOD, value=b' { "b" : 2 ,\n "a" : 1 } ')
    read = read_action_message(message, CODEC)
    assert isinstance(read, SealedAction)
    assert read.payload == b'{"a":1,"b":2}'


def test_an_attribute_nobody_knows_is_no_reason_to_refuse() -> None:
    message = replace(GOOD, headers=(*GOOD.headers, ("ce_traceparent", b"00-1"), ("mine", None)))
    assert isinstance(read_action_message(message, CODEC), SealedAction)


def test_what_only_the_bridge_says_is_not_read_and_not_written() -> None:
    headers = (*GOOD.headers, ("ce_purpose", b"cancel"), ("ce_depth", b"7"))
    read = read_action_message(replace(GOOD, headers=headers), CODEC)
    assert isinstance(read, SealedAction)
    assert (read.purpose, read.depth) == ("apply", 0)
    for said in ({"depth": 1}, {"purpose": "cancel"}, {"redrive_id": LEASE}):
        with pytest.raises(ValueError, match="do not travel"):
            action_message(replace(sealed(), **said), SOURCE)


# -- with the SDK of CloudEvents, as others would -----------------------------


def test_an_event_of_the_cloudevents_sdk_is_an_action() -> None:
    event = CloudEvent(
        {
            "type": ACTION,
            "source": SOURCE,
            "id": "6f2bb8a4-8a0f-4f0c-9d0e-1f3a7a1f2a11",
            "time": OCCURRED_AT,
            "datacontenttype": "application/json",
            "partitionkey": "order:17",
            "actiontype": "Placed",
            "expectedversion": "0",
        },
        {"total": 40, "mail": "ä@example.org"},
    )
    written = cloud_events_kafka.to_binary_event(event)
    assert isinstance(written.key, str)
    message = Message(written.key.encode(), written.value, tuple(written.headers.items()))
    assert read_action_message(message, CODEC) == SealedAction(
        UUID("6f2bb8a4-8a0f-4f0c-9d0e-1f3a7a1f2a11"),
        "order:17",
        "Placed",
        CODEC.encode({"total": 40, "mail": "ä@example.org"}),
        OCCURRED_AT,
        expected_version=0,
    )


@given(actions)
def test_the_cloudevents_sdk_reads_what_we_write(action: SealedAction) -> None:
    message = action_message(action, SOURCE)
    assert message.key is not None
    assert message.value is not None
    headers = {name: value or b"" for name, value in message.headers}
    read = cloud_events_kafka.from_binary_event(
        cloud_events_kafka.KafkaMessage(headers, message.key, message.value)
    )
    assert read.get_id() == str(action.action_id)
    assert read.get_type() == ACTION
    assert read.get_source() == SOURCE
    assert read.get_subject() == action.workflow_key
    assert read.get_extension("actiontype") == action.type
    assert read.get_extension("partitionkey") == action.workflow_key
    assert read.get_time() == action.occurred_at
    assert CODEC.encode(read.get_data()) == action.payload


def test_a_moment_is_written_with_its_own_offset() -> None:
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    headers = dict(action_message(replace(sealed(), occurred_at=tokyo), SOURCE).headers)
    assert headers["ce_time"] == b"2026-01-01T09:00:00+09:00"
    assert tokyo == datetime(2026, 1, 1, tzinfo=UTC)
