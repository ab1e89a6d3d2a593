"""Given a state, when an action comes, then ...: what a reducer promises, as a sentence.

    given(order, state={"status": "open"}).when("Paid", {"amount": 40}).then(
        {"status": "paid", "amount": 40}
    ).then_intents(Intent("SendReceipt", payload={"amount": 40}))

    given(order).having(("Placed", {"total": 40}), "Paid").when("Paid").then_rejected()

Rule 1: every case runs twice, on fresh copies. A reducer whose results differ is not pure (R1), and
        neither is one that changes what it was given.
Rule 2: states and payloads pass through the canonical codec, as they do in the bridge; what could
        not be stored fails here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from omninode_bridge.core.message import Action, SealedAction
from omninode_bridge.core.reducer import Rejection, Transition, seal_intents
from omninode_bridge.testing.clock import NOON
from omninode_bridge.testing.differences import differences
from omninode_bridge.testing.result import CODEC, Result, intent_fields, sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from omninode_bridge.core.message import Intent
    from omninode_bridge.core.reducer import Reducer

KEY: Final = "given:1"
_IDS: Final = UUID(int=0)

Prior = str | tuple[str, "Mapping[str, Any]"] | Action
"""An action that came before: its type, its type and payload, or all of it."""


def given(
    reducer: Reducer, *, state: Mapping[str, Any] | None = None, workflow_key: str = KEY
) -> Given:
    """Begin with `state`; without one, with a key never seen.

    Raises:
        AssertionError: `state` could not be stored.
    """
    begun = sealed({} if state is None else dict(state), "the state given")
    return Given(reducer, begun, workflow_key)


@dataclass(frozen=True, slots=True)
class Given:
    """A reducer and the state (canonical bytes) it starts from, after `absorbed` actions."""

    reducer: Reducer
    state: bytes
    workflow_key: str
    absorbed: int = 0

    def having(self, *actions: Prior) -> Given:
        """Absorb `actions` first, one after another.

        Raises:
            AssertionError: one of them is rejected, or the reducer breaks a rule.
        """
        reached = self
        for prior in actions:
            match prior:
                case str():
                    result = reached.when(prior)
                case Action():
                    result = reached.when_action(prior)
                case (action_type, payload):
                    result = reached.when(action_type, payload)
            after = result.state_after()
            reached = replace(reached, state=after, absorbed=reached.absorbed + 1)
        return reached

    def when(
        self,
        action_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        action_id: UUID | None = None,
        occurred_at: datetime = NOON,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Result:
        """Let an action come. Its id, unless given, is the same in every run of the test.

        Raises:
            AssertionError: the reducer is not pure, or returns what could not be stored.
            Exception: whatever the reducer raises.
        """
        return self.when_action(
            Action(
                uuid5(_IDS, str(self.absorbed)) if action_id is None else action_id,
                self.workflow_key,
                action_type,
                dict(payload or {}),
                occurred_at,
                epoch,
                lease_id,
                correlation_id,
            )
        )

    def when_action(self, action: Action) -> Result:
        """Let `action` come, as `when` does."""
        first, second = self._run(action), self._run(action)
        if first != second:
            told = differences(first.as_json(), second.as_json(), ("first", "then"))
            raise AssertionError(
                f"{action.type}: the reducer is not pure, two runs on equal input differ:\n{told}"
            )
        return first

    def _run(self, action: Action) -> Result:
        """Reduce fresh copies, and look at them afterwards."""
        payload = sealed(action.payload, "the payload given")
        state = CODEC.decode(self.state)
        handed = replace(action, payload=CODEC.decode(payload))
        result: object = self.reducer(state, handed)
        returned = self._returned(action, result)
        _check_unchanged(f"{action.type}: the reducer changed the state", self.state, state)
        _check_unchanged(f"{action.type}: the reducer changed the payload", payload, handed.payload)
        return returned

    def _returned(self, action: Action, result: object) -> Result:
        if isinstance(result, Rejection):
            assert isinstance(result.reason, str), f"{action.type}: a reason is text: {result!r}"
            return Result(action.type, None, (), result.reason)
        assert isinstance(result, Transition), (
            f"{action.type}: the reducer returned {type(result).__name__};"
            " return a Transition or a Rejection"
        )
        state: object = result.state
        assert isinstance(state, dict), (
            f"{action.type}: a state is a dict (a JSON object), not {type(state).__name__}"
        )
        led_to = sealed(state, f"{action.type}: the state returned")
        return Result(action.type, led_to, _sealed_intents(action, result.intents))


def _check_unchanged(what: str, before: bytes, after: object) -> None:
    try:
        now = CODEC.encode(after)
    except ValueError as error:
        raise AssertionError(f"{what} it was given, to what is no JSON: {error}") from error
    if now != before:
        told = differences(CODEC.decode(before), CODEC.decode(now), ("was", "is"))
        raise AssertionError(f"{what} it was given (work on a copy):\n{told}")


def _sealed_intents(action: Action, returned: Iterable[Intent]) -> tuple[bytes, ...]:
    """Return the intents as they will be compared, after the checks that the bridge makes."""
    try:
        intents = tuple(returned)
        seal_intents(_sealed_action(action), intents, CODEC)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{action.type}: an intent could not be stored: {error}") from error
    return tuple(CODEC.encode(intent_fields(intent)) for intent in intents)


def _sealed_action(action: Action) -> SealedAction:
    return SealedAction(
        action.action_id,
        action.workflow_key,
        action.type,
        CODEC.encode(action.payload),
        action.occurred_at,
        depth=action.depth,
    )
