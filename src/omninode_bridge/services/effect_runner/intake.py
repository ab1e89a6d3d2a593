"""What comes into hand: intents from the log, and parked effects that are due."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.effects import OpenEffect
from omninode_bridge.core.errors import BrokenPromise, OwnershipLost
from omninode_bridge.core.message import CANCEL_EFFECT
from omninode_bridge.ports import CutOff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.effects_in_hand import EffectsInHand
    from omninode_bridge.ports import EffectsBegun
    from omninode_bridge.services.effect_runner.patience import Patience
    from omninode_bridge.services.effect_runner.world import EffectWorld

PAGE_MAX: Final = 500
POLL_S: Final = 1.0
DUE_AGAIN_S: Final = 0.02
BUSY_AGAIN_S: Final = 0.1
PARKED_SHARE: Final = 8
"""An eighth of the slots of a type, and one at least, is for what was parked in a partition,
however much comes from its log. So what failed comes to its next attempt under any load."""


class Looks:
    """When to look again, by the monotonic clock: at the log, and at what is parked."""

    def __init__(self) -> None:
        """Look at both at once."""
        self.log = 0.0
        self.parked = 0.0

    def due_in(self, seconds: float) -> None:
        """Look at what is parked in so many seconds, or before."""
        self.parked = min(self.parked, monotonic() + seconds)


class Intake:
    """Takes effects of one partition in hand, as many as there is room for."""

    def __init__(
        self,
        world: EffectWorld,
        begun: EffectsBegun,
        hand: EffectsInHand,
        looks: Looks,
        patience: Patience,
        cancel: Callable[[LoggedIntent], Awaitable[None]],
    ) -> None:
        """`cancel` is given the intents that cancel an effect."""
        self._world = world
        self._hand = hand
        self._looks = looks
        self._patience = patience
        self._cancel = cancel
        self._head = begun.head
        self._over = set(begun.over)

    @property
    def next_look(self) -> float:
        """When to look again, by the monotonic clock."""
        until = self._looks.log if self._hand.window.has_room else monotonic() + POLL_S
        return min(until, self._looks.parked) if self._world.types else until

    async def read(self) -> None:
        """Read on in the log while there is room.

        Raises:
            BrokenPromise: intents were cut off that had not been looked at.
            OwnershipLost: others have looked at them meanwhile.
        """
        window, partition = self._hand.window, self._world.partition
        for offset in window.crowded_out(self._world.slots.has_room, self._world.types):
            if offset in self._hand:  # not parked meanwhile, with one before it in its lane
                self._hand.put_back(self._hand[offset])
        if monotonic() < self._looks.log:
            return
        while window.has_room:
            self._looks.log = monotonic() + POLL_S
            position = window.reading
            page = await self._patience(
                partial(self._world.log.read, partition, position, PAGE_MAX)
            )
            if isinstance(page, CutOff):
                begin = partial(self._world.log.begin, partition, ())
                if (await self._patience(begin)).position >= page.low:
                    what = "has effects that others have carried out while we stood still"
                    raise OwnershipLost(partition, what)
                message = (
                    f"the intents of partition {partition} begin at {page.low}, but its effects"
                    f" have only come to {position}"
                )
                raise BrokenPromise(message)
            for entry in page.entries:
                await self._admit(entry)
                window.reading = entry.offset + 1
            window.reading = page.following
            if len(page.entries) < PAGE_MAX:
                return
        self._looks.log = 0.0  # as soon as there is room

    async def _admit(self, entry: LoggedIntent) -> None:
        if entry.offset in self._over:
            self._over.discard(entry.offset)
            return
        intent = entry.intent
        if intent.intent_type == CANCEL_EFFECT:
            await self._cancel(entry)
            return
        effect = OpenEffect(entry, maybe_begun=entry.offset < self._head)
        due_at = entry.due_at
        if due_at is not None or intent.intent_type not in self._world.types:
            # It is given out when it is due by the database's clock. By ours, which may be wrong,
            # it only goes before those of its lane that come from the log.
            is_due = due_at is not None and due_at <= self._world.clock()
            self._hand.wait_outside(effect, holds_back=is_due)
        else:
            self._hand.take(effect)

    async def take_due(self) -> None:
        """Take in parked effects that are due, as many as there are slots for, or their share."""
        types, ordered = self._world.types, self._world.ordered
        if not types or monotonic() < self._looks.parked:
            return
        rooms = {name: room for name in types if (room := self._room(name)) > 0}
        place = (self._world.partition, rooms, ordered, self._hand.offsets)
        effects, next_s = await self._patience(partial(self._world.parked.due, *place))
        taken = [self._hand.take(effect) for effect in effects]
        # Where no slot was free there may be more.
        wait_s = BUSY_AGAIN_S if len(rooms) < len(types) else POLL_S
        if taken:
            wait_s = DUE_AGAIN_S if any(taken) else BUSY_AGAIN_S
        if next_s is not None:
            wait_s = min(wait_s, max(0.0, next_s))
        self._looks.parked = monotonic() + wait_s

    def _room(self, name: str) -> int:
        slots, window = self._world.slots, self._hand.window
        share = max(1, slots.limit(name) // PARKED_SHARE) - window.parked(name)
        return max(share, slots.room(name) - window.queued(name))
