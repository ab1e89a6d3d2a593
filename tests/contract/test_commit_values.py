"""The contract of `CanonicalStore.commit` for values that no database could hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge.core.errors import ValueRefused
from omninode_bridge.core.reducer import Absorbed, Refused
from tests.contract.batches import KEYS, accepted, action, committed, everything, folded, snapshot
from tests.contract.ports import CODEC

if TYPE_CHECKING:
    from tests.contract.ports import Ports

# Each is (what it replaces in the step, by what): the codec and the checks of an action keep all of
# them out, so here they are put behind these checks.
UNSTORABLE: dict[str, Any] = {
    "a NUL in a state": lambda step: replace(
        step, snapshot=replace(step.snapshot, state=b'{"a":"x\\u0000y"}')
    ),
    "a NUL in a key of a state": lambda step: replace(
        step, snapshot=replace(step.snapshot, state=b'{"\\u0000":1}')
    ),
    "a lone surrogate in a state": lambda step: replace(
        step, snapshot=replace(step.snapshot, state=b'{"a":"\\ud800"}')
    ),
    "a NUL in an action's type": lambda step: replace(
        step, action=replace(step.action, type="Coun\0ted")
    ),
    "a NUL in an intent's target": lambda step: replace(
        step, intents=(replace(step.intents[0], target="\0"),)
    ),
    "a lone surrogate in an intent's target": lambda step: replace(
        step, intents=(replace(step.intents[0], target="\ud800"),)
    ),
    "a NUL in an intent's type": lambda step: replace(
        step, intents=(replace(step.intents[0], intent_type="\0"),)
    ),
    "a time to remember beyond all calendars": lambda step: replace(
        step, action=replace(step.action, remember_s=1e14)
    ),
    "a NUL in a reason": lambda step: Refused(step.action, "rejected", "no\0", 0),
}


@pytest.mark.parametrize("how", UNSTORABLE)
async def test_a_value_that_cannot_be_stored_refuses_the_whole_batch(
    ports: Ports, how: str
) -> None:
    neighbours = [action("counter:2"), action("counter:3", "Refused")]
    asked = action(payload={"passes_on_to": ["counter:9"]})
    commit = await folded(ports.store, neighbours[0], asked, neighbours[1])
    spoil = UNSTORABLE[how]
    spoilt = replace(commit, steps=[commit.steps[0], spoil(commit.steps[1]), commit.steps[2]])
    before = await everything(ports, KEYS)
    with pytest.raises(ValueRefused):
        await ports.store.commit(spoilt)
    assert await everything(ports, KEYS) == before
    with pytest.raises(ValueRefused):
        async with ports.store.locked(0) as locked:
            await locked.commit(spoilt)
    assert await everything(ports, KEYS) == before
    told = await committed(ports, *neighbours)
    assert [type(outcome).__name__ for outcome in told] == ["StateCommitted", "ReducerGaveUp"]


@pytest.mark.parametrize(
    "state",
    [
        b'{"text":"\\\\u0000"}',
        b'{"text":"\\\\ud800"}',
        '{"text":"\U0001f600 é"}'.encode(),
        b'{"text":"\\u0001\\u001f"}',
    ],
)
async def test_what_only_looks_unstorable_is_stored(ports: Ports, state: bytes) -> None:
    commit = await folded(ports.store, action())
    (step,) = commit.steps
    assert isinstance(step, Absorbed)
    stored = replace(step, snapshot=replace(step.snapshot, state=CODEC.encode(CODEC.decode(state))))
    accepted(await ports.store.commit(replace(commit, steps=[stored])))
    assert CODEC.decode((await snapshot(ports, "counter:1")).state) == CODEC.decode(state)
