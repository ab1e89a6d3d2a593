"""Keys, names and ids are well formed or refused, and equal content has one hash."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.errors import GaveUp, InvalidAction
from omninode_bridge.core.message import (
    DEPTH_MAX,
    REMEMBER_S,
    SUBMIT_ACTION,
    Intent,
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    check_name,
    check_workflow_key,
    content_hash,
    intent_id,
    key_type_of,
    reply_id,
)
from tests.unit.actions import (
    CODEC,
    COMMITTED_AT,
    EFFECT_ID,
    KEY,
    json_objects,
    sealed,
    storable_text,
)

ID = UUID(int=1)
PROVENANCE = Provenance(EFFECT_ID, COMMITTED_AT, ID, "Counted", None, None, None, "0" * 64)
COMMITTED = StateCommitted(KEY, 1, ID, 1, PROVENANCE)
GAVE_UP = ReducerGaveUp(KEY, ID, 1, "rejected", "no", 0)


@pytest.mark.parametrize(
    "workflow_key",
    [
        "a:b",  # 3 bytes
        "order:17",
        "a::",  # an id may hold colons
        "a:b:c",
        "order:" + "x" * 506,  # 512 bytes
        "ö:" + "日" * 169 + "xx",  # 512 bytes in 173 characters
        "a: ",
        "a:\n",
    ],
)
def test_a_well_formed_key_comes_back(workflow_key: str) -> None:
    assert check_workflow_key(workflow_key) == workflow_key


@pytest.mark.parametrize(
    ("workflow_key", "says"),
    [
        ("", "has 0 bytes; 3 to 512 are allowed"),
        ("a:", "has 2 bytes"),
        ("order:" + "x" * 507, "has 513 bytes"),
        ("ö:" + "日" * 170, "has 513 bytes"),
        ("order:a\0b", "NUL"),
        ("\0\0:\0", "NUL"),
        ("order", "'order' is not of the form type:id"),
        (":17", "not of the form type:id"),
        ("order:", "not of the form type:id"),
        (":::", "not of the form type:id"),
        ("order:\ud800", "lone surrogate"),
        (17, "is a int, not text"),
        (b"order:17", "is a bytes, not text"),
        (None, "is a NoneType, not text"),
    ],
)
def test_a_malformed_key_is_refused_and_says_why(workflow_key: object, says: str) -> None:
    with pytest.raises(InvalidAction, match=says) as refused:
        check_workflow_key(workflow_key)  # type: ignore[arg-type]
    assert refused.value.field == "workflow_key"
    refused.value.detail.encode()


@given(st.text())
def test_whatever_passes_as_a_key_has_a_type_and_an_id_and_can_be_stored(text: str) -> None:
    try:
        check_workflow_key(text)
    except InvalidAction:
        return
    assert 3 <= len(text.encode()) <= 512
    assert "\0" not in text
    key_type, colon, key_id = text.partition(":")
    assert key_type == key_type_of(text)
    assert (bool(key_type), colon, bool(key_id)) == (True, ":", True)


@pytest.mark.parametrize("name", ["a", " ", "Placed", "ö" * 100, "x" * 200])
def test_a_well_formed_name_comes_back(name: str) -> None:
    assert check_name("type", name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "has 0 bytes; 1 to 200 are allowed"),
        ("x" * 201, "has 201 bytes"),
        ("ö" * 101, "has 202 bytes"),
        ("a\0", "NUL"),
        ("\udfff", "lone surrogate"),
        (None, "is a NoneType, not text"),
        (7, "is a int, not text"),
    ],
)
def test_a_malformed_name_is_refused_by_the_field_it_is_for(name: object, says: str) -> None:
    with pytest.raises(InvalidAction, match=says) as refused:
        check_name("reply_to", name)
    assert refused.value.field == "reply_to"


def test_the_hash_of_a_content_is_over_type_and_payload() -> None:
    expected = hashlib.sha256(b'Counted\0{"amount":1}').hexdigest()
    assert content_hash("Counted", b'{"amount":1}') == expected


@given(storable_text, json_objects, storable_text, json_objects)
def test_contents_have_one_hash_exactly_when_they_are_equal(
    one_type: str, one: dict[str, Any], other_type: str, other: dict[str, Any]
) -> None:
    first, second = CODEC.encode(one), CODEC.encode(other)
    same = (one_type, first) == (other_type, second)
    assert (content_hash(one_type, first) == content_hash(other_type, second)) == same
    assert content_hash(one_type, first) == content_hash(one_type, bytes(bytearray(first)))


def test_opening_an_action_keeps_all_of_it_but_the_askers_terms() -> None:
    action = replace(
        sealed("Counted", {"amount": 1}),
        epoch=1,
        lease_id=UUID(int=2),
        correlation_id=UUID(int=3),
        causation_id=UUID(int=4),
        depth=5,
        reply_to="me",
        expected_version=6,
        remember_s=None,
    )
    opened = action.open(CODEC.decode)
    assert opened.payload == {"amount": 1}
    for field in (
        "action_id",
        "workflow_key",
        "type",
        "occurred_at",
        "epoch",
        "lease_id",
        "correlation_id",
        "causation_id",
        "depth",
        "reply_to",
    ):
        assert getattr(opened, field) == getattr(action, field)


def test_every_opening_has_a_payload_of_its_own() -> None:
    action = sealed("Counted", {"lines": [1]})
    action.open(CODEC.decode).payload["lines"].append(2)
    assert action.open(CODEC.decode).payload == {"lines": [1]}


def test_a_word_once_said_does_not_change() -> None:
    for word in (sealed(), sealed().open(CODEC.decode), Intent("Mail"), COMMITTED, GAVE_UP):
        with pytest.raises(FrozenInstanceError):
            setattr(word, fields(word)[0].name, None)


def test_an_outcome_is_remembered_for_six_hours_unless_the_asker_says_otherwise() -> None:
    assert sealed().remember_s == REMEMBER_S == 6 * 60 * 60


def test_a_chain_of_follow_ups_and_answers_is_at_most_1_024_long() -> None:
    assert DEPTH_MAX == 1_024


def test_a_follow_up_names_its_key_twice_and_carries_type_and_payload() -> None:
    intent = Intent.submit("order:1", "Placed", {"total": 40})
    assert intent.intent_type == SUBMIT_ACTION
    assert intent.target == "order:1"
    assert intent.payload == {"key": "order:1", "type": "Placed", "payload": {"total": 40}}


def test_an_intent_needs_no_target_and_no_payload() -> None:
    assert Intent("SendReceipt") == Intent("SendReceipt", "", {})


@given(st.uuids(), st.integers(0, 1_000))
def test_the_id_of_an_intent_is_stable_and_its_own(action_id: UUID, ordinal: int) -> None:
    assert intent_id(action_id, ordinal) == uuid5(action_id, str(ordinal))
    assert reply_id(action_id) == uuid5(action_id, "reply")
    ids = {intent_id(action_id, ordinal), intent_id(action_id, ordinal + 1), reply_id(action_id)}
    assert len(ids) == 3


@given(st.uuids(), st.uuids(), st.integers(1, 1_000))
def test_what_is_redriven_is_answered_under_an_id_of_its_own(
    asked_id: UUID, redrive_id: UUID, redriven: int
) -> None:
    assert reply_id(asked_id, 0) == reply_id(asked_id)
    assert reply_id(asked_id, redrive_id) == uuid5(asked_id, f"reply/{redrive_id}")
    answers = [None, redrive_id, redriven, redriven + 1]
    assert len({reply_id(asked_id, redrive) for redrive in answers}) == 4


def test_a_commit_is_committed() -> None:
    assert COMMITTED.committed() is COMMITTED


def test_a_give_up_asked_for_its_commit_raises_with_its_reason() -> None:
    with pytest.raises(GaveUp) as raised:
        GAVE_UP.committed()
    error = raised.value
    assert (error.workflow_key, error.action_id) == (KEY, ID)
    assert (error.reason, error.detail) == ("rejected", "no")


def test_a_duplicate_is_told_the_same_outcome() -> None:
    assert replace(COMMITTED, duplicate=True) == COMMITTED
    assert replace(GAVE_UP, duplicate=True) == GAVE_UP
