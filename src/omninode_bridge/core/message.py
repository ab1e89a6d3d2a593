"""The words of the bridge as frozen values: actions, intents, outcomes.

Rule 1: time and identity come in with the action (R1); nothing here asks a clock or rolls dice.
Rule 2: an action travels *sealed* (its payload is canonical bytes) and is opened afresh for each
        reduction, so that no reducer ever sees what another one changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid5

from omninode_bridge.core.errors import GaveUp, InvalidAction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

KEY_BYTES_MIN: Final = 3
KEY_BYTES_MAX: Final = 512
NAME_BYTES_MAX: Final = 200
PAYLOAD_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 1_024
"""How long a chain of follow-up actions and answers may grow (R10, R13)."""

NEW_CHAIN_S: Final = 1.0
"""A follow-up due so many seconds later begins a chain of its own: the clock asks for it."""

REMEMBER_S: Final = 6 * 3600.0
"""How long an outcome is remembered unless the asker says otherwise: 6 hours, in seconds."""

STATE_REPLACED: Final = "StateReplaced"
SUBMIT_ACTION: Final = "SubmitAction"
ACTION_ANSWERED: Final = "ActionAnswered"
EFFECT_ANSWERED: Final = "EffectAnswered"
CANCEL_EFFECT: Final = "CancelEffect"
FSM_STATE_TRANSITIONED: Final = "FsmStateTransitioned"
OUR_ACTION_TYPES: Final = frozenset({STATE_REPLACED, ACTION_ANSWERED, EFFECT_ANSWERED})
"""What only the bridge itself submits."""

FOLLOW_UPS: Final = frozenset({SUBMIT_ACTION, ACTION_ANSWERED})
"""The intents that become an action on the key that is their target."""

GiveUpReason = Literal[
    "rejected",
    "reducer_error",
    "invalid",
    "stale_epoch",
    "lease_mismatch",
    "conflict",
    "cancelled",
    "id_reused",
]

Purpose = Literal["apply", "cancel", "redrive"]
"""Why an action is sent: to be applied; to be given up as `cancelled` if it has no outcome yet; or
to be applied after all, although it was given up once."""


@dataclass(frozen=True, slots=True)
class Action:
    """A request to change one key, as a reducer sees it. `payload` is a JSON object of its own."""

    action_id: UUID
    workflow_key: str
    type: str
    payload: dict[str, Any]
    occurred_at: datetime
    epoch: int | None = None
    lease_id: UUID | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    depth: int = 0
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class SealedAction:
    """An action as it travels and is stored, with the asker's terms.

    `payload` is canonical JSON (UTF-8 bytes). `expected_version` demands the version the action is
    applied to. `remember_s` is how long the outcome is remembered, in seconds; None: for ever.
    `due_at`: not before that moment, by the database's clock. `redrive_id` tells one redrive of an
    action from the next, so that each has an answer of its own.
    """

    action_id: UUID
    workflow_key: str
    type: str
    payload: bytes
    occurred_at: datetime
    epoch: int | None = None
    lease_id: UUID | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    depth: int = 0
    reply_to: str | None = None
    expected_version: int | None = None
    remember_s: float | None = REMEMBER_S
    purpose: Purpose = "apply"
    due_at: datetime | None = None
    redrive_id: UUID | None = None

    def open(self, decode: Callable[[bytes], Any]) -> Action:
        """Return the action with a payload decoded for this one use."""
        return Action(
            self.action_id,
            self.workflow_key,
            self.type,
            decode(self.payload),
            self.occurred_at,
            self.epoch,
            self.lease_id,
            self.correlation_id,
            self.causation_id,
            self.depth,
            self.reply_to,
        )


def content_hash(action_type: str, payload: bytes) -> str:
    """Return the hash that tells a retry from another action under the same id (`id_reused`).

    SHA-256 in hex over the type, a zero byte and the canonical payload: what the action *asks*,
    not when or for whom, so that a retry made later is still the same action.
    """
    return hashlib.sha256(b"%b\0%b" % (action_type.encode(), payload)).hexdigest()


@dataclass(frozen=True, slots=True)
class Intent:
    """Something to be done because of a commit.

    `payload` is a JSON object. An intent of type `SubmitAction` asks for a follow-up action: make
    it with `Intent.submit`. Others wait in the log for the effect that handles their type, and when
    it is over, a follow-up action `EffectAnswered` tells the workflow key `reply_to` how it ended.

    It is not begun before `due_at`, or before `due_in_ms` milliseconds after the commit that asks
    for it; both are by the database's clock, and only one of them may be given. A wait goes by
    `due_in_ms`: `action.occurred_at` is somebody else's clock, and may be long ago.
    """

    intent_type: str
    target: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    reply_to: str | None = None
    due_at: datetime | None = None
    due_in_ms: int | None = None

    @classmethod
    def submit(
        cls,
        workflow_key: str,
        action_type: str,
        payload: Mapping[str, Any],
        *,
        reply_to: str | None = None,
        due_at: datetime | None = None,
        due_in_ms: int | None = None,
        expected_version: int | None = None,
    ) -> Intent:
        """Ask for a follow-up action on `workflow_key`, applied exactly once (R10).

        Its id is the intent's (`intent_id`). `reply_to` is the workflow key that is told the
        outcome, by a follow-up action `ActionAnswered`; `due_at` and `expected_version` are as with
        any action, `due_in_ms` is as with any intent. Its `occurred_at` is the time of the commit
        that asks for it, or the time it is due, whichever is later.
        """
        body: dict[str, Any] = {"key": workflow_key, "type": action_type, "payload": payload}
        if expected_version is not None:
            body["expected_version"] = expected_version
        return cls(SUBMIT_ACTION, workflow_key, body, reply_to, due_at, due_in_ms)

    @classmethod
    def cancel(
        cls,
        workflow_key: str,
        action_type: str,
        payload: Mapping[str, Any],
        *,
        action_id: UUID,
        reply_to: str | None = None,
    ) -> Intent:
        """Ask that action `action_id` be given up as `cancelled` if it has no outcome yet.

        The cancellation is the outcome under that id: should the action still arrive, it is a
        duplicate. `action_type` and `payload` are the action's own, or it would be another action
        under the same id.
        """
        body = {
            "key": workflow_key,
            "type": action_type,
            "payload": payload,
            "cancels": str(action_id),
        }
        return cls(SUBMIT_ACTION, workflow_key, body, reply_to)

    @classmethod
    def cancel_effect(cls, effect_id: UUID) -> Intent:
        """Ask that the effect of intent `effect_id`, of this same key, be tried no more."""
        return cls(CANCEL_EFFECT, str(effect_id))


def time_ordered_id(unix_ms: int, random_bits: int) -> UUID:
    """Return the UUID (version 7, RFC 9562) of a moment and of 74 `random_bits`.

    For actions whose asker chose no id: ids that are made one after another stand beside each other
    in an index, where random ones touch a page each.
    """
    high, low = random_bits >> 62 & 0xFFF, random_bits & (1 << 62) - 1
    return UUID(int=unix_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def intent_id(action_id: UUID, ordinal: int) -> UUID:
    """Return the stable id of the action's intent number `ordinal` (from 0)."""
    return uuid5(action_id, str(ordinal))


def reply_id(asked_id: UUID, redrive: UUID | int | None = None) -> UUID:
    """Return the stable id of the intent that tells `reply_to` how `asked_id` ended.

    `asked_id` is an action's, or the intent's of an effect. What is redriven ends once more, and
    whoever was told the first end is told the new one: under an id of its own, made with `redrive`,
    which is the action's `redrive_id`, or how often the effect was redriven (0: never).
    """
    return uuid5(asked_id, f"reply/{redrive}" if redrive else "reply")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a version came from. `timestamp` is the time of its commit (UTC).

    `effect_id` names the commit (one id a batch), `chain` is the key's hash chain up to here (R14).
    """

    effect_id: UUID
    timestamp: datetime
    action_id: UUID
    action_type: str
    epoch: int | None
    lease_id: UUID | None
    correlation_id: UUID | None
    chain: str


@dataclass(frozen=True, slots=True)
class StateCommitted:
    """The action was absorbed as `version` of its key; its log entry is at `commit_offset`.

    `duplicate` tells this asker that the outcome is an earlier submission's, as far as is known:
    it may be this very one's after a lost connection, and is not told of what another process
    decided. It is no part of the outcome: every asker of one id is told the same (R3).
    """

    workflow_key: str
    version: int
    action_id: UUID
    commit_offset: int
    provenance: Provenance
    duplicate: bool = field(default=False, compare=False)

    def committed(self) -> StateCommitted:
        """Return this outcome: it is a commit."""
        return self


@dataclass(frozen=True, slots=True)
class StateConflict:
    """The key was not at the version the caller expected; nothing was written."""

    workflow_key: str
    expected_version: int
    actual_version: int
    action_id: UUID


@dataclass(frozen=True, slots=True)
class ReducerGaveUp:
    """The action was given up, for good, for a `reason` of the glossary.

    `version` is the version of the key that the decision was made at.
    """

    workflow_key: str
    action_id: UUID
    attempts: int
    reason: GiveUpReason
    detail: str
    version: int
    duplicate: bool = field(default=False, compare=False)

    def committed(self) -> StateCommitted:
        """Raise GaveUp: this outcome is no commit."""
        raise GaveUp(self.workflow_key, self.action_id, self.reason, self.detail)


Outcome = StateCommitted | ReducerGaveUp
Event = Outcome | StateConflict
"""What the nodes tell each other of an action, by its id."""


def check_workflow_key(workflow_key: str) -> str:
    """Return `workflow_key` when it is well formed: `type:id`, 3 to 512 bytes, no NUL.

    Raises:
        InvalidAction: saying what is wrong with it.
    """
    if not isinstance(workflow_key, str):
        raise InvalidAction("workflow_key", f"is a {type(workflow_key).__name__}, not text")
    try:
        size = len(workflow_key.encode())
    except UnicodeEncodeError as error:
        raise InvalidAction("workflow_key", "holds a lone surrogate: not UTF-8") from error
    if not KEY_BYTES_MIN <= size <= KEY_BYTES_MAX:
        detail = f"has {size} bytes; {KEY_BYTES_MIN} to {KEY_BYTES_MAX} are allowed"
        raise InvalidAction("workflow_key", detail)
    if "\0" in workflow_key:
        raise InvalidAction("workflow_key", "holds a NUL character")
    key_type, _, key_id = workflow_key.partition(":")
    if not key_type or not key_id:
        raise InvalidAction("workflow_key", f"{workflow_key!r} is not of the form type:id")
    return workflow_key


def check_name(what: str, name: object) -> str:
    """Return `name` when it can name an action, an intent or a tag: 1 to 200 bytes, no NUL.

    Raises:
        InvalidAction: with `what` as its field.
    """
    if not isinstance(name, str):
        raise InvalidAction(what, f"is a {type(name).__name__}, not text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidAction(what, "holds a lone surrogate: not UTF-8") from error
    if not 1 <= size <= NAME_BYTES_MAX:
        raise InvalidAction(what, f"has {size} bytes; 1 to {NAME_BYTES_MAX} are allowed")
    if "\0" in name:
        raise InvalidAction(what, "holds a NUL character")
    return name


def check_reply_to(reply_to: str) -> str:
    """Return `reply_to` when it is a workflow key, which is what can be told an outcome.

    Raises:
        InvalidAction: saying what is wrong with it.
    """
    try:
        return check_workflow_key(reply_to)
    except InvalidAction as error:
        raise InvalidAction("reply_to", error.detail) from error


def key_type_of(workflow_key: str) -> str:
    """Return the part of the key before its first colon."""
    return workflow_key.partition(":")[0]
