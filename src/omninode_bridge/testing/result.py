"""What a reducer made of an action, and the demands that a test makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.testing.differences import differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.message import Intent

CODEC: Final = CanonicalCodec()


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
        expected = sealed(dict(state), "the state expected")
        self._compare("led to another state", expected, actual)
        return self

    def then_intents(self, *intents: Intent) -> Result:
        """Demand exactly these intents, in this order; none: that there are none.

        Raises:
            AssertionError: showing expected and actual.
        """
        self.state_after()
        expected = [intent_fields(intent) for intent in intents]
        actual = [CODEC.decode(intent) for intent in self.intents]
        wanted = sealed(expected, "the intents expected")
        self._compare("has other intents", wanted, CODEC.encode(actual))
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
            "state": None if self.state is None else CODEC.decode(self.state),
            "intents": [CODEC.decode(intent) for intent in self.intents],
            "rejected": self.reason,
        }

    def _compare(self, what: str, expected: bytes, actual: bytes) -> None:
        if expected == actual:
            return
        decoded = (CODEC.decode(expected), CODEC.decode(actual))
        raise AssertionError(
            f"{self.action_type} {what}:\n"
            f"  expected: {self._shown(expected)}\n  actual:   {self._shown(actual)}\n"
            f"where:\n{differences(*decoded, ('expected', 'actual'))}"
        )

    def _shown(self, data: bytes | None) -> str:
        return "nothing" if data is None else data.decode()


def sealed(value: object, what: str) -> bytes:
    """Return the canonical bytes of `value`, or fail with its name, `what`."""
    try:
        return CODEC.encode(value)
    except ValueError as error:
        raise AssertionError(f"{what} is not JSON that can be stored: {error}") from error


def intent_fields(intent: Intent) -> dict[str, Any]:
    """Return `intent` as JSON."""
    return {
        "intent_type": intent.intent_type,
        "target": intent.target,
        "payload": dict(intent.payload),
    }
