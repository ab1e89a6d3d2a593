"""Effects: what is to be done, what waits, and how it ended; each end once (R2, R10, R12)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from omninode_bridge.core.effect_types import EffectResult
from omninode_bridge.core.effects import (
    EndedEffect,
    OpenEffect,
    ParkedEffect,
    done,
    ended_badly,
)
from omninode_bridge.core.message import Intent
from omninode_bridge.ports import CutOff
from tests.contract.batches import action, committed, owned
from tests.contract.ports import CODEC, LEASE

if TYPE_CHECKING:
    from omninode_bridge.core.effects import LoggedIntent
    from tests.contract.ports import Ports

HOUR: Final = timedelta(hours=1)
TYPES: Final = {"Kept": 10}


async def asked_for(ports: Ports, effects: int, key: str = "document:1") -> list[OpenEffect]:
    """Commit actions that ask for so many effects; return them."""
    before = len(await entries(ports))
    await committed(ports, *(action(key, payload={"n": n}) for n in range(effects)))
    return [OpenEffect(entry) for entry in (await entries(ports))[before:]]


async def entries(ports: Ports) -> list[LoggedIntent]:
    """Return the intents for effects."""
    page = await ports.effect_log.read(0, 1, 100)
    assert not isinstance(page, CutOff)
    return list(page.entries)


async def settle(
    ports: Ports,
    *what: EndedEffect | ParkedEffect,
    position: int = 1,
    owner: Any = None,  # noqa: ANN401 - a token
) -> bool:
    """Settle in one call."""
    ended = [one for one in what if isinstance(one, EndedEffect)]
    parked = [one for one in what if isinstance(one, ParkedEffect)]
    return await ports.effect_ends.settle(0, owner, ended, parked, position)


async def due(ports: Ports, *busy: int, ordered: tuple[str, ...] = (), room: int = 10) -> list[int]:
    """Return the offsets of what is due."""
    found, _ = await ports.parked_effects.due(0, {"Kept": room}, ordered, list(busy))
    assert all(effect.parked for effect in found)
    return [effect.entry.offset for effect in found]


async def targets(ports: Ports) -> list[str]:
    """Return the targets of the follow-up actions in the intent log."""
    page = await ports.intents.read(0, 1, 100)
    assert not isinstance(page, CutOff)
    return [e.intent.target for e in page if e.intent.intent_type == "SubmitAction"]


async def test_effects_read_what_the_dispatcher_leaves_to_them(ports: Ports) -> None:
    await committed(ports, action(payload={"passes_on_to": ["counter:1", "counter:2"]}))
    effects = await asked_for(ports, 2)
    page = await ports.effect_log.read(0, 1, 10)
    assert not isinstance(page, CutOff)
    assert [entry.offset for entry in page.entries] == [3, 4]
    assert page.following == 5
    first = effects[0].entry
    assert (first.workflow_key, first.intent.intent_type) == ("document:1", "Kept")
    one = await ports.effect_log.read(0, 1, 1)
    assert not isinstance(one, CutOff)
    assert ([e.offset for e in one.entries], one.following) == ([3], 4)


async def test_what_has_ended_is_over_and_its_follow_ups_are_there(ports: Ports) -> None:
    first, second = await asked_for(ports, 2)
    follow = EffectResult({}, (Intent.submit("counter:9", "Counted", {}),))
    assert await settle(ports, done(second, 1, follow, CODEC))
    begun = await ports.effect_log.begin(0, [])
    assert (begun.position, set(begun.over)) == (1, {second.entry.offset})
    assert await targets(ports) == ["counter:9"]
    assert await settle(ports, done(first, 1, None, CODEC), position=3)
    begun = await ports.effect_log.begin(0, [])
    assert (begun.position, begun.over) == (3, frozenset())


async def test_an_end_that_is_told_again_changes_nothing(ports: Ports) -> None:
    (effect,) = await asked_for(ports, 1)
    follow = EffectResult({}, (Intent.submit("counter:9", "Counted", {}),))
    end = done(effect, 1, follow, CODEC)
    for _ in range(3):
        assert await settle(ports, end, position=2)
    assert await settle(ports, ended_badly(effect, "dead", 5, "no", CODEC), position=2)
    assert await targets(ports) == ["counter:9"]
    assert not await ports.beside.redrive(0, effect.entry.intent.intent_id), "it is not dead"
    assert await settle(ports, ParkedEffect(effect, 1, "failed"), position=2)
    assert await due(ports) == [], "what is over does not wait"


async def test_an_end_that_is_told_again_beside_a_new_one_follows_once(ports: Ports) -> None:
    first, second = await asked_for(ports, 2)
    ends = [
        done(effect, 1, EffectResult({}, (Intent.submit(target, "Counted", {}),)), CODEC)
        for effect, target in ((first, "counter:8"), (second, "counter:9"))
    ]
    await settle(ports, ends[0])
    await settle(ports, *ends, position=3)
    assert await targets(ports) == ["counter:8", "counter:9"]


async def test_the_position_of_effects_never_goes_back(ports: Ports) -> None:
    await asked_for(ports, 3)
    await settle(ports, position=3)
    await settle(ports, position=2)
    assert (await ports.effect_log.begin(0, [])).position == 3


async def test_a_parked_effect_comes_back_when_it_is_due(ports: Ports) -> None:
    first, second = await asked_for(ports, 2)
    at = await ports.beside.now() + 2 * HOUR
    await settle(
        ports,
        ParkedEffect(first, 1, "failed", due_in_s=3_600),
        ParkedEffect(second, 0, "", due_at=at),
        position=3,
    )
    assert await due(ports) == []
    _, next_s = await ports.parked_effects.due(0, TYPES, [], [])
    assert next_s is not None
    assert 3_590 < next_s <= 3_600
    await ports.beside.let_pass(HOUR)
    assert await due(ports) == [first.entry.offset]
    assert await due(ports, first.entry.offset) == [], "somebody is at it"
    found, _ = await ports.parked_effects.due(0, TYPES, [], [])
    assert found == [
        OpenEffect(first.entry, attempts=1, parked=True, maybe_begun=True, detail="failed")
    ]
    await ports.beside.let_pass(HOUR)
    assert await due(ports) == [first.entry.offset, second.entry.offset]
    assert await due(ports, room=1) == [first.entry.offset]


async def test_what_has_begun_to_be_due_may_have_been_begun_by_somebody(ports: Ports) -> None:
    at = await ports.beside.now() + HOUR
    await committed(ports, *(action("document:1", payload={"due_at": at.isoformat()}),))
    await committed(ports, action("document:2"))
    timed, other = (OpenEffect(entry) for entry in await entries(ports))
    await settle(
        ports,
        ParkedEffect(timed, 0, "", due_at=timed.entry.intent.due_at),
        ParkedEffect(other, 0, "", due_in_s=7_200),
    )

    async def maybe_begun(effect: OpenEffect) -> bool:
        found = await ports.parked_effects.find(0, effect.entry.intent.intent_id)
        assert found is not None
        return found.maybe_begun

    assert not await maybe_begun(timed), "its own time has not come"
    assert await maybe_begun(other), "it was in the log"
    await ports.beside.let_pass(HOUR)
    assert await maybe_begun(timed)
    head = (await ports.effect_log.begin(0, [])).head
    assert head == other.entry.offset + 1


async def test_a_parked_effect_may_be_parked_again_and_ends_like_any(ports: Ports) -> None:
    (effect,) = await asked_for(ports, 1)
    await settle(ports, ParkedEffect(effect, 1, "once"), position=2)
    (again,), _ = await ports.parked_effects.due(0, TYPES, [], [])
    await settle(ports, ParkedEffect(again, 2, "twice"), position=2)
    (again,), _ = await ports.parked_effects.due(0, TYPES, [], [])
    assert (again.attempts, again.detail) == (2, "twice")
    found = await ports.parked_effects.find(0, effect.entry.intent.intent_id)
    assert found == again
    await settle(ports, done(again, 3, None, CODEC), position=2)
    assert await due(ports) == []
    assert await ports.parked_effects.find(0, effect.entry.intent.intent_id) is None


async def test_of_an_ordered_type_only_the_first_of_a_key_is_due(ports: Ports) -> None:
    mine, theirs = await asked_for(ports, 3), await asked_for(ports, 2, "document:2")
    waits = [ParkedEffect(effect, 0, "") for effect in (*mine, *theirs)]
    await settle(ports, *waits, position=6)
    assert await due(ports, ordered=("Kept",)) == [1, 4]
    assert await due(ports, 1, ordered=("Kept",)) == [4], "the first is under way: not the next"
    (first,) = [
        effect
        for effect in (await ports.parked_effects.due(0, TYPES, ["Kept"], []))[0]
        if effect.entry.offset == 1
    ]
    await settle(ports, ParkedEffect(first, 1, "failed", due_in_s=3_600), position=6)
    assert await due(ports, ordered=("Kept",)) == [4], "it still is the first"
    await settle(ports, done(first, 2, None, CODEC), position=6)
    assert await due(ports, ordered=("Kept",)) == [2, 4]
    begun = await ports.effect_log.begin(0, ["Kept"])
    assert sorted(begun.waiting) == [
        ("Kept", "document:1", 2),
        ("Kept", "document:1", 3),
        ("Kept", "document:2", 4),
        ("Kept", "document:2", 5),
    ]


async def test_one_whose_time_has_not_come_holds_nobody_back(ports: Ports) -> None:
    first, second = await asked_for(ports, 2)
    at = await ports.beside.now() + HOUR
    await settle(ports, ParkedEffect(first, 0, "", due_at=at), ParkedEffect(second, 0, ""))
    assert await due(ports, ordered=("Kept",)) == [2]
    assert list((await ports.effect_log.begin(0, ["Kept"])).waiting) == [("Kept", "document:1", 2)]


async def test_a_dead_effect_waits_until_it_is_redriven(ports: Ports) -> None:
    (effect,) = await asked_for(ports, 1)
    await settle(ports, ended_badly(effect, "dead", 5, "no", CODEC), position=2)
    assert await due(ports) == []
    assert await ports.beside.redrive(0, effect.entry.intent.intent_id)
    assert not await ports.beside.redrive(0, effect.entry.intent.intent_id), "once"
    (again,), _ = await ports.parked_effects.due(0, TYPES, [], [])
    assert (again.attempts, again.redriven) == (0, 1)
    follow = EffectResult({}, (Intent.submit("counter:9", "Counted", {}),))
    for _ in range(2):
        await settle(ports, done(again, 1, follow, CODEC), position=2)
    assert await targets(ports) == ["counter:9"]
    assert await due(ports) == []


async def test_an_end_that_is_said_again_after_a_redrive_leaves_the_redriven_one(
    ports: Ports,
) -> None:
    (effect,) = await asked_for(ports, 1)
    await settle(ports, ParkedEffect(effect, 1, "no"), position=2)
    (parked,), _ = await ports.parked_effects.due(0, TYPES, [], [])
    dead = ended_badly(parked, "dead", 2, "no", CODEC)
    await settle(ports, dead, position=2)
    assert await ports.beside.redrive(0, effect.entry.intent.intent_id)
    await settle(ports, dead, position=2)  # its first reply was lost
    (again,), _ = await ports.parked_effects.due(0, TYPES, [], [])
    assert (again.attempts, again.redriven) == (0, 1)


async def test_who_is_not_the_owner_ends_nothing(ports: Ports) -> None:  # R12
    (effect,) = await asked_for(ports, 1)
    loser = await owned(ports)
    await ports.beside.let_pass(2 * LEASE)
    winner = uuid4()
    assert list(await ports.leases.acquire(winner, "a test", LEASE, [0])) == [0]
    follow = EffectResult({}, (Intent.submit("counter:9", "Counted", {}),))
    end = done(effect, 1, follow, CODEC)
    assert not await settle(ports, end, ParkedEffect(effect, 1, "x"), position=2, owner=loser)
    async with ports.effect_ends.transaction(0, loser) as transaction:
        assert await transaction.end(end) == "not_owner"
    begun = await ports.effect_log.begin(0, [])
    assert (begun.position, begun.over) == (1, frozenset())
    assert await targets(ports) == []
    assert await settle(ports, end, position=2, owner=winner)


async def test_an_effect_ends_in_the_transaction_of_its_handler_or_not_at_all(
    ports: Ports,
) -> None:
    (effect,) = await asked_for(ports, 1)
    follow = EffectResult({}, (Intent.submit("counter:9", "Counted", {}),))
    end = done(effect, 1, follow, CODEC)

    async def undone() -> None:
        async with ports.effect_ends.transaction(0, None) as transaction:
            assert await transaction.end(end) == "ended"
            message = "undone"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="undone"):
        await undone()
    assert (await ports.effect_log.begin(0, [])).over == frozenset()
    assert await targets(ports) == []
    async with ports.effect_ends.transaction(0, None) as transaction:
        assert await transaction.end(end) == "ended"
    assert (await ports.effect_log.begin(0, [])).over == {1}
    assert await targets(ports) == ["counter:9"]
    async with ports.effect_ends.transaction(0, None) as transaction:
        assert await transaction.end(end) == "over"


async def test_who_asked_is_told_how_an_effect_ended(ports: Ports) -> None:
    (effect,) = await asked_for(ports, 1)
    entry = replace(effect.entry, intent=replace(effect.entry.intent, reply_to="counter:5"))
    await settle(ports, done(OpenEffect(entry), 2, {"paid": 7}, CODEC), position=2)
    page = await ports.intents.read(0, 2, 10)
    assert not isinstance(page, CutOff)
    (answer,) = page
    body = CODEC.decode(answer.intent.payload)
    assert (answer.intent.target, body["type"]) == ("counter:5", "EffectAnswered")
    assert body["payload"]["result"] == {"paid": 7}
    assert (body["payload"]["status"], body["payload"]["attempts"]) == ("done", 2)


async def test_what_is_due_some_time_after_its_commit_is_counted_by_the_clock_of_the_store(
    ports: Ports,
) -> None:
    before = await ports.beside.now()
    await committed(ports, action("document:1", payload={"due_in_ms": 60_000}))
    (entry,) = await entries(ports)
    assert (entry.intent.due_at, entry.intent.due_in_ms) == (None, 60_000)
    assert entry.due_at is not None
    due_after = timedelta(milliseconds=60_000)
    assert before + due_after <= entry.due_at <= await ports.beside.now() + due_after
    assert await settle(ports, ParkedEffect(OpenEffect(entry), 0, "", entry.due_at), position=2)
    found = await ports.parked_effects.find(0, entry.intent.intent_id)
    assert found is not None
    assert not found.maybe_begun, "its own time has not come"
    assert await due(ports) == []
    await ports.beside.let_pass(due_after)
    assert await due(ports) == [entry.offset]
