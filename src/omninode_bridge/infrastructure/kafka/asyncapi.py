"""The document of our topics and messages, for who uses them by their own means: AsyncAPI 3.

Made from the specs of the topics, the tables of headers and the types of values:

    python -m omninode_bridge.infrastructure.kafka.asyncapi > docs/architecture/asyncapi.yaml
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic.json_schema import models_json_schema

from omninode_bridge.core.topics import (
    ACTION,
    DEAD_LETTER,
    FSM_STATE_TRANSITIONED,
    PERSIST_ANSWERED,
    PERSIST_STATE,
    REDUCER_GAVE_UP,
    STATE_COMMITTED,
    STATE_CONFLICT,
)
from omninode_bridge.infrastructure.kafka.header_tables import (
    ACTION_HEADERS,
    CONFLICT_HEADERS,
    DEAD_LETTER_HEADERS,
    EVENT_HEADERS,
    PERSIST_ANSWERED_HEADERS,
    PERSIST_HEADERS,
    headers_schema,
)
from omninode_bridge.infrastructure.kafka.message_types import (
    FsmStateTransitionedType,
    PersistAnsweredType,
    PersistStateType,
    ReducerGaveUpType,
    StateCommittedType,
    StateConflictType,
)
from omninode_bridge.infrastructure.kafka.topic_specs import topic_specs

if TYPE_CHECKING:
    from pydantic import BaseModel

    from omninode_bridge.infrastructure.kafka.topic_specs import TopicSpec

BINDING: Final = "0.5.0"
VALUES: Final[dict[str, type[BaseModel]]] = {
    STATE_COMMITTED: StateCommittedType,
    REDUCER_GAVE_UP: ReducerGaveUpType,
    FSM_STATE_TRANSITIONED: FsmStateTransitionedType,
    STATE_CONFLICT: StateConflictType,
    PERSIST_STATE: PersistStateType,
    PERSIST_ANSWERED: PersistAnsweredType,
}
HEADERS: Final = {
    ACTION: ACTION_HEADERS,
    STATE_COMMITTED: EVENT_HEADERS,
    REDUCER_GAVE_UP: EVENT_HEADERS,
    FSM_STATE_TRANSITIONED: EVENT_HEADERS,
    STATE_CONFLICT: CONFLICT_HEADERS,
    PERSIST_STATE: PERSIST_HEADERS,
    PERSIST_ANSWERED: PERSIST_ANSWERED_HEADERS,
    DEAD_LETTER: DEAD_LETTER_HEADERS,
}
SUMMARIES: Final = {
    ACTION: "Asks for a change of one workflow key. Anybody may write it.",
    STATE_COMMITTED: "An action was absorbed as a version of its key. History: it stays.",
    REDUCER_GAVE_UP: "An action was given up, for good, for a reason. History: it stays.",
    FSM_STATE_TRANSITIONED: "A state machine went from one state to another. History: it stays.",
    STATE_CONFLICT: "A caller expected another version; nothing was written. It is told, not kept.",
    PERSIST_STATE: "A batch that a reducer has folded, for a store effect to commit.",
    PERSIST_ANSWERED: "What became of a batch that a store effect was to commit.",
    DEAD_LETTER: "What stood on the action topic and is no action: as it was, with the reason.",
}
NAMES: Final = {
    ACTION: "action",
    STATE_COMMITTED: "stateCommitted",
    REDUCER_GAVE_UP: "reducerGaveUp",
    FSM_STATE_TRANSITIONED: "fsmStateTransitioned",
    STATE_CONFLICT: "stateConflict",
    PERSIST_STATE: "persistState",
    PERSIST_ANSWERED: "persistAnswered",
    DEAD_LETTER: "deadLetter",
}
ANY_OBJECT: Final = {"type": "object", "description": "The payload: any JSON object, 1 MiB."}
DESCRIPTION: Final = """\
Every message is a CloudEvent (1.0) in binary mode, keyed by the workflow key. Each topic has as
many partitions as the database, and a key's partition is the one of Kafka's Java default
partitioner (with librdkafka: `partitioner=murmur2_random`). Names may have a prefix of a
deployment's own. What is history may be sent again after a crash: a repeat has the same
`ce_source`, partition and `ce_logoffset`, and may come behind newer messages."""


def document() -> dict[str, Any]:
    """Return the document."""
    _, schemas = models_json_schema(
        [(each, "validation") for each in VALUES.values()],
        ref_template="#/components/schemas/{model}",
    )
    specs = {spec.name: spec for spec in topic_specs(1)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "omninode_bridge on Kafka",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {NAMES[topic]: _channel(specs[topic]) for topic in NAMES},
        "operations": {
            f"{'receive' if topic == ACTION else 'send'}{NAMES[topic][:1].upper()}"
            f"{NAMES[topic][1:]}": _operation(topic)
            for topic in NAMES
        },
        "components": {
            "messages": {NAMES[topic]: _message(topic) for topic in NAMES},
            "schemas": schemas["$defs"],
        },
    }


def text() -> str:
    """Return the document as YAML."""
    made = "# Made by `make asyncapi` from the code's own types; what is changed here is lost.\n"
    return made + yaml.dump(
        document(), Dumper=_Whole, sort_keys=False, allow_unicode=True, width=100
    )


class _Whole(yaml.SafeDumper):
    """Writes what stands in two places twice."""

    def ignore_aliases(self, _data: object) -> bool:
        """Never make an alias."""
        return True


def _channel(spec: TopicSpec) -> dict[str, Any]:
    settings = spec.settings()
    return {
        "address": spec.name,
        "description": SUMMARIES[spec.name],
        "messages": {NAMES[spec.name]: {"$ref": f"#/components/messages/{NAMES[spec.name]}"}},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "topicConfiguration": {
                    "cleanup.policy": [settings["cleanup.policy"]],
                    "retention.ms": int(settings["retention.ms"]),
                    "retention.bytes": int(settings["retention.bytes"]),
                    "max.message.bytes": int(settings["max.message.bytes"]),
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(topic: str) -> dict[str, Any]:
    name = NAMES[topic]
    return {
        "action": "receive" if topic == ACTION else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": SUMMARIES[topic],
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(topic: str) -> dict[str, Any]:
    key = {"type": "string", "description": "The workflow key, UTF-8."}
    message: dict[str, Any] = {
        "name": topic,
        "summary": SUMMARIES[topic],
        "headers": headers_schema(HEADERS[topic]),
    }
    if topic == DEAD_LETTER:
        message["contentType"] = "application/octet-stream"
        key["description"] = "The key as it was: any bytes, or none."
    else:
        message["payload"] = (
            {"$ref": f"#/components/schemas/{VALUES[topic].__name__}"}
            if topic in VALUES
            else ANY_OBJECT
        )
    message["bindings"] = {"kafka": {"key": key, "bindingVersion": BINDING}}
    return message


if __name__ == "__main__":
    sys.stdout.write(text())
