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
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.testing.clock import NOON
from omninode_bridge.testing.differences import differences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from omninode_bridge.core.message import Intent
    from omninode_bridge.core.reducer import Reducer

KEY: Final = "given:1"
_IDS: Final = UUID(int=0)
_CODEC: Final = CanonicalCodec()

Prior = str | tuple[str, "Mapping[str, Any]"] | Action
"""An action that came before: its type, its type and payload, or all of it."""


def given(
    reducer: Reducer, *, state: Mapping[str, Any] | None = None, workflow_key: str = KEY
) -> Given:
    """Begin with `state`; without one, with a key never seen.

    Raises:
        AssertionError: `state` could not be stored.
    """
    sealed = _sealed({} if state is None else dict(state), "the state given")
    return Given(reducer, sealed, workflow_key)


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
        payload = _sealed(action.payload, "the payload given")
        state = _CODEC.decode(self.state)
        handed = replace(action, payload=_CODEC.decode(payload))
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
        sealed = _sealed(state, f"{action.type}: the state returned")
        return Result(action.type, sealed, _sealed_intents(action, result.intents))


@dataclass(frozen=True, slots=True)
class Result:
    """What the reducer made of the action: a state and intents, or the reason of a rejection."""

    action_type: str
    state: bytes | None
    intents: tuple[bytes, ...]
    reason: str | None = None

    def then(self, state: Mapping[str, Any]) -> Result:
        """Demand that the action was absorbed, and led to exactly `state`.

        Raises:
            AssertionError: showing expected and actual.
        """
        actual = self.state_after()
        expected = _sealed(dict(state), "the state expected")
        self._compare("led to another state", expected, actual)
        return self

    def then_intents(self, *intents: Intent) -> Result:
        """Demand exactly these intents, in this order; none: that there are none.

        Raises:
            AssertionError: showing expected and actual.
        """
        self.state_after()
        expected = [_intent_fields(intent) for intent in intents]
        actual = [_CODEC.decode(intent) for intent in self.intents]
        sealed = _sealed(expected, "the intents expected")
        self._compare("has other intents", sealed, _CODEC.encode(actual))
        return self

    def then_rejected(self, reason: str | None = None) -> Result:
        """Demand that the action was rejected, and why, if `reason` is given.

        Raises:
            AssertionError: showing expected and actual.
        """
        wanted = "a rejection" if reason is None else repr(reason)
        if self.reason is None:
            raise AssertionError(
                f"{self.action_type} was to be rejected, and was absorbed:\n"
                f"  expected: {wanted}\n"
                f"  actual:   {self._shown(self.state)}"
            )
        if reason is not None and reason != self.reason:
            raise AssertionError(
                f"{self.action_type} was rejected for another reason:\n"
                f"  expected: {wanted}\n  actual:   {self.reason!r}"
            )
        return self

    def state_after(self) -> bytes:
        """Return the state it led to, as canonical bytes.

        Raises:
            AssertionError: it was rejected.
        """
        if self.state is None:
            raise AssertionError(
                f"{self.action_type} was to be absorbed, and was rejected: {self.reason!r}"
            )
        return self.state

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, to be compared and shown."""
        return {
            "state": None if self.state is None else _CODEC.decode(self.state),
            "intents": [_CODEC.decode(intent) for intent in self.intents],
            "rejected": self.reason,
        }

    def _compare(self, what: str, expected: bytes, actual: bytes) -> None:
        if expected == actual:
            return
        decoded = (_CODEC.decode(expected), _CODEC.decode(actual))
        raise AssertionError(
            f"{self.action_type} {what}:\n"
            f"  expected: {self._shown(expected)}\n  actual:   {self._shown(actual)}\n"
            f"where:\n{differences(*decoded, ('expected', 'actual'))}"
        )

    def _shown(self, data: bytes | None) -> str:
        return "nothing" if data is None else data.decode()


def _sealed(value: object, what: str) -> bytes:
    try:
        return _CODEC.encode(value)
    except ValueError as error:
        raise AssertionError(f"{what} is not JSON that can be stored: {error}") from error


def _check_unchanged(what: str, before: bytes, after: object) -> None:
    try:
        now = _CODEC.encode(after)
    except ValueError as error:
        raise AssertionError(f"{what} it was given, to what is no JSON: {error}") from error
    if now != before:
        told = differences(_CODEC.decode(before), _CODEC.decode(now), ("was", "is"))
        raise AssertionError(f"{what} it was given (work on a copy):\n{told}")


def _sealed_intents(action: Action, intents: tuple[Intent, ...]) -> tuple[bytes, ...]:
    """Return the intents as they will be compared, after the checks that the bridge makes."""
    try:
        seal_intents(_sealed_action(action), intents, _CODEC)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{action.type}: an intent could not be stored: {error}") from error
    return tuple(_CODEC.encode(_intent_fields(intent)) for intent in intents)


def _sealed_action(action: Action) -> SealedAction:
    return SealedAction(
        action.action_id,
        action.workflow_key,
        action.type,
        _CODEC.encode(action.payload),
        action.occurred_at,
        depth=action.depth,
    )


def _intent_fields(intent: Intent) -> dict[str, Any]:
    return {
        "intent_type": intent.intent_type,
        "target": intent.target,
        "payload": dict(intent.payload),
    }
