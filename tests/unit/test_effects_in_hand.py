"""What is in hand of a partition's effects: open, to be settled, and how far that lets it go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from omninode_bridge.core.effect_window import EffectWindow
from omninode_bridge.core.effects import (
    EndedEffect,
    LoggedIntent,
    OpenEffect,
    ParkedEffect,
    ended_badly,
)
from omninode_bridge.core.effects_in_hand import EffectsInHand
from omninode_bridge.core.reducer import SealedIntent
from omninode_bridge.infrastructure.codec import CanonicalCodec

AT: Final = datetime(2025, 1, 1, tzinfo=UTC)
CODEC: Final = CanonicalCodec()


def effect(offset: int, **more: Any) -> OpenEffect:  # noqa: ANN401 - fields of the effect
    """Return an effect of an ordered type; all are in one lane."""
    intent = SealedIntent(UUID(int=offset), "Ship", "", b"{}")
    entry = LoggedIntent(offset, intent, UUID(int=99), None, 0, AT, "order:1")
    return replace(OpenEffect(entry), **more)


def in_hand() -> EffectsInHand:
    """Return one that has read nothing."""
    return EffectsInHand(EffectWindow(1, ["Ship"]), lambda _: None)


def read(hand: EffectsInHand, offset: int) -> None:
    """Take one from the log."""
    hand.take(effect(offset))
    hand.window.reading = offset + 1


def settled(hand: EffectsInHand) -> tuple[list[EndedEffect], list[ParkedEffect]]:
    """Settle all there is, and return it."""
    assert hand.has_to_settle(0)
    batch = hand.batch(100)
    hand.settled(*batch)
    return batch


def started(hand: EffectsInHand) -> list[int]:
    """Start whatever may start."""
    return list(hand.window.start(lambda _: True))


def failed(one: OpenEffect) -> ParkedEffect:
    """Return what becomes of one that has failed."""
    return ParkedEffect(one, one.attempts + 1, "no", None, 5.0)


def test_the_cancellation_of_one_that_ended_durably_is_passed_and_forgotten() -> None:
    hand = in_hand()
    read(hand, 1)
    assert started(hand) == [1]
    hand.window.pass_by(2)
    hand.window.reading = 3
    hand.cancellation(2, 1)
    assert not hand.has_to_settle(1)
    hand.ended_durably(effect(1))
    assert hand.window.position == 3
    assert hand._cancels == {}


def test_one_that_could_not_be_parked_holds_its_lane_back_no_longer() -> None:
    hand = in_hand()
    read(hand, 1)
    assert started(hand) == [1]
    hand.park(failed(effect(1)))
    ((), (wait,)) = hand.batch(100)  # which is refused
    dead = ended_badly(wait.effect, "dead", wait.attempts, "out of range", CODEC)
    read(hand, 2)
    assert started(hand) == [], "it may have been parked, as far as we know"
    hand.settled([dead], [])
    _, parked = settled(hand)
    assert [each.effect.entry.offset for each in parked] == [2]
    hand.take(effect(2, parked=True))
    assert started(hand) == [2]
    hand.end(EndedEffect(effect(2, parked=True), "done", 1, ""))
    read(hand, 3)
    assert started(hand) == [3]


def test_one_that_was_over_when_it_was_parked_holds_its_lane_back_no_longer() -> None:
    hand = in_hand()
    read(hand, 1)
    assert started(hand) == [1]
    hand.park(failed(effect(1)))
    _, (wait,) = settled(hand)
    hand.over_outside(wait.effect)
    read(hand, 2)
    assert started(hand) == [2]


def test_what_is_parked_stays_as_it_is_behind_one_of_its_lane_and_is_given_out_after_it() -> None:
    looks: list[float] = []
    hand = EffectsInHand(EffectWindow(1, ["Ship"]), looks.append)
    read(hand, 5)
    assert started(hand) == [5]
    assert not hand.take(effect(3, parked=True, attempts=2, detail="no"))
    assert hand.offsets == [5, 3], "nobody gives it out meanwhile"
    assert hand.batch(100) == ([], []), "nothing is written of it"
    hand.end(ended_badly(hand[5], "dead", 1, "no", CODEC))
    settled(hand)
    assert looks == [0.0], "it is looked for at once"
    assert hand.offsets == []
    assert hand.take(effect(3, parked=True, attempts=2, detail="no"))


def test_who_is_put_back_keeps_its_attempts_and_its_last_error() -> None:
    hand = in_hand()
    hand.take(effect(3, parked=True, attempts=2, detail="no"))
    hand.put_back(hand[3])
    _, (wait,) = settled(hand)
    assert (wait.effect.entry.offset, wait.attempts, wait.detail) == (3, 2, "no")
