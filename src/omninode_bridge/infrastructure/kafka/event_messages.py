"""Entries of our log as messages of the topics outside: CloudEvents, keyed by workflow key.

Each says where in our log it stands: `ce_source` names the log by its incarnation, `ce_logoffset`
the offset in the partition of the same number, and `ce_id` is made of topic, partition and offset.
What is sent again after a crash says the same, so whoever keeps the highest offset that they have
seen of each partition of a topic drops repeats. A repeat may come behind newer entries: compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from omninode_bridge.core.message import Event, StateCommitted, StateConflict
from omninode_bridge.core.topics import (
    FSM_STATE_TRANSITIONED,
    REDUCER_GAVE_UP,
    STATE_COMMITTED,
    STATE_CONFLICT,
)
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable, attributes_of, headers_of
from omninode_bridge.infrastructure.kafka.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.infrastructure.kafka.message import Headers
    from omninode_bridge.ports import LoggedEvent

SOURCE_PREFIX: Final = "urn:omninode-bridge:"


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where an event stands in the log of a database: what is the same in every repeat of it."""

    incarnation: str
    topic: str
    partition: int
    offset: int


def event_message(topic: str, partition: int, event: LoggedEvent, log_incarnation: UUID) -> Message:
    """Return the message of an entry on `topic` (its name outside)."""
    before, behind = _same_for_all(topic, log_incarnation)
    key, offset = event.workflow_key.encode(), str(event.offset)
    headers = (
        *before,
        ("ce_id", f"{topic}/{partition}/{offset}".encode()),
        ("ce_time", event.happened_at.isoformat().encode()),
        ("ce_subject", key),
        ("ce_logoffset", offset.encode()),
        ("ce_actionid", str(event.action_id).encode()),
        *behind,
    )
    return Message(key, _value(topic, event), headers)


@lru_cache(maxsize=64)
def _same_for_all(topic: str, log_incarnation: UUID) -> tuple[Headers, Headers]:
    """Return the first and the last headers of every message of a topic."""
    said = headers_of({"type": topic, "source": f"{SOURCE_PREFIX}{log_incarnation}"})
    return said[:-1], said[-1:]


def conflict_message(conflict: StateConflict, source: str) -> Message:
    """Return the message of a conflict, which is told and is no history. `source` is any text."""
    attributes = {
        "type": STATE_CONFLICT,
        "source": source,
        "id": f"{conflict.action_id}/{conflict.expected_version}/{conflict.actual_version}",
        "subject": conflict.workflow_key,
        "actionid": str(conflict.action_id),
    }
    fields = {
        "workflow_key": conflict.workflow_key,
        "expected_version": conflict.expected_version,
        "actual_version": conflict.actual_version,
        "action_id": conflict.action_id,
    }
    return Message(conflict.workflow_key.encode(), orjson.dumps(fields), headers_of(attributes))


def place_of(message: Message, partition: int) -> LogPlace:
    """Return where in our log the message of an event stands.

    Raises:
        NotReadable: it is no event of ours.
    """
    said = attributes_of(message.headers)
    try:
        offset = int(said["logoffset"])
    except (KeyError, ValueError):
        raise NotReadable("it does not say where in the log it stands") from None
    incarnation = said.get("source", "").removeprefix(SOURCE_PREFIX)
    return LogPlace(incarnation, said.get("type", ""), partition, offset)


def action_of(message: Message) -> str | None:
    """Return the id of the action that an event tells of, without reading the event."""
    for name, value in message.headers:
        if name == "ce_actionid" and value is not None:
            return value.decode(errors="replace")
    return None


def read_event_message(message: Message) -> Event | None:
    """Return what a message tells of an action; None: it is of a kind that tells no asker.

    Raises:
        NotReadable: it is no event of ours.
    """
    said = attributes_of(message.headers)
    try:
        fields: dict[str, Any] = orjson.loads(message.value or b"")
        match said.get("type"):
            case x if x == STATE_COMMITTED:
                return _committed(fields)
            case x if x == REDUCER_GAVE_UP:
                action_id = UUID(fields["action_id"])
                return wire.read_gave_up(fields["workflow_key"], action_id, fields)
            case x if x == STATE_CONFLICT:
                return StateConflict(
                    fields["workflow_key"],
                    fields["expected_version"],
                    fields["actual_version"],
                    UUID(fields["action_id"]),
                )
            case _:
                return None
    except (KeyError, TypeError, ValueError) as error:
        raise NotReadable(f"it is no event of ours: {error!r}") from error


def _committed(fields: Mapping[str, Any]) -> StateCommitted:
    provenance = wire.read_provenance(dict(fields), datetime.fromisoformat(fields["committed_at"]))
    return StateCommitted(
        fields["workflow_key"],
        fields["version"],
        UUID(fields["action_id"]),
        fields["commit_offset"],
        provenance,
    )


def _value(topic: str, event: LoggedEvent) -> bytes:
    """Return what stands in the log, with its columns before it. The body is never parsed."""
    columns: dict[str, Any]
    if topic == STATE_COMMITTED:
        columns = {
            "workflow_key": event.workflow_key,
            "version": event.version,
            "action_id": event.action_id,
            "commit_offset": event.offset,
            "committed_at": event.happened_at,
        }
    elif topic == REDUCER_GAVE_UP:
        columns = {
            "workflow_key": event.workflow_key,
            "action_id": event.action_id,
            "given_up_at": event.happened_at,
        }
    else:
        assert topic == FSM_STATE_TRANSITIONED, topic
        columns = {"committed_at": event.happened_at}
    assert event.body.startswith(b"{"), event.body[:20]
    return orjson.dumps(columns)[:-1] + b"," + event.body[1:]


__all__ = [
    "LogPlace",
    "action_of",
    "conflict_message",
    "event_message",
    "place_of",
    "read_event_message",
]
