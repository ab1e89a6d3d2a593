"""Commits and answers as messages: what is read is what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge import Action, Intent, Rejection, Transition
from omninode_bridge.core.commit import Accepted, Commit, Move, Refusal
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, KeyType, Step, fold
from omninode_bridge.core.topics import PERSIST_ANSWERED, PERSIST_STATE
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.infrastructure.kafka.persist_messages import (
    answer_message,
    persist_id_of,
    persist_message,
    read_answer_message,
    read_persist_message,
)
from omninode_bridge.ports import Unstorable
from tests.asyncapi import check_message
from tests.unit.actions import CODEC, COMMITTED_AT, EFFECT_ID, KEY, json_objects, sealed

TOKEN: Final = UUID(int=9)


def _keep(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Keep what comes, and ask for whatever can be asked for."""
    if action.type == "Refused":
        return Rejection("as you wished")
    later = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
    asked = (
        Intent("SendMail", "somebody", {"said": action.payload}),
        Intent("SendMail", "later", {}, due_at=later),
        Intent.submit("counter:2", "Counted", {"amount": 1}),
    )
    return Transition({"kept": [*state.get("kept", ()), action.payload]}, asked)


KEPT: Final = KeyType("counter", 3, _keep, fenced=True)


def check(topic: str, message: Message) -> None:
    """Assert that a message is what the document says of its topic."""
    check_message(topic, {name: said or b"" for name, said in message.headers}, message.value)


def commit_of(*steps: Step, move: Move | None = None) -> Commit:
    """Return a commit of these steps."""
    reads = {step.action.workflow_key: 0 for step in steps}
    return Commit(2, TOKEN, reads, steps, COMMITTED_AT, EFFECT_ID, move, 2)


@given(
    st.lists(st.tuples(st.sampled_from(["Kept", "Refused"]), json_objects), max_size=4),
    st.one_of(st.none(), st.builds(Move, st.integers(1, 9), st.integers(10, 19))),
    st.sampled_from([None, 3600.0, 21600.0]),
)
def test_a_commit_is_read_as_it_was_written(
    asked: list[tuple[str, dict[str, Any]]], move: Move | None, remember_s: float | None
) -> None:
    actions = [
        replace(
            sealed(type_, payload=payload),
            action_id=UUID(int=n),
            remember_s=remember_s,
            epoch=4,
            lease_id=UUID(int=5),
        )
        for n, (type_, payload) in enumerate(asked)
    ]
    _, steps = fold(NEVER_SEEN, actions, KEPT, CODEC, COMMITTED_AT)
    commit = commit_of(*steps, move=move)
    message = persist_message(commit)
    check(PERSIST_STATE, message)
    read = read_persist_message(message, CODEC)
    absorbed = [step for step in steps if isinstance(step, Absorbed)]
    kept = [
        replace(step, snapshot=replace(step.snapshot, state=b""))
        if isinstance(step, Absorbed) and step is not absorbed[-1]
        else step
        for step in steps
    ]
    assert read == replace(commit, steps=kept, reads=dict(commit.reads))


def test_a_commit_names_position_token_and_epoch() -> None:
    action = replace(sealed("Kept"), epoch=4, lease_id=UUID(int=5))
    _, steps = fold(NEVER_SEEN, [action], KEPT, CODEC, COMMITTED_AT)
    message = persist_message(commit_of(*steps, move=Move(7, 8)))
    fields = orjson.loads(message.value or b"")
    assert message.key == KEY.encode()
    assert fields["position"] == {"expected": 7, "next": 8}
    assert (fields["token"], fields["steps"][0]["epoch"]) == (str(TOKEN), 4)


ANSWERS: Final = [
    Accepted(4, 1, 9),
    Refusal(not_owner=True),
    Refusal(moved=True, stale={KEY: 3}),
    Unstorable("22P05", "a character that is none"),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_read_as_it_was_given(answer: Accepted | Refusal | Unstorable) -> None:
    _, steps = fold(NEVER_SEEN, [sealed("Kept")], KEPT, CODEC, COMMITTED_AT)
    message = answer_message(commit_of(*steps), answer)
    check(PERSIST_ANSWERED, message)
    assert read_answer_message(message) == answer
    assert persist_id_of(message) == str(EFFECT_ID)


def test_what_is_known_is_told_by_name() -> None:
    _, steps = fold(NEVER_SEEN, [sealed("Kept")], KEPT, CODEC, COMMITTED_AT)
    unnamed: Any = None
    name = (KEY, steps[0].action.action_id)
    message = answer_message(commit_of(*steps), Refusal(known={name: unnamed}))
    check(PERSIST_ANSWERED, message)
    answer = read_answer_message(message)
    assert isinstance(answer, Refusal)
    assert list(answer.known) == [name]


def test_foreign_bytes_are_no_commit_and_no_answer() -> None:
    _, steps = fold(NEVER_SEEN, [sealed("Kept")], KEPT, CODEC, COMMITTED_AT)
    commit = persist_message(commit_of(*steps))
    answer = answer_message(commit_of(*steps), Accepted(1, 1, 1))
    for value in (b"", b"{}", b"[]", b"null", b'{"partition": 1}'):
        with pytest.raises(NotReadable):
            read_persist_message(replace(commit, value=value), CODEC)
        with pytest.raises(NotReadable):
            read_answer_message(replace(answer, value=value))
    with pytest.raises(NotReadable, match="its type is"):
        read_persist_message(answer, CODEC)
    with pytest.raises(NotReadable):
        read_answer_message(Message(None, b"{}", ()))
    assert persist_id_of(commit) is None
