"""One attempt of an effect: what its handler is given, and what becomes of it when that raises.

Rule 1: whatever a handler raises ends one attempt. The last one, or a refusal, ends the effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.effect_types import EffectCall
from omninode_bridge.core.effects import EndedEffect, ParkedEffect, ended_badly
from omninode_bridge.core.errors import DatabaseUnavailable, EffectRefused
from omninode_bridge.core.reducer import DETAIL_CHARS_MAX, describe_error, storable
from omninode_bridge.core.retry import next_wait_ms

if TYPE_CHECKING:
    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.core.effects import OpenEffect
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.core.retry import Uniform

EXPONENT_MAX: Final = 64
"""From there on any wait is at its cap; a power much larger fits no float."""


class OutOfTime(TimeoutError):
    """A handler had no end within its time; a `TimeoutError` of its own is another thing."""


def call_of(effect: OpenEffect, effect_type: EffectType, attempt: int, codec: Codec) -> EffectCall:
    """Return what the handler is given in this attempt, with a payload of its own."""
    entry, intent = effect.entry, effect.entry.intent
    return EffectCall(
        intent.intent_id,
        intent.intent_type,
        intent.target,
        codec.decode(intent.payload),
        entry.workflow_key,
        entry.action_id,
        entry.correlation_id,
        entry.committed_at,
        attempt,
        effect_type.backoff.attempts,
    )


def raised(
    effect: OpenEffect,
    effect_type: EffectType,
    attempt: int,
    error: BaseException,
    codec: Codec,
    uniform: Uniform,
    *,
    is_cancelled: bool,
) -> EndedEffect | ParkedEffect:
    """Return what becomes of an effect whose handler has raised `error` in this attempt.

    `is_cancelled`: it is to be tried no more, whatever is left of its attempts. A refusal is one
    all the same: it says more.
    """
    match error:
        case EffectRefused():
            detail = storable(str(error))[:DETAIL_CHARS_MAX]
            return ended_badly(effect, "dead", attempt, detail, codec, refused=True)
        case OutOfTime():
            where = describe_error(error.__cause__ or error)
            detail = f"no end within {effect_type.timeout_s:g} s\n{where}"[:DETAIL_CHARS_MAX]
        case _ if type(error).__name__ == "CancelledError":  # asyncio's: the core knows no async
            detail = "the handler was cancelled"
        case _:
            detail = describe_error(error)
    if is_cancelled:
        return ended_badly(effect, "cancelled", attempt, detail, codec)
    became = _failed(effect, effect_type, attempt, detail, codec, uniform)
    if isinstance(became, ParkedEffect) and isinstance(error, DatabaseUnavailable):
        return replace(became, maybe_over=effect_type.transactional)
    return became


def _failed(
    effect: OpenEffect,
    effect_type: EffectType,
    attempt: int,
    detail: str,
    codec: Codec,
    uniform: Uniform,
) -> EndedEffect | ParkedEffect:
    """Return what becomes of an effect after a failed attempt: it is tried again, or dead."""
    backoff = effect_type.backoff
    if attempt >= backoff.attempts:
        return ended_badly(effect, "dead", attempt, detail, codec)
    # Decorrelated jitter looks at the wait before; nobody has kept it, so at its bound.
    grown = 3 ** min(attempt - 1, EXPONENT_MAX)
    longest_ms = min(backoff.cap_ms, backoff.base_ms * grown)
    wait_ms = next_wait_ms(longest_ms, backoff.base_ms, backoff.cap_ms, uniform)
    return ParkedEffect(effect, attempt, detail, None, wait_ms / 1000)
