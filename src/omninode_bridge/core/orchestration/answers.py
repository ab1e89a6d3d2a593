"""How an attempt ended, read from the reply that tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omninode_bridge.core.message import ACTION_ANSWERED

if TYPE_CHECKING:
    from omninode_bridge.core.message import Action


@dataclass(frozen=True, slots=True)
class Answer:
    """How the attempt `ask_id` ended: it `happened`, or not, for a `reason` of the contract's.

    `maybe`: it did not end well, and may have happened in the world all the same.
    """

    ask_id: str
    happened: bool
    maybe: bool = False
    reason: str = ""
    detail: str = ""
    version: int | None = None
    result: dict[str, Any] | None = None


def read_answer(action: Action) -> Answer:
    """Return what an `ActionAnswered` or an `EffectAnswered` tells of."""
    told = action.payload
    if action.type == ACTION_ANSWERED:
        if told["event"] == "StateCommitted":
            return Answer(told["action_id"], happened=True, version=told["version"])
        return Answer(
            told["action_id"], happened=False, reason=told["reason"], detail=told["detail"]
        )
    if told["status"] == "done":
        return Answer(told["intent_id"], happened=True, result=told["result"] or {})
    return Answer(
        told["intent_id"],
        happened=False,
        maybe=told["maybe_done"],
        reason=told["status"],
        detail=told["detail"],
    )
