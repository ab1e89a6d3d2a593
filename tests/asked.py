"""Random actions to ask two paths for, so that what they make of them can be compared.

An `Asked` says what is asked of which of a few keys under which of a few ids: small numbers, so
that ids come again (with the same content, with another, on another key), expected versions are
right or past, and epochs are higher, equal or stale. The answer must not depend on the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import UUID

from hypothesis import strategies as st

from omninode_bridge import Action, App, Rejection, Transition
from omninode_bridge.core.message import Outcome, StateCommitted
from tests.bridges import app as counting

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

OCCURRED_AT: Final = datetime(2011, 10, 1, 0, 38, 44, tzinfo=UTC)

app = App("asked")
app.include(counting)


@app.reducer("fenced", version=3, fenced=True)
def _fenced(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Write down every epoch, but no refused one."""
    if action.type == "Refused":
        return Rejection("as you wished")
    return Transition({"epochs": [*state.get("epochs", ()), action.epoch]})


@app.reducer("fragile")
def _fragile(state: dict[str, Any], action: Action) -> Transition:
    """Count; what is `Raised` breaks while the count is even, and not when it is tried again."""
    if action.type == "Raised" and state.get("count", 0) % 2 == 0:
        raise RuntimeError(action.payload["message"])
    return Transition({"count": state.get("count", 0) + 1})


@dataclass(frozen=True, slots=True)
class Asked:
    """One action; `key` and `number` are made unique by who asks."""

    key: str
    number: int
    type: str
    amount: int
    passes_on: bool
    expected_version: int | None
    epoch: int | None
    lease: int

    def key_of(self, example: int) -> str:
        """Return the key, which no other example has."""
        kind, _, name = self.key.partition(":")
        return f"{kind}:{example}-{name}"

    def id_of(self, example: int) -> UUID:
        """Return the id, which no other example has."""
        return UUID(int=(example << 32) + self.number)

    def payload_of(self, example: int) -> dict[str, Any]:
        """Return the payload. What a key passes on goes to a key that nobody else passes on to."""
        payload: dict[str, Any] = {"amount": self.amount, "message": "loud"}
        if self.passes_on:
            payload["passes_on_to"] = [self._beside(example) + "-next"]
        return payload

    def reply_to(self, example: int) -> str | None:
        """Return the key that is told the outcome: one for each key, so that order is settled."""
        if not self.passes_on:
            return None
        return self._beside(example) + "-told"

    def _beside(self, example: int) -> str:
        """Return the beginning of the counters that only this key tells of."""
        return f"counter:{self.key_of(example).replace(':', '-')}"

    @property
    def lease_id(self) -> UUID | None:
        """The lease, which an epoch comes with."""
        return None if self.epoch is None else UUID(int=self.lease)


Door = Literal["submit", "log", "timer", "cancel", "fire", "redrive"]
DOORS: Final[tuple[Door, ...]] = ("submit", "submit", *get_args(Door))


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked at once, by one of the doors.

    By `timer`: it is due when somebody says so. By `cancel`: the ids are cancelled. By `fire` all
    that waits becomes due, and by `redrive` all dead letters are redriven, whatever is asked.
    """

    door: Door
    asked: list[Asked]


KINDS: Final = (
    *["Counted"] * 6,
    "Refused",
    "Raised",
    "Mutated",
    "WrongType",
    "NotAnObject",
    "NotJson",
    "NaN",
    "Passed",
    "Unheard",
)

asks: Final[SearchStrategy[Asked]] = st.builds(
    Asked,
    key=st.sampled_from(["counter:a", "counter:a", "counter:b", "fenced:c", "fragile:d"]),
    number=st.integers(1, 12),
    type=st.sampled_from(KINDS),
    amount=st.integers(1, 3),
    passes_on=st.booleans(),
    expected_version=st.none() | st.none() | st.integers(0, 4),
    epoch=st.none() | st.integers(1, 3),
    lease=st.integers(1, 2),
)
calls: Final = st.lists(
    st.builds(Call, st.sampled_from(DOORS), st.lists(asks, min_size=1, max_size=12)),
    min_size=1,
    max_size=6,
)


def _asked(number: int, type_: str, key: str) -> Asked:
    return Asked(key, number, type_, 1, True, None, None, 1)


BROKEN_AND_REDRIVEN: Final = [
    Call("submit", [_asked(1, "Raised", "fragile:d")]),
    Call("redrive", []),  # in vain
    Call("log", [_asked(2, "Counted", "fragile:d")]),
    Call("redrive", []),
]
CANCELLED_BEFORE_IT_IS_DUE: Final = [
    Call("timer", [_asked(1, "Counted", "counter:a"), _asked(2, "Counted", "counter:a")]),
    Call("cancel", [_asked(2, "Counted", "counter:a"), _asked(3, "Counted", "counter:a")]),
    Call("submit", [_asked(3, "Counted", "counter:a")]),
    Call("fire", []),
]
"""Two that are asked in any case: what they are about is rare."""


def plain(outcome: Outcome) -> tuple[object, ...]:
    """Return all of an outcome but what differs by nature: times, effects, places among others."""
    if isinstance(outcome, StateCommitted):
        provenance = outcome.provenance
        return (
            *("committed", outcome.workflow_key, outcome.version, outcome.action_id),
            *(provenance.action_id, provenance.action_type, provenance.epoch),
            *(provenance.lease_id, provenance.correlation_id, provenance.chain),
        )
    return (
        *("gave up", outcome.workflow_key, outcome.version, outcome.action_id),
        *(outcome.attempts, outcome.reason, outcome.detail),
    )
