"""What is declared of an effect, what its handler is given, and what it may return.

Rule 1: a handler may be called more than once for one intent (R10). The intent's id is the same
        each time: it is the idempotency key to hand on to whom the handler speaks to. Not so for
        a run's step that is asked for once more: see `EffectCall`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.message import (
    CANCEL_EFFECT,
    FOLLOW_UPS,
    FSM_STATE_TRANSITIONED,
    check_name,
)
from omninode_bridge.core.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.message import Intent

    Handle = Callable[..., Awaitable["EffectResult | Mapping[str, Any] | None"]]

BACKOFF: Final = Backoff(attempts=5, base_ms=100, cap_ms=30_000)
TIMEOUT_S: Final = 30.0
CONCURRENCY: Final = 16
CONCURRENCY_MAX: Final = 1_000
_OURS: Final = FOLLOW_UPS | {CANCEL_EFFECT, FSM_STATE_TRANSITIONED}


@dataclass(frozen=True, slots=True)
class EffectCall:
    """What a handler is given. `intent_id` is the idempotency key; `attempt` counts from 1.

    `payload` is the intent's, decoded for this one call; the intent comes from action `action_id`
    on `workflow_key`.

    A run that tries a step again asks with a new intent, and so with a new `intent_id`. A handler
    that runs use hands on the `{step_id}` of its payload: it is the same for all attempts of a step
    (docs/guides/orchestration.md).
    """

    intent_id: UUID
    intent_type: str
    target: str
    payload: dict[str, Any]
    workflow_key: str
    action_id: UUID
    correlation_id: UUID | None
    committed_at: datetime
    attempt: int
    attempts: int


@dataclass(frozen=True, slots=True)
class EffectResult:
    """What a handler may return: a JSON object for `reply_to`, and what follows from it.

    `follow_ups` are intents, most often `Intent.submit(...)`; those are applied exactly once.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    follow_ups: tuple[Intent, ...] = ()


@dataclass(frozen=True, slots=True)
class EffectType:
    """What is declared of the intents `name`.

    `timeout_s` is for one attempt; `concurrency` is how many attempts a process has under way.
    `ordered`: those of one workflow key one after another. `transactional`: the handler is given a
    database connection too, and what it writes there is committed with the end of the effect.

    Raises:
        ValueError: naming what is out of bounds.
    """

    name: str
    handle: Handle
    backoff: Backoff = BACKOFF
    timeout_s: float = TIMEOUT_S
    concurrency: int = CONCURRENCY
    ordered: bool = False
    transactional: bool = False

    def __post_init__(self) -> None:
        """Refuse what could never run."""
        check_name("an effect's name", self.name)
        if self.name in _OURS:
            message = f"{self.name!r} is carried out by the bridge itself"
            raise ValueError(message)
        if not self.timeout_s > 0:
            message = f"timeout must be above 0 seconds, not {self.timeout_s}"
            raise ValueError(message)
        if not 1 <= self.concurrency <= CONCURRENCY_MAX:
            message = f"concurrency must be 1 to {CONCURRENCY_MAX}, not {self.concurrency}"
            raise ValueError(message)
