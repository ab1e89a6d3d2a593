"""The reducer's door: a state and an action in, the next state and intents out, and no more."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import ValidationError

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import Action, Intent
from omninode_bridge.core.reducer import KeyType, Rejection, Transition
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.nodes.models import (
    ModelAction,
    ModelIntent,
    ModelReducerInput,
    ModelReducerMetadata,
    ModelReducerOutput,
    ModelRejection,
)
from omninode_bridge.nodes.reducer.v1_0_0.node import NodeBridgeReducer
from omninode_bridge.testing import SettableClock
from tests.bridges import app

ID: Final = UUID(int=1)
CLOCK: Final = SettableClock()


def _with_mail(state: dict[str, Any], _: Action) -> Transition | Rejection:
    sent = state.get("sent", 0) + 1
    mail = Intent("SendMail", "a@example.org", {"n": sent}, reply_to="mail:1", due_at=CLOCK())
    return Transition({"sent": sent}, (mail, Intent.submit("counter:1", "Counted", {})))


KEY_TYPES: Final = app.key_types() | {"mail": KeyType("mail", 1, _with_mail)}


def node() -> NodeBridgeReducer:
    return NodeBridgeReducer(KEY_TYPES, CanonicalCodec(), CLOCK)


def asked(
    action_type: str = "Counted",
    payload: dict[str, Any] | None = None,
    *,
    key: str = "counter:1",
    data: dict[str, Any] | None = None,
    version: int = 0,
) -> ModelReducerInput:
    action = ModelAction(
        action_id=ID,
        workflow_key=key,
        type=action_type,
        payload=payload or {},
        occurred_at=CLOCK(),
    )
    metadata = ModelReducerMetadata(action=action, version=version)
    return ModelReducerInput(data=data or {}, metadata=metadata)


def rejection(output: ModelReducerOutput) -> ModelRejection:
    assert isinstance(output.result, ModelRejection), output
    assert output.intents == ()
    return output.result


async def test_the_first_intent_is_to_persist_the_next_state() -> None:
    output = await node().process(
        asked(payload={"amount": 4}, data={"count": 1, "total": 3}, version=1)
    )
    assert output.result == {"count": 2, "total": 7}
    assert output.intents == (
        ModelIntent(
            intent_type="PersistState",
            target="store_effect",
            payload={
                "workflow_key": "counter:1",
                "expected_version": 1,
                "state_prime": {"count": 2, "total": 7},
                "action_id": str(ID),
            },
        ),
    )
    assert output.items_processed == 1


async def test_the_intents_of_the_reducer_follow_as_they_are() -> None:
    output = await node().process(asked("Sent", key="mail:1"))
    first, *others = output.intents
    assert first.intent_type == "PersistState"
    assert others == [
        ModelIntent(
            intent_type="SendMail",
            target="a@example.org",
            payload={"n": 1},
            reply_to="mail:1",
            due_at=CLOCK(),
        ),
        ModelIntent(
            intent_type="SubmitAction",
            target="counter:1",
            payload={"key": "counter:1", "type": "Counted", "payload": {}},
        ),
    ]


@pytest.mark.parametrize(
    ("reducer_input", "reason", "says"),
    [
        (asked("Refused"), "rejected", "as you wished"),
        (asked("Raised", {"message": "a bug"}), "reducer_error", "a bug"),
        (asked("NaN"), "reducer_error", "is not a JSON number"),
        (asked(key="nobodys:1"), "invalid", "no reducer is registered for keys nobodys:..."),
    ],
)
async def test_an_action_that_is_given_up_is_a_rejection_without_intents(
    reducer_input: ModelReducerInput, reason: str, says: str
) -> None:
    told = rejection(await node().process(reducer_input))
    assert (told.reason, told.version) == (reason, 0)
    assert says in told.detail


async def test_a_reducer_that_changes_its_input_changes_no_input() -> None:
    reducer_input = asked("Mutated", {"amount": 1}, data={"count": 1, "total": 1}, version=1)
    rejection(await node().process(reducer_input))
    assert reducer_input.data == {"count": 1, "total": 1}
    assert reducer_input.metadata.action.payload == {"amount": 1}


async def test_equal_input_gives_equal_output_whatever_time_it_takes() -> None:
    first = await node().process(asked(payload={"amount": 4}))
    second = await node().process(asked(payload={"amount": 4}))
    assert first == second
    assert first.processing_time_ms > 0
    assert first == first.model_copy(update={"processing_time_ms": 1e9})
    assert first != first.model_copy(update={"items_processed": 2})
    assert first != "something else"


async def test_an_output_is_read_back_from_json_as_it_was() -> None:
    for reducer_input in (asked(payload={"amount": 4}), asked("Refused")):
        output = await node().process(reducer_input)
        assert ModelReducerOutput.model_validate_json(output.model_dump_json()) == output


async def test_an_input_may_come_as_the_message_of_the_plan() -> None:
    document = {
        "data": {"count": 1, "total": 3},
        "metadata": {
            "action": {
                "action_id": str(ID),
                "workflow_key": "counter:1",
                "type": "Counted",
                "payload": {"amount": 4},
                "occurred_at": "2026-01-01T12:00:00Z",
            },
            "version": 1,
        },
    }
    output = await node().process(ModelReducerInput.model_validate(document))
    assert output.result == {"count": 2, "total": 7}


@pytest.mark.parametrize(
    ("reducer_input", "field"),
    [
        (asked(data={"when": {1, 2}}, version=1), "data"),
        (asked(payload={"when": float("nan")}), "payload"),
    ],
)
async def test_what_is_no_json_is_refused_by_its_field(
    reducer_input: ModelReducerInput, field: str
) -> None:
    with pytest.raises(InvalidAction) as error:
        await node().process(reducer_input)
    assert error.value.field == field


def test_messages_take_nothing_that_is_not_theirs() -> None:
    with pytest.raises(ValidationError):
        ModelReducerInput.model_validate({"data": {}, "metadata": {"version": 0}})
    with pytest.raises(ValidationError):
        ModelReducerInput.model_validate(asked().model_dump() | {"more": 1})
    with pytest.raises(ValidationError, match="never seen"):
        asked(data={"count": 1}, version=0)
    with pytest.raises(ValidationError, match="frozen"):
        asked().data = {}  # type: ignore[misc]


def test_a_state_without_an_intent_is_no_output() -> None:
    told = ModelRejection(reason="rejected", detail="", version=0)
    persist = ModelIntent(intent_type="PersistState", payload={})
    with pytest.raises(ValidationError):
        ModelReducerOutput(result={}, intents=(), items_processed=1, processing_time_ms=0)
    with pytest.raises(ValidationError, match="a rejection not"):
        ModelReducerOutput(result=told, intents=(persist,), items_processed=1, processing_time_ms=0)
