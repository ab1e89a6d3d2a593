"""What a run asks for: intents made from a step's templates, and dice made from ids.

Rule 1: everything comes from the run's state and the action (R1): the same ask can be made again,
        which is how it is cancelled.
Rule 2: bounded (R13), so that no run can grow until it can no longer be stored.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import Intent, check_workflow_key
from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.orchestration.templates import MissingReference, fill, fill_text
from omninode_bridge.core.reducer import TARGET_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from omninode_bridge.core.orchestration.contract import Ask

ASK_BYTES_MAX: Final = 65_536
"""Of the payload of one ask; all steps of a run may be asked in one transition."""

RESULT_BYTES_MAX: Final = 65_536
"""Of an effect's result that the run keeps; the state holds those of all steps."""

NESTING_MAX: Final = 100
"""How deep an input may be, the payload of an ask, and a result that the run keeps: well below what
can be encoded, 254, for the run's state and what is asked for lie around them."""


class CannotAsk(ValueError):
    """A step cannot be asked for: a reference leads nowhere, or what it makes is too large."""


def known(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what the templates of step `name` can refer to."""
    steps = {
        each: {"result": record.get("result"), "version": record["version"]}
        if "version" in record
        else {"result": record["result"]}
        for each, record in state["steps"].items()
        if "version" in record or "result" in record
    }
    return {
        "workflow_id": state["workflow_id"],
        "step_id": f"{state['workflow_id']}/{name}",
        "input": state["input"],
        "steps": steps,
    }


def ask_intent(ask: Ask, values: Mapping[str, Any], run_key: str, due_in_ms: int | None) -> Intent:
    """Return the intent that asks for it, and has the run told how it ended.

    `due_in_ms` is counted from the commit of the action that leads to it; None: at once.

    Raises:
        CannotAsk: saying why.
    """
    target, payload = _filled(ask, values)
    if ask.kind == "effect":
        return Intent(ask.name, target, payload, reply_to=run_key, due_in_ms=due_in_ms)
    return Intent.submit(target, ask.name, payload, reply_to=run_key, due_in_ms=due_in_ms)


def cancel_intent(ask: Ask, values: Mapping[str, Any], run_key: str, ask_id: UUID) -> Intent:
    """Return the intent that cancels what was asked under `ask_id`."""
    if ask.kind == "effect":
        return Intent.cancel_effect(ask_id)
    target, payload = _filled(ask, values)
    return Intent.cancel(target, ask.name, payload, action_id=ask_id, reply_to=run_key)


def _filled(ask: Ask, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        target, payload = fill_text(ask.target, values), fill(ask.payload, values)
        if ask.kind == "action":
            check_workflow_key(target)
    except MissingReference as error:
        raise CannotAsk(str(error)) from error
    except InvalidAction as error:
        raise CannotAsk(f"the key {target!r}: {error.detail}") from error
    if "\0" in target or len(target.encode()) > TARGET_BYTES_MAX:
        raise CannotAsk(f"the target may have {TARGET_BYTES_MAX} bytes, and no NUL")
    if is_nested_deeper(payload, NESTING_MAX):
        raise CannotAsk(f"the payload would be nested more than {NESTING_MAX} deep")
    size = size_of(payload)
    if size > ASK_BYTES_MAX:
        raise CannotAsk(f"the payload would have {size} bytes; {ASK_BYTES_MAX} are allowed")
    return target, payload


def size_of(value: object) -> int:
    """Return about how many bytes `value` takes as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def dice(*names: object) -> Callable[[float, float], float]:
    """Return dice that fall the same way for the same names (R1)."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * share

    return uniform
