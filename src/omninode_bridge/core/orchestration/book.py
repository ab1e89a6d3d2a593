"""A run's state, copied to be changed by one action, and how steps are asked for and cancelled.

Rule 1: a step has at most one attempt under way; its record then has `ask`, the id of that attempt.
Rule 2: time is counted from the commit that asks, by the database's clock. The time of the action
        is told, and nothing is counted from it: it may be an asker's, or long ago.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from omninode_bridge.core.message import DEPTH_MAX, NEW_CHAIN_S, Intent, intent_id
from omninode_bridge.core.orchestration.asking import ask_intent, cancel_intent, dice, known
from omninode_bridge.core.orchestration.states import (
    RUN_TABLE,
    STEP_TABLE,
    STEP_TIMED_OUT,
    moved,
)
from omninode_bridge.core.orchestration.stored_contract import restore_contract
from omninode_bridge.core.retry import next_wait_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from omninode_bridge.core.message import Action
    from omninode_bridge.core.orchestration.contract import Ask, Retry, RunStep

    Record = dict[str, Any]

DETAIL_CHARS_MAX: Final = 1_000
DEEP: Final = DEPTH_MAX // 2
"""So deep, an action is asked for a little later: what is due later begins a chain of its own."""

_PAUSE_MS: Final = round(5_000 * NEW_CHAIN_S)


class Book:
    """A copy of a run's state. `steps` are its records by name, `intents` what follows."""

    def __init__(self, state: Mapping[str, Any], action: Action) -> None:
        """Copy what may change; the contract, the input and results never do."""
        steps = {name: dict(record) for name, record in state["steps"].items()}
        for record in steps.values():
            if "undo" in record:
                record["undo"] = dict(record["undo"])
        self.state: dict[str, Any] = {**state, "steps": steps}
        self.contract = restore_contract(state["contract"])
        self.action = action
        self.steps: dict[str, Record] = steps
        self.intents: list[Intent] = []

    def ask(
        self, step: RunStep, ask: Ask, attempt: Record, timeout_ms: int | None, wait_ms: int
    ) -> None:
        """Ask once more; `attempt` is the record of the step, or of its undo.

        Raises:
            CannotAsk: saying why.
        """
        due_in_ms = self._due_in_ms(wait_ms)
        values, key = known(self.state, step.name), self.action.workflow_key
        intent = ask_intent(ask, values, key, due_in_ms)
        ask_id = str(intent_id(self.action.action_id, len(self.intents)))
        self.intents.append(intent)
        attempt["attempts"] = attempt.get("attempts", 0) + 1
        attempt["ask"] = ask_id
        if timeout_ms is not None:
            self.intents.append(
                Intent.submit(
                    key,
                    STEP_TIMED_OUT,
                    {"step": step.name, "ask": ask_id},
                    due_in_ms=(due_in_ms or 0) + timeout_ms,
                )
            )

    def cancel(self, name: str, ask: Ask, ask_id: str) -> None:
        """Cancel what step `name` has asked for under `ask_id`; its one reply is still to come."""
        values, key = known(self.state, name), self.action.workflow_key
        self.intents.append(cancel_intent(ask, values, key, UUID(ask_id)))

    def may_retry(self, retry: Retry, attempt: Record, reason: str) -> bool:
        """Return whether an attempt that failed for `reason` may be followed by another."""
        return attempt["attempts"] < retry.attempts and reason in retry.reasons

    def wait_ms(self, retry: Retry, attempt: Record) -> int:
        """Return the jittered wait before the next attempt, and keep it for the one after."""
        previous_ms = attempt.get("wait_ms", retry.base_ms)
        uniform = dice(self.action.action_id, attempt["attempts"])
        wait_ms = round(next_wait_ms(previous_ms, retry.base_ms, retry.cap_ms, uniform))
        attempt["wait_ms"] = wait_ms
        return wait_ms

    def with_records(self) -> Iterator[tuple[RunStep, Record]]:
        """Yield the steps in the contract's order, each with its record."""
        for step in self.contract.steps:
            yield step, self.steps[step.name]

    def move(self, record: Record, trigger: str) -> None:
        """Bring a step to where `trigger` leads."""
        record["status"] = moved(STEP_TABLE, record["status"], trigger)

    def finish(self, trigger: str) -> None:
        """End the run."""
        self.state["status"] = moved(RUN_TABLE, self.state["status"], trigger)
        self.state["ended_at"] = self.now()

    def now(self) -> str:
        """Return the time of the action, as it is kept in records."""
        return self.action.occurred_at.isoformat()

    def _due_in_ms(self, wait_ms: int) -> int | None:
        """Return when to ask; None: now. A chain that has grown deep pauses, and begins anew."""
        if self.action.depth >= DEEP:
            return max(_PAUSE_MS, wait_ms)
        return wait_ms or None
