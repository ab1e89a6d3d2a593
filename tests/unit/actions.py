"""Actions, key types and JSON values as the unit tests need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from hypothesis import strategies as st

from omninode_bridge.core.message import Action, SealedAction
from omninode_bridge.core.reducer import Absorbed, KeyType, Refused, Transition
from omninode_bridge.infrastructure.codec import CanonicalCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.reducer import Rejection, Step

CODEC: Final = CanonicalCodec()
KEY: Final = "counter:1"
OCCURRED_AT: Final = datetime(2011, 10, 1, 0, 38, 44, 546000, tzinfo=UTC)
COMMITTED_AT: Final = datetime(2011, 10, 1, 0, 38, 45, tzinfo=UTC)
EFFECT_ID: Final = UUID(int=2**100)
LEASE: Final = UUID(int=2**101)

storable_text: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
integers: Final = st.integers(-(2**63), 2**64 - 1)
floats: Final = st.floats(allow_nan=False, allow_infinity=False)
json_values: Final = st.recursive(
    st.none() | st.booleans() | integers | floats | storable_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(storable_text, inner, max_size=4),
    max_leaves=12,
)
json_objects: Final = st.dictionaries(storable_text, json_values, max_size=4)


def sealed(
    action_type: str = "Counted", payload: Mapping[str, Any] | None = None, number: int = 1
) -> SealedAction:
    """Return an action on `KEY` whose id is `number`; use `replace` for its terms."""
    content = CODEC.encode(payload or {})
    return SealedAction(UUID(int=number), KEY, action_type, content, OCCURRED_AT)


def counted(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Count, and add up the amounts."""
    count = state.get("count", 0) + 1
    return Transition({"count": count, "total": state.get("total", 0) + action.payload["amount"]})


COUNTER: Final = KeyType("counter", 3, counted)


def absorbed(step: Step) -> Absorbed:
    """Return `step`, which was absorbed."""
    assert isinstance(step, Absorbed), str(step)[:1_000]
    return step


def refused(step: Step) -> Refused:
    """Return `step`, which was given up."""
    assert isinstance(step, Refused), str(step)[:1_000]
    return step
