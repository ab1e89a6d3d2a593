"""Actions as messages of the `action` topic: CloudEvents, keyed by workflow key.

Rule 1: anybody may write to the topic. What cannot be an action is a value that says why
        (`NotAnAction`), and never an error.
Rule 2: what only the bridge itself says of an action (its depth, that it cancels or redrives) is
        not read from here.

| part | holds |
|---|---|
| key | the workflow key, UTF-8 |
| value | the payload, a JSON object |
| `ce_type` | the topic's name, which tells the version of this form |
| `ce_id` | the action id, a UUID |
| `ce_source` | who asks, any text |
| `ce_time` | `occurred_at`, RFC 3339 |
| `ce_actiontype` | the action's type |

and, where the asker says so, `ce_epoch`, `ce_leaseid`, `ce_correlationid`, `ce_causationid`,
`ce_replyto`, `ce_expectedversion`, `ce_dueat`, and `ce_rememberseconds`, which may be `forever`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import orjson

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    PAYLOAD_BYTES_MAX,
    REMEMBER_S,
    SealedAction,
    check_reply_to,
    check_workflow_key,
)
from omninode_bridge.core.reducer import check_action_type
from omninode_bridge.core.terms import check_count, check_remember_for, check_time
from omninode_bridge.core.topics import ACTION
from omninode_bridge.infrastructure.kafka.cloud_events import (
    NotReadable,
    attributes_of,
    headers_of,
    required,
)
from omninode_bridge.infrastructure.kafka.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omninode_bridge.core.reducer import Codec

VALUE_BYTES_MAX: Final = 2 * PAYLOAD_BYTES_MAX
"""Of a payload as it was written, with white space: more is not even looked at."""

FOREVER: Final = "forever"

_T = TypeVar("_T")
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_COUNT: Final = re.compile(r"[0-9]{1,19}")
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_MAYBE_TOO_LONG: Final = re.compile(rb"[0-9]{19}")
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class NotAnAction:
    """A message that cannot be an action, and the reason, for a person to read."""

    reason: str


def action_message(action: SealedAction, source: str) -> Message:
    """Return the message by which `source` (any text) asks for `action`.

    Raises:
        ValueError: it says what only the bridge itself says.
    """
    if action.depth or action.purpose != "apply" or action.redrive_id is not None:
        message = "depth, purpose and redrive_id of an action do not travel on the action topic"
        raise ValueError(message)
    attributes = {
        "type": ACTION,
        "id": str(action.action_id),
        "source": source,
        "time": _moment_text(action.occurred_at),
        "subject": action.workflow_key,
        "actiontype": action.type,
        "epoch": _text(action.epoch),
        "leaseid": _text(action.lease_id),
        "correlationid": _text(action.correlation_id),
        "causationid": _text(action.causation_id),
        "replyto": action.reply_to,
        "expectedversion": _text(action.expected_version),
        "dueat": None if action.due_at is None else _moment_text(action.due_at),
        "rememberseconds": _remember_text(action.remember_s),
    }
    return Message(action.workflow_key.encode(), action.payload, headers_of(attributes))


def read_action_message(message: Message, codec: Codec) -> SealedAction | NotAnAction:
    """Return the action that a message asks for, or why it asks for none."""
    try:
        return _read(message, codec)
    except NotReadable as error:
        return NotAnAction(str(error))
    except InvalidAction as error:
        return NotAnAction(str(error))


def _read(message: Message, codec: Codec) -> SealedAction:
    if message.key is None:
        raise NotReadable("it has no key; the workflow key is needed")
    try:
        key = check_workflow_key(message.key.decode())
    except UnicodeDecodeError:
        raise NotReadable("its key is not UTF-8") from None
    said = attributes_of(message.headers)
    if (kind := required(said, "type")) != ACTION:
        raise NotReadable(f"header ce_type is {kind[:200]!r}: only {ACTION!r} is known here")
    required(said, "source")
    remember = said.get("rememberseconds")
    return SealedAction(
        action_id=_uuid("id", required(said, "id")),
        workflow_key=key,
        type=check_action_type(required(said, "actiontype")),
        payload=_payload(message.value, codec),
        occurred_at=_moment("time", required(said, "time")),
        epoch=_optional(said, "epoch", _count),
        lease_id=_optional(said, "leaseid", _uuid),
        correlation_id=_optional(said, "correlationid", _uuid),
        causation_id=_optional(said, "causationid", _uuid),
        reply_to=_optional(said, "replyto", lambda _, text: check_reply_to(text)),
        expected_version=_optional(said, "expectedversion", _count),
        remember_s=REMEMBER_S if remember is None else _remember(remember),
        due_at=_optional(said, "dueat", _moment),
    )


def _payload(value: bytes | None, codec: Codec) -> bytes:
    if value is None:
        raise NotReadable("it has no value; a JSON object is needed")
    if len(value) > VALUE_BYTES_MAX:
        raise NotReadable(f"its value has {len(value)} bytes; {VALUE_BYTES_MAX} are looked at")
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise NotReadable(f"its value is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise NotReadable("its value is not a JSON object")
    try:
        sealed = codec.encode(payload)
    except ValueError as error:
        raise NotReadable(f"its value cannot be stored: {error}") from None
    if _MAYBE_TOO_LONG.search(value):
        _check_integers(value)
    if len(sealed) > PAYLOAD_BYTES_MAX:
        raise NotReadable(f"its payload has {len(sealed)} bytes; {PAYLOAD_BYTES_MAX} are allowed")
    return sealed


def _check_integers(value: bytes) -> None:
    """Refuse integers beyond 64 bits: the fast reader would round them in silence.

    What is nested too deep for this slow reader the codec has refused before.
    """

    def checked(text: str) -> int:
        # Long before Python's own limit on digits: what has 21 of them is out of range.
        if len(text) > len(str(_INTEGER_MIN)) or not _INTEGER_MIN <= int(text) <= _INTEGER_MAX:
            raise NotReadable(f"the integer {text[:40]} does not fit into 64 bits")
        return int(text)

    json.loads(value, parse_int=checked)


def _optional(said: Mapping[str, str], name: str, read: Callable[[str, str], _T]) -> _T | None:
    text = said.get(name)
    return None if text is None else read(name, text)


def _uuid(name: str, text: str) -> UUID:
    if not _UUID.fullmatch(text):  # Python's own reader takes other spellings too
        raise NotReadable(f"header ce_{name} is {text[:80]!r}, not a UUID")
    return UUID(text)


def _count(name: str, text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise NotReadable(f"header ce_{name} is {text[:80]!r}, not a whole number")
    return check_count(name, int(text))


def _moment(name: str, text: str) -> datetime:
    if not _MOMENT.fullmatch(text):
        raise NotReadable(f"header ce_{name} is {text[:80]!r}, not a time as RFC 3339 has it")
    try:
        return check_time(name, datetime.fromisoformat(text.upper()))
    except ValueError as error:
        raise NotReadable(f"header ce_{name} is {text[:80]!r}: {error}") from None


def _remember(text: str) -> float | None:
    if text == FOREVER:
        return None
    if not _SECONDS.fullmatch(text):
        raise NotReadable(
            f"header ce_rememberseconds is {text[:80]!r}, not a number of seconds or {FOREVER!r}"
        )
    return check_remember_for(timedelta(seconds=float(text)))


def _remember_text(remember_s: float | None) -> str | None:
    if remember_s is None:
        return FOREVER
    return None if remember_s == REMEMBER_S else f"{remember_s:.6f}"


def _moment_text(moment: datetime) -> str:
    return moment.isoformat()


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
