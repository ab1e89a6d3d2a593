"""What is stored is what was encoded: the same canonical bytes come back from every table."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from omninode_bridge.ports import CutOff
from tests.contract.batches import action, committed, snapshot
from tests.contract.ports import CODEC

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from tests.contract.ports import Ports

INTEGERS: Final = st.integers(-(2**63), 2**64 - 1)
TEXTS: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.sampled_from([-(2**63), 2**63 - 1, 2**63, 2**64 - 1, 2**53 + 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e15, 1e16, 1e19, 1e22, 1.5e300, 5e-324, 1e-7, 2.0**63, 2.0**64]),
    TEXTS,
    st.sampled_from(["\\u0000", "\\", '"', "\u2028", "\x7f", "\U0001f600", "null", "-0.0", "e+"]),
)
VALUES: SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)
DOCUMENTS: Final = st.lists(st.dictionaries(TEXTS, VALUES, max_size=6), min_size=1, max_size=20)
_numbers: Final = count()


def nested(depth: int) -> dict[str, Any]:
    """Return a document with `depth` objects in one another."""
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"in": document}
    return document


@pytest.mark.parametrize("how", ["at once", "one by one"])
@given(documents=DOCUMENTS)
@example(documents=[{}])
@example(documents=[nested(200)])
@example(documents=[{"b": 1, "a": 2, "ab": 3, "aa": 4, "": 5, "é": 6, "\U0001f600": 7}])
@settings(
    max_examples=25,
    deadline=None,
    # The database is the same for all examples of a test; each has keys of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_states_intents_projections_and_payloads_come_back_byte_for_byte(
    ports: Ports,
    how: str,
    documents: list[dict[str, Any]],
) -> None:
    asked = [action(f"document:{next(_numbers)}", payload=document) for document in documents]
    sealed = [CODEC.encode(document) for document in documents]
    if how == "at once":
        outcomes = await committed(ports, *asked)
    else:
        outcomes = [(await committed(ports, one))[0] for one in asked]
    first = outcomes[0].committed().commit_offset

    for one, data in zip(asked, sealed, strict=True):
        assert (await snapshot(ports, one.workflow_key)).state == data
    entries = await ports.projections.read(0, first, 1_000)
    assert [entry.projection.indices for entry in entries] == sealed
    assert [entry.projection.extras for entry in entries] == sealed
    intents = await ports.intents.read(0, first, 1_000)  # one an action: they count alike
    assert not isinstance(intents, CutOff)
    assert [entry.intent.payload for entry in intents] == sealed

    logged = await ports.actions.read(1, 1, 1_000_000)
    assert not isinstance(logged, CutOff)
    assert await ports.actions.append(1, asked) == len(asked)
    again = await ports.actions.read(1, len(logged) + 1, 1_000)
    assert not isinstance(again, CutOff)
    assert [entry.action for entry in again] == asked


@given(value=VALUES)
@settings(max_examples=200, deadline=None)
def test_canonical_bytes_are_one_normal_form(value: object) -> None:
    data = CODEC.encode(value)
    assert CODEC.encode(CODEC.decode(data)) == data
