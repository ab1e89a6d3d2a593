"""What of the effects in hand may start, what has to wait, and how far the position may go.

Rule 1: the position is the lowest offset that is neither over nor parked: what lies below it is
        not lost.
Rule 2: in a *lane* (an ordered type, one workflow key) the first one that is not over holds back
        the others, in hand or parked.
Rule 3: bounded (R13): who reads asks `has_room` first.
Rule 4: what was parked and is due goes before what comes from the log: it is older. Who takes it in
        leaves room for the others (`parked`).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from uuid import UUID

WINDOW_MAX: Final = 1_000

Lane = tuple[str, str]
"""An intent type and a workflow key."""


@dataclass(frozen=True, slots=True)
class Place:
    """One effect in hand. `parked`: it has a row of its own; the position need not wait for it."""

    offset: int
    intent_id: UUID
    intent_type: str
    workflow_key: str
    parked: bool

    @property
    def lane(self) -> Lane:
        """The lane it is in, if its type is ordered."""
        return (self.intent_type, self.workflow_key)


class _Queue:
    """What waits for a slot of one type: first what was parked, each in the order of its coming."""

    def __init__(self) -> None:
        self._parked: deque[int] = deque()
        self._new: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._parked) + len(self._new)

    def add(self, place: Place) -> None:
        (self._parked if place.parked else self._new).append(place.offset)

    def take(self) -> int:
        return (self._parked or self._new).popleft()

    def drop(self, offset: int) -> None:
        for queue in (self._parked, self._new):
            if offset in queue:
                queue.remove(offset)


class EffectWindow:
    """The effects of one partition that were read and are not over."""

    def __init__(
        self,
        position: int,
        ordered: Collection[str],
        waiting: Iterable[tuple[str, str, int]] = (),
        window_max: int = WINDOW_MAX,
    ) -> None:
        """Begin at `position` with nothing in hand.

        `waiting` are the parked ones of `ordered` types: type, workflow key and offset.
        """
        self.reading = position
        self._ordered = frozenset(ordered)
        self._waiting: dict[Lane, set[int]] = {}
        for intent_type, workflow_key, offset in waiting:
            self._waiting.setdefault((intent_type, workflow_key), set()).add(offset)
        self._window_max = window_max
        self._held: dict[int, Place] = {}
        self._parked_held: Counter[str] = Counter()
        self._by_intent: dict[UUID, Place] = {}
        self._queues: dict[str, _Queue] = {}
        self._lanes: dict[Lane, deque[int]] = {}
        self._started: set[int] = set()
        self._unsettled: dict[int, None] = {}

    @property
    def position(self) -> int:
        """What the position may be once all that was given out is settled."""
        return next(iter(self._unsettled), self.reading)

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return len(self._unsettled) < self._window_max

    @property
    def offsets(self) -> list[int]:
        """What is in hand."""
        return list(self._held)

    def get(self, intent_id: UUID) -> Place | None:
        """Return the place of an intent's effect, if it is in hand."""
        return self._by_intent.get(intent_id)

    def is_started(self, offset: int) -> bool:
        """Return whether an attempt of it is under way."""
        return offset in self._started

    def admit(self, place: Place) -> bool:
        """Take one in hand; False: another one of its lane goes before it.

        One from the log is in hand all the same, and has to be parked; what is parked stays so.
        """
        # The store gives out only the first of those parked; another may be under way here, which
        # was in the log. And what is parked goes before what comes from the log.
        is_ordered = place.intent_type in self._ordered
        if is_ordered and place.parked and self.is_busy(place.lane):
            self._waiting.setdefault(place.lane, set()).add(place.offset)
            return False
        self._held[place.offset] = place
        self._by_intent[place.intent_id] = place
        if place.parked:
            self._parked_held[place.intent_type] += 1
        else:
            self._unsettled[place.offset] = None
        if not is_ordered:
            self._queue(place)
            return True
        if not place.parked and self.is_waited_for(place.lane):
            return False
        lane = self._lanes.setdefault(place.lane, deque())
        lane.append(place.offset)
        if len(lane) == 1:
            self._queue(place)
        return True

    def is_busy(self, lane: Lane) -> bool:
        """Return whether one of an ordered lane is in hand."""
        return lane in self._lanes

    def is_waited_for(self, lane: Lane) -> bool:
        """Return whether one of an ordered lane waits outside."""
        return lane in self._waiting

    def pass_by(self, offset: int) -> None:
        """Keep the position behind `offset` until it is settled, without starting anything."""
        self._unsettled[offset] = None

    def wait_outside(self, place: Place) -> None:
        """Keep the position behind one that is to be parked, and those of its lane as well."""
        self.pass_by(place.offset)
        if place.intent_type in self._ordered:
            self._waiting.setdefault(place.lane, set()).add(place.offset)

    def start(self, may_start: Callable[[str], bool]) -> Iterator[int]:
        """Yield what starts now; `may_start` takes a slot of a type, or says that there is none."""
        for intent_type, queue in self._queues.items():
            while queue and may_start(intent_type):
                offset = queue.take()
                self._started.add(offset)
                yield offset

    def queued(self, intent_type: str) -> int:
        """Return how many of a type wait for a slot."""
        queue = self._queues.get(intent_type)
        return 0 if queue is None else len(queue)

    def parked(self, intent_type: str) -> int:
        """Return how many of a type that had been parked are in hand, under way or not."""
        return self._parked_held[intent_type]

    def over(self, offset: int) -> None:
        """It has ended (and is to be settled): the next one of its lane may start."""
        place = self._drop(offset)
        if place.intent_type not in self._ordered:
            return
        if place.parked:
            self.left(place.lane, offset)
        self._advance(place)

    def park(self, offset: int) -> list[int]:
        """It goes on waiting outside; return what has to be parked with it: its lane behind it."""
        place = self._drop(offset)
        if place.intent_type not in self._ordered:
            return []
        followers: list[int] = []
        if offset in self._lanes.get(place.lane, ()):
            lane = list(self._lanes.pop(place.lane))
            at = lane.index(offset)
            followers = lane[at + 1 :]
            if at:  # those before it stay, the one under way among them
                self._lanes[place.lane] = deque(lane[:at])
        self._waiting.setdefault(place.lane, set()).update((offset, *followers))
        for follower in followers:
            self._drop(follower)
        return followers

    def left(self, lane: Lane, offset: int) -> None:
        """A parked one is over without having been in hand."""
        waiting = self._waiting.get(lane, set())
        waiting.discard(offset)
        if not waiting:
            self._waiting.pop(lane, None)

    def settled(self, offsets: Iterable[int]) -> None:
        """What was given out for these is durable: the position may pass them."""
        for offset in offsets:
            self._unsettled.pop(offset, None)

    def position_without(self, offsets: Collection[int]) -> int:
        """Return what the position is once `offsets` are settled."""
        return next((n for n in self._unsettled if n not in offsets), self.reading)

    def crowded_out(self, has_slot: Callable[[str], bool], types: Iterable[str]) -> list[int]:
        """Return what to park so that other types get room: the window is full of busy ones.

        Nothing, if no type could start anything: then the log is as good a place to wait in.
        """
        if self.has_room or not any(has_slot(t) and not self.queued(t) for t in types):
            return []
        return [n for n in self._unsettled if n in self._held and n not in self._started]

    def _queue(self, place: Place) -> None:
        self._queues.setdefault(place.intent_type, _Queue()).add(place)

    def _drop(self, offset: int) -> Place:
        place = self._held.pop(offset)
        del self._by_intent[place.intent_id]
        if place.parked:
            self._parked_held[place.intent_type] -= 1
        if offset in self._started:
            self._started.discard(offset)
        elif place.intent_type in self._queues:
            self._queues[place.intent_type].drop(offset)
        return place

    def _advance(self, place: Place) -> None:
        lane = self._lanes.get(place.lane)
        if lane is None or place.offset not in lane:
            return
        was_first = lane[0] == place.offset
        lane.remove(place.offset)
        if not lane:
            del self._lanes[place.lane]
        elif was_first:
            self._queue(self._held[lane[0]])
