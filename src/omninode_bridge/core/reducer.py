"""The fold: several actions of one key, applied in memory, one after another.

Rule 1: a reducer is pure (R1). It gets a fresh state and a fresh payload each time, so that one
        which changes its input, or changes it and then rejects, spoils nothing.
Rule 2: one action that cannot be applied is given up alone; the key and its neighbours go on.
Rule 3: between folds there are canonical bytes only, never live objects.
"""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    ACTION_ANSWERED,
    CANCEL_EFFECT,
    DEPTH_MAX,
    OUR_ACTION_TYPES,
    PAYLOAD_BYTES_MAX,
    STATE_REPLACED,
    SUBMIT_ACTION,
    Action,
    GiveUpReason,
    Intent,
    SealedAction,
    check_name,
    check_reply_to,
    check_workflow_key,
    intent_id,
    reply_id,
)
from omninode_bridge.core.projection import Projection, project_plainly
from omninode_bridge.core.terms import check_count, check_due_in_ms, check_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from omninode_bridge.core.projection import Project

    Reducer = Callable[[dict[str, Any], Action], "Transition | Rejection"]

DETAIL_CHARS_MAX: Final = 4_000
INTENTS_MAX: Final = 1_000
INTENT_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 8_192
"""A follow-up action's payload may be as large as any; around it stand its key and its type."""

INTENTS_BYTES_MAX: Final = 16 * 1_048_576
"""Of all intents of one action."""

PROJECTION_BYTES_MAX: Final = 1_048_576
"""Of `indices`, and of `extras`."""

TARGET_BYTES_MAX: Final = 2_048
STATE_BYTES_MAX: Final = 16 * 1_048_576
_FOLLOW_UP_FIELDS: Final = frozenset({"key", "type", "payload", "cancels", "expected_version"})


@dataclass(frozen=True, slots=True)
class Transition:
    """The action is absorbed: the key's next state, a JSON object, and what to do because of it."""

    state: Mapping[str, Any]
    intents: tuple[Intent, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """The action is refused, for a reason that its asker is told. The state stays as it was."""

    reason: str


class Codec(Protocol):
    """The one normal form of JSON: `encode(decode(b)) == b` for everything that was encoded."""

    def encode(self, value: object) -> bytes:
        """Return the canonical bytes of `value`; raise ValueError when it is not JSON."""
        ...

    def decode(self, data: bytes) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return fresh objects."""
        ...


@dataclass(frozen=True, slots=True)
class KeyType:
    """What is declared of the keys `name:...`: the reducer's version, and its two functions.

    `fenced` keys keep their highest committed epoch and its lease.
    """

    name: str
    version: int
    reduce: Reducer
    project: Project = project_plainly
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A key between folds. `state` is canonical bytes; `chain` is "" for a key never seen."""

    version: int = 0
    state: bytes = b"{}"
    chain: str = ""
    epoch: int | None = None
    lease_id: UUID | None = None


NEVER_SEEN: Final = Snapshot()


@dataclass(frozen=True, slots=True)
class SealedIntent:
    """An intent as it is stored: with its stable id, its payload canonical bytes.

    It is due at `due_at`, or `due_in_ms` after its commit, or at once.
    """

    intent_id: UUID
    intent_type: str
    target: str
    payload: bytes
    reply_to: str | None = None
    due_at: datetime | None = None
    due_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SealedProjection:
    """A projection as it travels in the log entry."""

    tag: str
    namespace: str
    indices: bytes | None
    extras: bytes | None


@dataclass(frozen=True, slots=True)
class Absorbed:
    """One action became `snapshot.version` of its key."""

    action: SealedAction
    snapshot: Snapshot
    reducer_version: int
    result_hash: str
    projection: SealedProjection
    intents: tuple[SealedIntent, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """One action was given up; `version` is the version it saw.

    `payload_kept` is False when the payload itself is what the store refuses.
    """

    action: SealedAction
    reason: GiveUpReason
    detail: str
    version: int
    payload_kept: bool = True


Step = Absorbed | Refused


def fold(
    snapshot: Snapshot,
    actions: Iterable[SealedAction],
    key_type: KeyType | None,
    codec: Codec,
    committed_at: datetime,
) -> tuple[Snapshot, list[Step]]:
    """Apply `actions`, all of one key, in order; return where that leads and each one's step.

    `key_type` is None for a key whose type nobody declared: its actions are `invalid`.
    `committed_at` is the time of the commit to come, told to projections. Never raises for what
    a reducer does: a reducer that raises gives up that one action with its traceback.
    """
    steps: list[Step] = []
    for action in actions:
        step = _apply(snapshot, action, key_type, codec, committed_at)
        if isinstance(step, Absorbed):
            snapshot = step.snapshot
        steps.append(step)
    return snapshot, steps


def _apply(
    snapshot: Snapshot,
    action: SealedAction,
    key_type: KeyType | None,
    codec: Codec,
    committed_at: datetime,
) -> Step:
    version = snapshot.version
    if key_type is None:
        kind = action.workflow_key.partition(":")[0]
        return Refused(action, "invalid", f"no reducer is registered for keys {kind}:...", version)
    refused = _admit(snapshot, action) or (_fence(snapshot, action) if key_type.fenced else None)
    if refused is not None:
        return refused
    epoch, lease_id = action.epoch, action.lease_id
    if key_type.fenced and epoch is None:
        epoch, lease_id = snapshot.epoch, snapshot.lease_id
    try:
        transition = _reduce(snapshot, action, key_type, codec)
        if isinstance(transition, Rejection):
            detail = storable(str(transition.reason))[:DETAIL_CHARS_MAX]
            return Refused(action, "rejected", detail, version)
        state = codec.encode(_checked_state(transition))
        if len(state) > STATE_BYTES_MAX:
            detail = f"the state would have {len(state)} bytes; {STATE_BYTES_MAX} are allowed"
            return Refused(action, "reducer_error", detail, version)
        intents = seal_intents(action, transition.intents, codec)
        # A fresh decode once more: the projection must not see objects the reducer still holds.
        projection = seal_projection(action, state, key_type, codec, committed_at)
    except KeyboardInterrupt:  # a person's word, not the reducer's
        raise
    # A sys.exit() too. Nobody cancels a fold, for it never waits: a cancellation is the reducer's
    # own as well.
    except BaseException as error:  # noqa: BLE001 - what user code raises ends this action only
        return Refused(action, "reducer_error", describe_error(error), version)
    reducer_version = 0 if action.type == STATE_REPLACED else key_type.version
    result_hash = hashlib.sha256(state).hexdigest()
    chain = next_chain(snapshot.chain, action, reducer_version, result_hash)
    following = Snapshot(version + 1, state, chain, epoch, lease_id)
    return Absorbed(action, following, reducer_version, result_hash, projection, intents)


def _reduce(
    snapshot: Snapshot,
    action: SealedAction,
    key_type: KeyType,
    codec: Codec,
) -> Transition | Rejection:
    opened = action.open(codec.decode)
    if action.type == STATE_REPLACED:
        return Transition(opened.payload)
    result: object = key_type.reduce(codec.decode(snapshot.state), opened)
    if isinstance(result, Transition | Rejection):
        return result
    message = (
        f"the reducer of {key_type.name!r} returned {type(result).__name__};"
        " return a Transition or a Rejection"
    )
    raise TypeError(message)


def _checked_state(transition: Transition) -> Mapping[str, Any]:
    if isinstance(transition.state, dict):
        return transition.state
    message = f"a state must be a dict (a JSON object), not {type(transition.state).__name__}"
    raise TypeError(message)


def _admit(snapshot: Snapshot, action: SealedAction) -> Refused | None:
    """Say no to what no reducer need be asked about."""
    version, expected = snapshot.version, action.expected_version
    if action.purpose == "cancel":
        return Refused(action, "cancelled", "it was cancelled before it was applied", version)
    if not action.payload.startswith(b"{"):
        detail = storable(action.payload[: DETAIL_CHARS_MAX // 4].decode(errors="replace"))
        return Refused(action, "invalid", f"the payload is not a JSON object: {detail}", version)
    if expected is not None and expected != version:
        detail = f"version {expected} was expected, the key is at {version}"
        return Refused(action, "conflict", detail, version)
    return None


def _fence(snapshot: Snapshot, action: SealedAction) -> Refused | None:
    """Say no to the words of an owner who has been followed by another."""
    if action.epoch is None or snapshot.epoch is None:
        return None
    if action.epoch < snapshot.epoch:
        detail = f"epoch {action.epoch} is past: the key is at epoch {snapshot.epoch}"
        return Refused(action, "stale_epoch", detail, snapshot.version)
    if action.epoch == snapshot.epoch and action.lease_id != snapshot.lease_id:
        detail = f"epoch {action.epoch} belongs to another lease"
        return Refused(action, "lease_mismatch", detail, snapshot.version)
    return None


def seal_intents(
    action: SealedAction, intents: Iterable[Intent], codec: Codec
) -> tuple[SealedIntent, ...]:
    """Return the intents with their stable ids, checked so that nobody later meets a bad one.

    Raises:
        TypeError, ValueError: for what is no intent, or could never be carried out.
    """
    sealed: list[SealedIntent] = []
    size = 0
    for ordinal, intent in enumerate(intents):
        _check_intent(intent)
        if ordinal >= INTENTS_MAX:
            message = f"a transition may have {INTENTS_MAX} intents"
            raise ValueError(message)
        if intent.intent_type == SUBMIT_ACTION:
            _check_follow_up(intent)
        _check_depth(action, intent)
        payload = codec.encode(dict(intent.payload))
        if len(payload) > INTENT_BYTES_MAX:
            detail = f"its payload has {len(payload)} bytes; {INTENT_BYTES_MAX} are allowed"
            raise InvalidAction("intent", detail)
        size += len(payload)
        if size > INTENTS_BYTES_MAX:
            message = f"the intents of a transition may have {INTENTS_BYTES_MAX} bytes in all"
            raise ValueError(message)
        sealed.append(
            SealedIntent(
                intent_id(action.action_id, ordinal),
                intent.intent_type,
                intent.target,
                payload,
                intent.reply_to,
                None if intent.due_at is None else check_time("due_at", intent.due_at),
                None if intent.due_in_ms is None else check_due_in_ms(intent.due_in_ms),
            )
        )
    return tuple(sealed)


def _check_intent(intent: object) -> None:
    if not isinstance(intent, Intent):
        message = f"an intent must be an Intent, not {type(intent).__name__}"
        raise TypeError(message)
    check_name("intent_type", intent.intent_type)
    if intent.intent_type == ACTION_ANSWERED:  # or anybody could tell anybody of any outcome
        raise InvalidAction("intent_type", f"{ACTION_ANSWERED} is the bridge's own")
    target: object = intent.target
    if not isinstance(target, str) or "\0" in target:
        raise InvalidAction("target", "must be text without NUL")
    size = len(target.encode())  # a lone surrogate is no text
    if size > TARGET_BYTES_MAX:
        raise InvalidAction("target", f"has {size} bytes; {TARGET_BYTES_MAX} are allowed")
    if intent.reply_to is not None:
        check_reply_to(intent.reply_to)
    if intent.due_at is not None and intent.due_in_ms is not None:
        raise InvalidAction("due_in_ms", "stands beside due_at: say one of them")
    if intent.intent_type == CANCEL_EFFECT:
        UUID(target)  # raises ValueError: it names an effect by its intent's id


def _check_depth(action: SealedAction, intent: Intent) -> None:
    """Refuse what would become, or be answered with, an action that is too deep (R10)."""
    goes_on = intent.intent_type == SUBMIT_ACTION or intent.reply_to is not None
    if goes_on and action.depth >= DEPTH_MAX:
        message = (
            f"a chain of follow-up actions and answers may be {DEPTH_MAX} long, this one would be"
            " longer"
        )
        raise ValueError(message)


def _check_follow_up(intent: Intent) -> None:
    payload = intent.payload
    needed = payload.keys() >= {"key", "type", "payload"} and isinstance(payload["payload"], dict)
    if not needed or payload.keys() - _FOLLOW_UP_FIELDS:
        raise InvalidAction("intent", "SubmitAction needs key, type and payload (an object)")
    if "cancels" in payload:
        UUID(payload["cancels"])
    if "expected_version" in payload:
        check_count("expected_version", payload["expected_version"])
    check_workflow_key(payload["key"])
    check_action_type(payload["type"])
    if intent.target != payload["key"]:
        raise InvalidAction("intent", "the target of SubmitAction is the key it names")


def check_action_type(name: object) -> str:
    """Return `name` when users may give it to an action.

    Raises:
        InvalidAction: malformed, or a type that only the bridge itself submits.
    """
    checked = check_name("type", name)
    if checked in OUR_ACTION_TYPES:
        raise InvalidAction("type", f"{checked} is the bridge's own")
    return checked


def seal_reply(action: SealedAction, outcome: Mapping[str, Any], codec: Codec) -> SealedIntent:
    """Return the intent that answers an action's `reply_to`, give-ups included (R9)."""
    target = action.reply_to or ""
    answer_id = reply_id(action.action_id, action.redrive_id)
    return SealedIntent(answer_id, ACTION_ANSWERED, target, codec.encode(outcome))


def seal_projection(
    action: SealedAction,
    state: bytes,
    key_type: KeyType,
    codec: Codec,
    committed_at: datetime,
) -> SealedProjection:
    """Run the projection of `key_type` on a fresh copy of `state`; raise what it raises."""
    key, opened = action.workflow_key, codec.decode(state)
    projection: object = key_type.project(key, opened, action.type, committed_at)
    if not isinstance(projection, Projection):
        message = (
            f"the projection of {key_type.name!r} returned {type(projection).__name__};"
            " return a Projection"
        )
        raise TypeError(message)
    indices = None if projection.indices is None else codec.encode(dict(projection.indices))
    extras = None if projection.extras is None else codec.encode(dict(projection.extras))
    for what, data in (("indices", indices), ("extras", extras)):
        if data is not None and len(data) > PROJECTION_BYTES_MAX:
            message = (
                f"a projection's {what} may have {PROJECTION_BYTES_MAX} bytes, not {len(data)}"
            )
            raise ValueError(message)
    return SealedProjection(projection.tag, projection.namespace, indices, extras)


def next_chain(chain: str, action: SealedAction, reducer_version: int, result_hash: str) -> str:
    """Return the key's hash chain after this action (R14): SHA-256 in hex.

    Over the chain before it, the action's id, type and payload, the reducer's version and the hash
    of the state it led to, separated by zero bytes.
    """
    text = b"%b\0%b\0%b\0%d\0%b\0%b" % (
        chain.encode(),
        action.action_id.bytes,
        action.type.encode(),
        reducer_version,
        result_hash.encode(),
        action.payload,
    )
    return hashlib.sha256(text).hexdigest()


def describe_error(error: BaseException) -> str:
    """Return the end of the traceback, which says most, as text that can be stored."""
    return storable("".join(traceback.format_exception(error)))[-DETAIL_CHARS_MAX:]


def storable(text: str) -> str:
    """Write out the NULs and lone surrogates of `text`: no text column and no JSON takes them."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
