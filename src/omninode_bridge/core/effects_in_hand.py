"""The effects of one partition that are in hand, and what is to become durable of them.

Rule 1: what has ended and what is parked is given out to be settled, and the position passes it
        once that is durable; a cancellation with the end of the effect that it cancels.
Rule 2: nothing is both: an effect is open, or it is to be settled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omninode_bridge.core.effect_window import Place
from omninode_bridge.core.effects import EndedEffect, ParkedEffect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from omninode_bridge.core.effect_window import EffectWindow, Lane
    from omninode_bridge.core.effects import EffectStatus, OpenEffect


class EffectsInHand:
    """What was read and is not settled; `window` says what of it may start."""

    def __init__(self, window: EffectWindow, parked: Callable[[float], None]) -> None:
        """Begin with nothing; `parked` is told in how many seconds one that is parked is due."""
        self.window = window
        self._parked = parked
        self._open: dict[int, OpenEffect] = {}
        self._to_end: list[EndedEffect] = []
        self._to_park: list[ParkedEffect] = []
        self._cancels: dict[int, list[int]] = {}
        self._passed: list[int] = []
        self._behind: dict[int, Lane] = {}

    def __getitem__(self, offset: int) -> OpenEffect:
        """Return the open effect at `offset`."""
        return self._open[offset]

    def __contains__(self, offset: int) -> bool:
        """Return whether the effect at `offset` is open."""
        return offset in self._open

    @property
    def offsets(self) -> list[int]:
        """All that is not to be given out: open, to be settled, or behind one of its lane."""
        behind = {n: lane for n, lane in self._behind.items() if self.window.is_busy(lane)}
        self._behind = behind
        to_settle: list[EndedEffect | ParkedEffect] = [*self._to_end, *self._to_park]
        settling = (each.effect.entry.offset for each in to_settle)
        return [*self.window.offsets, *settling, *behind]

    # -- taking in and ending ------------------------------------------------------------------

    def take(self, effect: OpenEffect) -> bool:
        """Take one in hand; False: behind another of its lane it is parked, or stays so."""
        place = place_of(effect)
        if self.window.admit(place):
            self._open[effect.entry.offset] = effect
            return True
        if effect.parked:  # its row is as it was
            self._behind[effect.entry.offset] = place.lane
        else:
            self._open[effect.entry.offset] = effect
            self.put_back(effect)
        return False

    def wait_outside(self, effect: OpenEffect, *, holds_back: bool) -> None:
        """Park one that waits for its time or for a handler, without having it in hand.

        `holds_back`: those of its lane that come from the log wait for it.
        """
        if holds_back:
            self.window.wait_outside(place_of(effect))
        else:
            self.window.pass_by(effect.entry.offset)
        self._to_park.append(ParkedEffect(effect, 0, "", effect.entry.due_at))

    def end(self, end: EndedEffect) -> EffectStatus:
        """Give the end of an effect out to be settled."""
        self._close(end.effect)
        self._to_end.append(end)
        return end.status

    def ended_durably(self, effect: OpenEffect) -> None:
        """Pass an effect whose end is durable already."""
        offset = effect.entry.offset
        self._close(effect)
        self.window.settled(self._with_cancels([offset]))
        self._cancels.pop(offset, None)
        self._look_behind(effect)

    def park(self, wait: ParkedEffect) -> None:
        """Give one out to wait outside, and with it those of its lane that wait for it."""
        offset = wait.effect.entry.offset
        followers = self.window.park(offset)
        del self._open[offset]
        self._to_park.append(wait)
        self._to_park += (_put_back(self._open.pop(n)) for n in followers)
        self._parked(wait.due_in_s)

    def put_back(self, effect: OpenEffect) -> None:
        """Park one that was not tried this time."""
        self.park(_put_back(effect))

    # -- cancelling ----------------------------------------------------------------------------

    def ending(self, intent_id: UUID) -> int | None:
        """Return the offset of an intent's effect that has ended and is to be settled."""
        ends = (end.effect.entry for end in self._to_end)
        return next((entry.offset for entry in ends if entry.intent.intent_id == intent_id), None)

    def not_begun(self, intent_id: UUID) -> OpenEffect | None:
        """Return an intent's effect that is open or about to be parked, which it is no more."""
        place = self.window.get(intent_id)
        effect = None if place is None else self._open[place.offset]
        for wait in list(self._to_park):
            if wait.effect.entry.intent.intent_id == intent_id:
                self._to_park.remove(wait)
                effect = replace(wait.effect, attempts=wait.attempts, detail=wait.detail)
        return effect

    def end_cancelled(self, end: EndedEffect) -> None:
        """End one that was not under way, wherever it was."""
        self.end(end)
        self.over_outside(end.effect)

    def cancellation(self, offset: int, cancelled: int | None) -> None:
        """Let the position pass a cancellation with the effect that ends by it; None: at once."""
        if cancelled is None:
            self._passed.append(offset)
        else:
            self._cancels.setdefault(cancelled, []).append(offset)

    # -- settling ------------------------------------------------------------------------------

    def has_to_settle(self, position: int) -> bool:
        """Return whether there is anything to make durable, where `position` is."""
        self.window.settled(self._passed)
        self._passed.clear()
        return bool(self._to_end or self._to_park) or self.window.position > position

    def batch(self, size: int) -> tuple[list[EndedEffect], list[ParkedEffect]]:
        """Give out what is to be settled, up to `size` of each kind."""
        ended, self._to_end = self._to_end[:size], self._to_end[size:]
        parked, self._to_park = self._to_park[:size], self._to_park[size:]
        return ended, parked

    def position_after(self, ended: Iterable[EndedEffect], parked: Iterable[ParkedEffect]) -> int:
        """Return what the position is once these are settled."""
        return self.window.position_without(self._offsets(ended, parked))

    def settled(self, ended: Iterable[EndedEffect], parked: Iterable[ParkedEffect]) -> None:
        """Let the position pass these: they are durable."""
        self.window.settled(self._offsets(ended, parked))
        for end in ended:
            self._cancels.pop(end.effect.entry.offset, None)
            if end.status == "dead":  # it may have been one that could not be parked
                self.over_outside(end.effect)
            self._look_behind(end.effect)

    def over_outside(self, effect: OpenEffect) -> None:
        """Let nobody wait for one that was given out to be parked, and is over."""
        self.window.left(place_of(effect).lane, effect.entry.offset)

    def _offsets(
        self, ended: Iterable[EndedEffect], parked: Iterable[ParkedEffect]
    ) -> frozenset[int]:
        offsets = self._with_cancels([end.effect.entry.offset for end in ended])
        return frozenset([*offsets, *(wait.effect.entry.offset for wait in parked)])

    def _with_cancels(self, ended: list[int]) -> list[int]:
        """Return the offsets of what has ended, and of the cancellations that waited for that."""
        return [*ended, *(n for offset in ended for n in self._cancels.get(offset, ()))]

    def _look_behind(self, effect: OpenEffect) -> None:
        """One is durably over: the next one of its lane, which waits outside, may be due."""
        if self.window.is_waited_for(place_of(effect).lane):
            self._parked(0.0)

    def _close(self, effect: OpenEffect) -> None:
        if self._open.pop(effect.entry.offset, None) is not None:
            self.window.over(effect.entry.offset)


def place_of(effect: OpenEffect) -> Place:
    """Return the place of an effect in the window."""
    entry, intent = effect.entry, effect.entry.intent
    names = (intent.intent_id, intent.intent_type, entry.workflow_key)
    return Place(entry.offset, *names, effect.parked)


def _put_back(effect: OpenEffect) -> ParkedEffect:
    """Return one that waits on as before: with its attempts, and the error of the last of them."""
    return ParkedEffect(effect, effect.attempts, effect.detail)
