"""How actions, log entries and outcomes look as JSON: formats that are promises to users.

Rule 1: payloads and states are spliced in as the canonical bytes they are, never re-encoded.
Rule 2: a field that is None is left out, except where a table of the README shows it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from omninode_bridge.core.commit import Remembered, gave_up
from omninode_bridge.core.message import (
    REMEMBER_S,
    Outcome,
    Provenance,
    ReducerGaveUp,
    SealedAction,
    StateCommitted,
)
from omninode_bridge.core.reducer import SealedIntent, SealedProjection
from omninode_bridge.ports import LoggedTransition

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Commit
    from omninode_bridge.core.reducer import Absorbed, Codec, Refused

_Fragment = orjson.Fragment


def action_fields(action: SealedAction) -> dict[str, Any]:
    """Return the action as a JSON object to be dumped, as it stands in the logs."""
    fields: dict[str, Any] = {
        "action_id": action.action_id,
        "workflow_key": action.workflow_key,
        "type": action.type,
        "payload": _Fragment(action.payload),
        "occurred_at": action.occurred_at,
    }
    if action.epoch is not None:
        fields["epoch"] = action.epoch
    if action.lease_id is not None:
        fields["lease_id"] = action.lease_id
    if action.correlation_id is not None:
        fields["correlation_id"] = action.correlation_id
    if action.causation_id is not None:
        fields["causation_id"] = action.causation_id
    if action.depth:
        fields["depth"] = action.depth
    if action.reply_to is not None:
        fields["reply_to"] = action.reply_to
    if action.purpose != "apply":
        fields["purpose"] = action.purpose
    if action.redrive_id is not None:
        fields["redrive_id"] = action.redrive_id
    if action.due_at is not None:
        fields["due_at"] = action.due_at
    return fields


def action_text(action: SealedAction) -> str:
    """Return the body of an `action` entry: the action with its asker's terms."""
    fields = action_fields(action)
    if action.expected_version is not None:
        fields["expected_version"] = action.expected_version
    if action.remember_s != REMEMBER_S:
        fields["remember_s"] = action.remember_s
    return orjson.dumps(fields).decode()


def read_action(fields: dict[str, Any], codec: Codec) -> SealedAction:
    """Return the action that `action_text`, or the `action` of an entry, was made from."""
    return SealedAction(
        UUID(fields["action_id"]),
        fields["workflow_key"],
        fields["type"],
        codec.encode(fields["payload"]),
        datetime.fromisoformat(fields["occurred_at"]),
        fields.get("epoch"),
        _uuid(fields.get("lease_id")),
        _uuid(fields.get("correlation_id")),
        _uuid(fields.get("causation_id")),
        fields.get("depth", 0),
        fields.get("reply_to"),
        fields.get("expected_version"),
        fields.get("remember_s", REMEMBER_S),
        fields.get("purpose", "apply"),
        _moment(fields.get("due_at")),
        _uuid(fields.get("redrive_id")),
    )


def committed_text(step: Absorbed, commit: Commit) -> str:
    """Return the body of a `state-committed` entry (R14)."""
    projection, snapshot = step.projection, step.snapshot
    fields: dict[str, Any] = {
        "action": action_fields(step.action),
        "reducer_version": step.reducer_version,
        "result_hash": step.result_hash,
        "chain": snapshot.chain,
        "effect_id": commit.effect_id,
        "projection": {
            "tag": projection.tag,
            "namespace": projection.namespace,
            "indices": projection.indices and _Fragment(projection.indices),
            "extras": projection.extras and _Fragment(projection.extras),
        },
    }
    # A fenced key keeps its own, whatever the action says.
    if snapshot.epoch is not None or snapshot.lease_id != step.action.lease_id:
        fields["epoch"] = snapshot.epoch
        fields["lease_id"] = snapshot.lease_id
    return orjson.dumps(fields).decode()


def read_projection(fields: dict[str, Any], codec: Codec) -> SealedProjection:
    """Return the projection of a `state-committed` entry."""
    indices, extras = fields["indices"], fields["extras"]
    return SealedProjection(
        fields["tag"],
        fields["namespace"],
        None if indices is None else codec.encode(indices),
        None if extras is None else codec.encode(extras),
    )


def read_provenance(entry: dict[str, Any], committed_at: datetime) -> Provenance:
    """Return the provenance that a `state-committed` entry tells of."""
    action = entry["action"]
    return Provenance(
        UUID(entry["effect_id"]),
        committed_at,
        UUID(action["action_id"]),
        action["type"],
        entry.get("epoch", action.get("epoch")),
        _uuid(entry.get("lease_id", action.get("lease_id"))),
        _uuid(action.get("correlation_id")),
        entry["chain"],
    )


def provenance_text(step: Absorbed, commit: Commit) -> str:
    """Return the provenance column of a state."""
    action, snapshot = step.action, step.snapshot
    return orjson.dumps(
        {
            "effect_id": commit.effect_id,
            "timestamp": commit.committed_at,
            "action_id": action.action_id,
            "action_type": action.type,
            "epoch": snapshot.epoch,
            "lease_id": snapshot.lease_id,
            "correlation_id": action.correlation_id,
            "chain": snapshot.chain,
        }
    ).decode()


def gave_up_fields(step: Refused, attempts: int) -> dict[str, Any]:
    """Return the outcome of an action that was given up, as it is remembered."""
    outcome = gave_up(step, attempts)
    return {
        "event": "ReducerGaveUp",
        "attempts": outcome.attempts,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "version": outcome.version,
    }


def gave_up_text(step: Refused, commit: Commit) -> str:
    """Return the body of a `reducer-gave-up` entry."""
    action = action_fields(step.action)
    if not step.payload_kept:
        del action["payload"]
    fields = gave_up_fields(step, commit.attempts) | {
        "action": action,
        "effect_id": commit.effect_id,
    }
    return orjson.dumps(fields).decode()


def reply_fields(workflow_key: str, action_id: UUID, outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of the intent that answers `reply_to`."""
    return {"workflow_key": workflow_key, "action_id": str(action_id), **outcome}


def intent_text(intent: SealedIntent, step: Absorbed | Refused) -> str:
    """Return the body of an `intent` entry: what to do, and what a follow-up inherits."""
    return follow_up_text(intent, step.action.depth, step.action.correlation_id)


def follow_up_text(intent: SealedIntent, depth: int, correlation_id: UUID | None) -> str:
    """Return the body of an `intent` entry whose source is at `depth`."""
    fields: dict[str, Any] = {"payload": _Fragment(intent.payload), "depth": depth}
    if correlation_id is not None:
        fields["correlation_id"] = correlation_id
    if intent.reply_to is not None:
        fields["reply_to"] = intent.reply_to
    if intent.due_at is not None:
        fields["due_at"] = intent.due_at
    if intent.due_in_ms is not None:
        fields["due_in_ms"] = intent.due_in_ms
    return orjson.dumps(fields).decode()


def transition_text(intent: SealedIntent, step: Absorbed) -> str:
    """Return the body of an `fsm-state-transitioned` entry: the transition, and its version."""
    fields: dict[str, Any] = {
        "workflow_key": step.action.workflow_key,
        "version": step.snapshot.version,
        "action_id": step.action.action_id,
        "transition": _Fragment(intent.payload),
    }
    if step.action.correlation_id is not None:
        fields["correlation_id"] = step.action.correlation_id
    return orjson.dumps(fields).decode()


def read_transition(
    offset: int, action_id: UUID, committed_at: datetime, fields: dict[str, Any], codec: Codec
) -> LoggedTransition:
    """Return the entry of `fsm-state-transitioned` whose body is `fields`."""
    return LoggedTransition(
        offset,
        fields["workflow_key"],
        fields["version"],
        action_id,
        _uuid(fields.get("correlation_id")),
        committed_at,
        codec.encode(fields["transition"]),
    )


def read_gave_up(workflow_key: str, action_id: UUID, fields: dict[str, Any]) -> ReducerGaveUp:
    """Return the give-up that an entry, or a remembered outcome, tells of."""
    return ReducerGaveUp(
        workflow_key,
        action_id,
        fields["attempts"],
        fields["reason"],
        fields["detail"],
        fields["version"],
    )


def read_intent(
    intent_id: UUID, intent_type: str, target: str, fields: dict[str, Any], codec: Codec
) -> SealedIntent:
    """Return the intent that the body of an entry tells of."""
    payload = codec.encode(fields["payload"])
    reply_to, due_at = fields.get("reply_to"), _moment(fields.get("due_at"))
    return SealedIntent(
        *(intent_id, intent_type, target, payload, reply_to, due_at), fields.get("due_in_ms")
    )


def read_remembered(
    workflow_key: str,
    action_id: UUID,
    request_hash: str,
    version: int | None,
    outcome: dict[str, Any],
    entry: tuple[dict[str, Any], datetime] | None,
) -> Remembered:
    """Return what an id came to. `entry` is the log entry of a commit, and its time."""
    remembered: Outcome
    if outcome["event"] == "StateCommitted" and entry is not None and version is not None:
        provenance = read_provenance(*entry)
        offset = outcome["commit_offset"]
        remembered = StateCommitted(workflow_key, version, action_id, offset, provenance, True)
    elif outcome["event"] == "ReducerGaveUp":
        remembered = ReducerGaveUp(
            workflow_key,
            action_id,
            outcome["attempts"],
            outcome["reason"],
            outcome["detail"],
            outcome["version"],
            True,
        )
    else:
        detail = "this id was remembered as processed, outside of the reducer"
        remembered = ReducerGaveUp(
            workflow_key, action_id, 0, "cancelled", detail, version or 0, True
        )
    return Remembered(request_hash, remembered)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
