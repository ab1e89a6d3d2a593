"""Effects in hand: what was read of them, how they end, and what follows from that.

Rule 1: how an effect ended is said once (R10): what follows from it, follow-up actions and the
        answer to who asked, has ids made from the intent's, and is written with the end. A dead one
        that is redriven ends once more, and its new answer has a new id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from omninode_bridge.core.effect_types import EffectResult
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    EFFECT_ANSWERED,
    FSM_STATE_TRANSITIONED,
    PAYLOAD_BYTES_MAX,
    SUBMIT_ACTION,
    SealedAction,
    reply_id,
)
from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.reducer import SealedIntent, seal_intents

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Final
    from uuid import UUID

    from omninode_bridge.core.reducer import Codec

RESULT_BYTES_MAX: Final = PAYLOAD_BYTES_MAX // 2
"""An answer carries it as its payload, and something stands around it."""

RESULT_NESTING_MAX: Final = 200
"""As deep as it may be nested, for the same reason: 254 is all that can be encoded."""

EffectStatus = Literal["done", "dead", "cancelled"]


@dataclass(frozen=True, slots=True)
class LoggedIntent:
    """An entry of the `intent` log, with what a follow-up action inherits from its source.

    The source is action `action_id` on `workflow_key`. `committed_at` is the time of its commit by
    the database's clock: what is due some time later is due from there.
    """

    offset: int
    intent: SealedIntent
    action_id: UUID
    correlation_id: UUID | None
    depth: int
    committed_at: datetime
    workflow_key: str

    @property
    def due_at(self) -> datetime | None:
        """When what it asks for is due, by the database's clock; None: at once."""
        if self.intent.due_in_ms is None:
            return self.intent.due_at
        return self.committed_at + timedelta(milliseconds=self.intent.due_in_ms)


@dataclass(frozen=True, slots=True)
class OpenEffect:
    """An intent whose effect is not over. `attempts` were made; `parked`: it waits outside the log.

    `detail` is what the last of them came to. `redriven` is how often it was dead and was tried
    again. `maybe_begun`: there may have been one attempt more, by somebody who has ended without a
    word of it.
    """

    entry: LoggedIntent
    attempts: int = 0
    redriven: int = 0
    parked: bool = False
    maybe_begun: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EndedEffect:
    """How an effect ended, and the intents that follow: they are as deep as its own."""

    effect: OpenEffect
    status: EffectStatus
    attempts: int
    detail: str
    follow_ups: tuple[SealedIntent, ...] = ()


@dataclass(frozen=True, slots=True)
class ParkedEffect:
    """An effect that is to wait outside of the log: until `due_at`, or for `due_in_s` seconds.

    `maybe_over`: its end may be durable already, and the reply to that was lost. Then it is parked
    no more, and whoever keeps a lane for it has to ask.
    """

    effect: OpenEffect
    attempts: int
    detail: str
    due_at: datetime | None = None
    due_in_s: float = 0.0
    maybe_over: bool = False


def done(effect: OpenEffect, attempt: int, returned: object, codec: Codec) -> EndedEffect:
    """Return the end of an effect whose handler has returned.

    Raises:
        TypeError, ValueError: what it returned cannot be stored.
    """
    entry = effect.entry
    intent = entry.intent
    if returned is None:
        outcome = EffectResult()
    elif isinstance(returned, dict):
        outcome = EffectResult(returned)
    elif isinstance(returned, EffectResult):
        outcome = returned
    else:
        message = (
            f"the handler of {intent.intent_type!r} returned {type(returned).__name__};"
            " return None, a dict or an EffectResult"
        )
        raise TypeError(message)
    if is_nested_deeper(outcome.result, RESULT_NESTING_MAX):
        raise InvalidAction("an effect's result", f"is nested more than {RESULT_NESTING_MAX} deep")
    result = codec.encode(dict(outcome.result))
    if len(result) > RESULT_BYTES_MAX:
        detail = f"has {len(result)} bytes; {RESULT_BYTES_MAX} are allowed"
        raise InvalidAction("an effect's result", detail)
    source = SealedAction(
        *(intent.intent_id, entry.workflow_key, intent.intent_type, b"{}", entry.committed_at),
        depth=entry.depth,
    )
    follow_ups = seal_intents(source, outcome.follow_ups, codec)
    if any(follow_up.intent_type == FSM_STATE_TRANSITIONED for follow_up in follow_ups):
        message = "only a reducer tells of transitions"
        raise ValueError(message)
    answer = _answer(effect, "done", result, "", attempt, codec, maybe_done=False)
    return EndedEffect(effect, "done", attempt, "", (*follow_ups, *answer))


def ended_badly(
    effect: OpenEffect,
    status: Literal["dead", "cancelled"],
    attempts: int,
    detail: str,
    codec: Codec,
    *,
    refused: bool = False,
) -> EndedEffect:
    """Return the end of an effect after `attempts`, each of which may have done it all the same.

    `refused`: the last one did not, for the handler said so. One that is redriven was dead before,
    and nobody knows any more what its attempts did then; nor what one did that has left no word.
    """
    maybe_done = attempts - refused > 0 or effect.redriven > 0 or effect.maybe_begun
    answer = _answer(effect, status, None, detail, attempts, codec, maybe_done=maybe_done)
    return EndedEffect(effect, status, attempts, detail, answer)


def _answer(
    effect: OpenEffect,
    status: EffectStatus,
    result: bytes | None,
    detail: str,
    attempts: int,
    codec: Codec,
    *,
    maybe_done: bool,
) -> tuple[SealedIntent, ...]:
    """Return the intent that tells `reply_to` of the end, if anybody asked to be told."""
    intent = effect.entry.intent
    if intent.reply_to is None:
        return ()
    answer = {
        "intent_id": str(intent.intent_id),
        "intent_type": intent.intent_type,
        "status": status,
        "result": None if result is None else codec.decode(result),
        "detail": detail,
        "attempts": attempts,
        "maybe_done": maybe_done,
    }
    body = {"key": intent.reply_to, "type": EFFECT_ANSWERED, "payload": answer}
    sealed = SealedIntent(
        reply_id(intent.intent_id, effect.redriven),
        SUBMIT_ACTION,
        intent.reply_to,
        codec.encode(body),
    )
    return (sealed,)
