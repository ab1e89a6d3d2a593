"""What commits have handed over of one topic of the log, and was not sent yet.

Rule 1: it is bounded (R13), and nothing depends on it: what is let go is in the log.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.ports import LoggedEvent

ENTRIES_MAX: Final = 10_000
BYTES_MAX: Final = 16 * 1_048_576


class HandedOver:
    """Entries in the order of the log; between two commits there may be some that are not here.

    It takes entries while it *listens*: from when a read has come to the end of the log, until
    there is no room for more.
    """

    def __init__(self) -> None:
        """Begin without listening: how much the log holds is not known yet."""
        self._events: deque[LoggedEvent] = deque()
        self._bytes = 0
        self._upto: int | None = None
        self.listens = False
        self.told = 0
        """How often the topic was said to have grown."""

    def listen(self) -> None:
        """Take what is handed over from now on."""
        self.listens = True

    def add(self, events: Sequence[LoggedEvent]) -> None:
        """Take the entries of a commit; if there is no room, let go all and listen no more."""
        self.told += 1
        if not self.listens:
            return
        size = sum([len(event.body) for event in events])
        if len(self._events) + len(events) > ENTRIES_MAX or self._bytes + size > BYTES_MAX:
            self.miss()
            self.listens = False
            return
        self._events.extend(events)
        self._bytes += size
        self._upto = events[-1].offset + 1

    def miss(self) -> None:
        """Know that the topic has grown, and not by what."""
        self.told += 1
        self._events.clear()
        self._bytes = 0
        self._upto = None

    def ended_at(self, position: int, told: int) -> None:
        """Know that a read of the log has shown nothing from `position` on.

        `told` is what it was before the read: if the topic was said to have grown since, the read
        may not have seen that.
        """
        if told == self.told:
            self._upto = position

    def is_all_before(self, position: int) -> bool:
        """Return whether, as far as we were told, the log ends at `position`."""
        return not self._events and self._upto == position

    def joining(self, position: int, limit: int, bytes_max: int) -> list[LoggedEvent]:
        """Take out what stands at `position`, and what follows without a gap; or nothing.

        Up to `limit` entries, and no more once they have come to `bytes_max` bytes. What stands
        before `position` is let go.
        """
        events = self._events
        while events and events[0].offset < position:
            self._bytes -= len(events.popleft().body)
        page: list[LoggedEvent] = []
        size = 0
        while events and len(page) < limit and size < bytes_max:
            if events[0].offset != position + len(page):
                break
            event = events.popleft()
            size += len(event.body)
            page.append(event)
        self._bytes -= size
        return page
