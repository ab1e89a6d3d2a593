"""Commits that a reducer sends to a store effect, and the answers, as messages: CloudEvents.

A commit names the position that it moves, the token of the partition's lease, the epoch of each
fenced key, and what it was folded from; `PersistStateType` and `PersistAnsweredType` say where. The
two are matched by `ce_id` and `ce_persistid`, the id of the commit: an action id may stand in two
attempts, and the answer to one is not the answer to the other.

Rule 1: what is read is the commit that was written, but for the states within a batch: of each key
        the last one stands there, and no other is stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from omninode_bridge.core.commit import Accepted, Commit, Move, Refusal
from omninode_bridge.core.message import REMEMBER_S
from omninode_bridge.core.reducer import Absorbed, Refused, SealedIntent, Snapshot
from omninode_bridge.core.topics import PERSIST_ANSWERED, PERSIST_STATE
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.kafka.cloud_events import (
    NotReadable,
    attributes_of,
    headers_of,
    required,
)
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.ports import Unstorable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.reducer import Codec, Step

SOURCE: Final = "urn:omninode-bridge:reducer"
ANSWER_SOURCE: Final = "urn:omninode-bridge:store-effect"

_Fragment = orjson.Fragment


def persist_message(commit: Commit) -> Message:
    """Return the message by which a reducer has a commit made durable."""
    key = _key_of(commit)
    attributes = {
        "type": PERSIST_STATE,
        "source": SOURCE,
        "id": str(commit.effect_id),
        "time": commit.committed_at.isoformat(),
        "subject": key,
    }
    last = {step.action.workflow_key: step for step in commit.steps if isinstance(step, Absorbed)}
    position = commit.position
    fields = {
        "partition": commit.partition,
        "token": commit.owner,
        "position": position and {"expected": position.expected, "next": position.next},
        "reads": dict(commit.reads),
        "attempts": commit.attempts,
        "steps": [_step_fields(step, last) for step in commit.steps],
    }
    return Message(_bytes(key), orjson.dumps(fields), headers_of(attributes))


def read_persist_message(message: Message, codec: Codec) -> Commit:
    """Return the commit that a message carries.

    Raises:
        NotReadable: it carries none.
    """
    said = _attributes(message, PERSIST_STATE)
    try:
        fields: dict[str, Any] = orjson.loads(message.value or b"")
        position = fields["position"]
        return Commit(
            fields["partition"],
            UUID(fields["token"]),
            fields["reads"],
            [_read_step(step, codec) for step in fields["steps"]],
            datetime.fromisoformat(required(said, "time")),
            UUID(required(said, "id")),
            None if position is None else Move(position["expected"], position["next"]),
            fields["attempts"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotReadable(f"it is no commit of ours: {error!r}") from error


def answer_message(commit: Commit, answer: Accepted | Refusal | Unstorable) -> Message:
    """Return the message by which a store effect answers `commit`."""
    key = _key_of(commit)
    attributes = {
        "type": PERSIST_ANSWERED,
        "source": ANSWER_SOURCE,
        "id": f"{commit.effect_id}/answer",
        "subject": key,
        "persistid": str(commit.effect_id),
    }
    fields: dict[str, Any] = {"action_ids": [step.action.action_id for step in commit.steps]}
    match answer:
        case Accepted(state_committed, reducer_gave_up, intent):
            fields |= {
                "event": "StateCommitted",
                "state_committed_first": state_committed,
                "reducer_gave_up_first": reducer_gave_up,
                "intent_first": intent,
            }
        case Refusal():
            fields |= {
                "event": "StateConflict",
                "not_owner": answer.not_owner,
                "moved": answer.moved,
                "stale": [
                    {
                        "workflow_key": stale,
                        "expected_version": commit.reads[stale],
                        "actual_version": actual,
                    }
                    for stale, actual in answer.stale.items()
                ],
                "known": [
                    {"workflow_key": known, "action_id": action_id}
                    for known, action_id in answer.known
                ],
            }
        case Unstorable(sqlstate, detail):
            fields |= {"event": "ValueRefused", "sqlstate": sqlstate, "detail": detail}
    return Message(_bytes(key), orjson.dumps(fields), headers_of(attributes))


def persist_id_of(message: Message) -> str | None:
    """Return which commit a message answers, without reading it."""
    for name, value in message.headers:
        if name == "ce_persistid" and value is not None:
            return value.decode(errors="replace")
    return None


def read_answer_message(message: Message) -> Accepted | Refusal | Unstorable:
    """Return the answer that a message tells. What is `known` has its names, and no outcomes.

    Raises:
        NotReadable: it is no answer of ours.
    """
    _attributes(message, PERSIST_ANSWERED)
    try:
        fields: dict[str, Any] = orjson.loads(message.value or b"")
        match fields["event"]:
            case "StateCommitted":
                return Accepted(
                    fields["state_committed_first"],
                    fields["reducer_gave_up_first"],
                    fields["intent_first"],
                )
            case "StateConflict":
                unnamed: Any = None  # whoever asked recalls the outcomes
                return Refusal(
                    fields["not_owner"],
                    fields["moved"],
                    {each["workflow_key"]: each["actual_version"] for each in fields["stale"]},
                    {
                        (each["workflow_key"], UUID(each["action_id"])): unnamed
                        for each in fields["known"]
                    },
                )
            case _:
                return Unstorable(fields["sqlstate"], fields["detail"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotReadable(f"it is no answer of ours: {error!r}") from error


def _attributes(message: Message, event_type: str) -> dict[str, str]:
    said = attributes_of(message.headers)
    if said.get("type") != event_type:
        raise NotReadable(f"its type is {said.get('type')!r}, not {event_type}")
    return said


def _key_of(commit: Commit) -> str | None:
    """Return the first key of a batch; there is none when only a position moves."""
    return next(iter(commit.reads), None)


def _bytes(key: str | None) -> bytes | None:
    return None if key is None else key.encode()


def _step_fields(step: Step, last: Mapping[str, Step]) -> dict[str, Any]:
    action = wire.action_fields(step.action)
    if step.action.expected_version is not None:
        action["expected_version"] = step.action.expected_version
    if step.action.remember_s != REMEMBER_S:
        action["remember_s"] = step.action.remember_s
    if isinstance(step, Refused):
        gave_up = {"reason": step.reason, "detail": step.detail, "version": step.version}
        return {"action": action, "gave_up": gave_up | {"payload_kept": step.payload_kept}}
    snapshot, projection = step.snapshot, step.projection
    is_last = last[step.action.workflow_key] is step
    return {
        "action": action,
        "version": snapshot.version,
        "state": _Fragment(snapshot.state) if is_last else None,
        "chain": snapshot.chain,
        "epoch": snapshot.epoch,
        "lease_id": snapshot.lease_id,
        "reducer_version": step.reducer_version,
        "result_hash": step.result_hash,
        "projection": {
            "tag": projection.tag,
            "namespace": projection.namespace,
            "indices": projection.indices and _Fragment(projection.indices),
            "extras": projection.extras and _Fragment(projection.extras),
        },
        "intents": [_intent_fields(intent) for intent in step.intents],
    }


def _read_step(fields: dict[str, Any], codec: Codec) -> Step:
    action = wire.read_action(fields["action"], codec)
    gave_up = fields.get("gave_up")
    if gave_up is not None:
        return Refused(
            action,
            gave_up["reason"],
            gave_up["detail"],
            gave_up["version"],
            gave_up["payload_kept"],
        )
    state, lease_id = fields["state"], fields["lease_id"]
    snapshot = Snapshot(
        fields["version"],
        b"" if state is None else codec.encode(state),
        fields["chain"],
        fields["epoch"],
        None if lease_id is None else UUID(lease_id),
    )
    return Absorbed(
        action,
        snapshot,
        fields["reducer_version"],
        fields["result_hash"],
        wire.read_projection(fields["projection"], codec),
        tuple(_read_intent(intent, codec) for intent in fields["intents"]),
    )


def _intent_fields(intent: SealedIntent) -> dict[str, Any]:
    fields = {
        "intent_id": intent.intent_id,
        "intent_type": intent.intent_type,
        "target": intent.target,
        "payload": _Fragment(intent.payload),
        "reply_to": intent.reply_to,
        "due_at": intent.due_at,
        "due_in_ms": intent.due_in_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _read_intent(fields: dict[str, Any], codec: Codec) -> SealedIntent:
    named = (UUID(fields["intent_id"]), fields["intent_type"], fields["target"])
    return wire.read_intent(*named, fields, codec)
