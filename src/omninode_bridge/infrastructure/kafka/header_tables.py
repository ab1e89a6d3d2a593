"""Which headers the messages have, said once as tables: name, schema, whether it must be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.topics import (
    ACTION,
    PERSIST_ANSWERED,
    PERSIST_STATE,
    STATE_CONFLICT,
)
from omninode_bridge.infrastructure.kafka.cloud_events import (
    CONTENT_TYPE,
    JSON,
    PREFIX,
    SPEC_VERSION,
)
from omninode_bridge.infrastructure.kafka.dead_letters import PREFIX as DEAD_LETTER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

UUID: Final = {"type": "string", "format": "uuid"}
MOMENT: Final = {"type": "string", "format": "date-time"}
NUMBER: Final = {"type": "string", "pattern": "^[0-9]{1,19}$"}
KEY: Final = {"type": "string", "pattern": "^[^:]+:[^\\u0000]+$"}
TEXT: Final = {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Header:
    """A header, whose value is UTF-8."""

    schema: Mapping[str, Any]
    description: str
    required: bool = False


def _cloud_event(event_type: Mapping[str, Any], event_id: Header) -> dict[str, Header]:
    return {
        f"{PREFIX}specversion": Header(
            {"type": "string", "const": SPEC_VERSION}, "Of CloudEvents.", True
        ),
        f"{PREFIX}type": Header(event_type, "The topic's name, without any prefix.", True),
        f"{PREFIX}id": event_id,
        f"{PREFIX}subject": Header(KEY, "The workflow key."),
        CONTENT_TYPE: Header({"type": "string", "pattern": f"^{JSON}"}, "Of the value."),
    }


ACTION_HEADERS: Final = {
    **_cloud_event({"const": ACTION, "type": "string"}, Header(UUID, "The action id.", True)),
    f"{PREFIX}source": Header(TEXT, "Who asks.", True),
    f"{PREFIX}time": Header(MOMENT, "When it occurred (RFC 3339).", True),
    f"{PREFIX}actiontype": Header(TEXT, "The action's type, up to 200 bytes.", True),
    f"{PREFIX}epoch": Header(NUMBER, "The orchestrator's epoch, for fenced keys."),
    f"{PREFIX}leaseid": Header(UUID, "The orchestrator's lease, for fenced keys."),
    f"{PREFIX}correlationid": Header(UUID, "What it belongs to."),
    f"{PREFIX}causationid": Header(UUID, "What it follows from."),
    f"{PREFIX}replyto": Header(KEY, "The workflow key that is told the outcome."),
    f"{PREFIX}expectedversion": Header(NUMBER, "The version that the key must be at."),
    f"{PREFIX}dueat": Header(MOMENT, "Not to be applied before."),
    f"{PREFIX}rememberseconds": Header(
        {"type": "string", "pattern": "^([0-9]{1,10}([.][0-9]{1,6})?|forever)$"},
        "How long the outcome is remembered: seconds, or `forever`; 6 hours if not said.",
    ),
}
"""What `read_action_message` reads."""

EVENT_HEADERS: Final = {
    **_cloud_event(TEXT, Header(TEXT, "Topic, partition and offset in our log.", True)),
    f"{PREFIX}source": Header(
        {"type": "string", "pattern": "^urn:omninode-bridge:[0-9a-f-]{36}$"},
        "Names our log: a database restored or made anew is another one.",
        True,
    ),
    f"{PREFIX}time": Header(MOMENT, "When it was committed.", True),
    f"{PREFIX}logoffset": Header(NUMBER, "Its offset in our log's partition: see repeats.", True),
    f"{PREFIX}actionid": Header(UUID, "The action that it tells of.", True),
}
CONFLICT_HEADERS: Final = {
    **_cloud_event(
        {"const": STATE_CONFLICT, "type": "string"}, Header(TEXT, "Action and versions.", True)
    ),
    f"{PREFIX}source": Header(TEXT, "Who tells.", True),
    f"{PREFIX}actionid": Header(UUID, "The action that it tells of.", True),
}
PERSIST_HEADERS: Final = {
    **_cloud_event(
        {"const": PERSIST_STATE, "type": "string"}, Header(UUID, "Of the commit.", True)
    ),
    f"{PREFIX}source": Header(TEXT, "Who asks.", True),
    f"{PREFIX}time": Header(MOMENT, "When it was folded: the time of the commit.", True),
}
PERSIST_ANSWERED_HEADERS: Final = {
    **_cloud_event(
        {"const": PERSIST_ANSWERED, "type": "string"}, Header(TEXT, "Of the answer.", True)
    ),
    f"{PREFIX}source": Header(TEXT, "Who answers.", True),
    f"{PREFIX}persistid": Header(UUID, "The `ce_id` of the commit that is answered.", True),
}
DEAD_LETTER_HEADERS: Final = {
    f"{DEAD_LETTER_PREFIX}reason": Header(TEXT, "Why it is no action.", True),
    f"{DEAD_LETTER_PREFIX}topic": Header(TEXT, "Where it stood.", True),
    f"{DEAD_LETTER_PREFIX}partition": Header(NUMBER, "Where it stood.", True),
    f"{DEAD_LETTER_PREFIX}offset": Header(NUMBER, "Where it stood: repeats say the same.", True),
    f"{DEAD_LETTER_PREFIX}key-bytes": Header(NUMBER, "How long the key was, where it is cut off."),
    f"{DEAD_LETTER_PREFIX}headers-bytes": Header(NUMBER, "How long they were, if left out."),
    f"{DEAD_LETTER_PREFIX}value-bytes": Header(NUMBER, "How long it was, where it is cut off."),
}


def headers_schema(table: Mapping[str, Header]) -> dict[str, Any]:
    """Return the JSON schema of the headers of `table`; others may stand beside them."""
    return {
        "type": "object",
        "properties": {
            name: {**each.schema, "description": each.description} for name, each in table.items()
        },
        "required": [name for name, each in table.items() if each.required],
    }
