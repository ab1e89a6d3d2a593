"""Calls that a test wants to fail: before they are done, or after, when their reply is lost."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from omninode_bridge.core.errors import BusUnavailable, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

Call = Literal[
    "store.read",
    "store.commit",
    "store.recall",
    "store.locked",
    "locked.read",
    "locked.recall",
    "locked.commit",
    "actions.append",
    "actions.read",
    "actions.position",
    "timers.fire",
    "effects.begin",
    "effects.read",
    "effects.due",
    "effects.find",
    "effects.settle",
    "effects.transaction",
    "intents.read",
    "intents.positions",
    "projections.read",
    "projections.watermark",
    "projections.apply",
    "leases.acquire",
    "leases.renew",
    "leases.release",
    "claims.take",
    "claims.leave",
    "members.beat",
    "members.leave",
    "members.owners",
    "members.free",
    "wakes.hear",
    "outcomes.cleanup_expired",
    "segments.drop_segments",
    "relayed.read",
    "relayed.position",
    "relayed.advance",
    "command_positions.position",
    "command_positions.advance",
    "command_positions.go_back",
    "taken_over.position",
    "taken_over.take_over",
    "bus.incarnation",
    "bus.send",
    "bus.beginning",
    "bus.read",
    "bus.put_aside",
]
"""A method of a port, by the name the world has for that port. `store.locked` is done when its
transaction ends: that is where its reply is lost. `bus` is a bus outside of the world."""

When = Literal["before", "after"]


class Interruptions:
    """Which of the next calls fail, in the order in which they were asked for."""

    def __init__(self) -> None:
        """Begin with none."""
        self._planned: dict[Call, deque[When | None]] = {}

    def plan(self, call: Call, when: When, *, skip: int, times: int) -> None:
        """After `skip` calls that work, let `times` calls fail."""
        planned = self._planned.setdefault(call, deque())
        planned.extend([None] * skip + [when] * times)

    @contextmanager
    def around(self, call: Call) -> Iterator[None]:
        """Do what was planned for this call around the block that does it.

        Raises:
            DatabaseUnavailable, BusUnavailable: as a lost connection does.
        """
        unavailable = BusUnavailable if call.startswith("bus.") else DatabaseUnavailable
        planned = self._planned.get(call)
        when = planned.popleft() if planned else None
        if when == "before":
            raise unavailable(f"{call}: interrupted before it was done")
        yield
        if when == "after":
            raise unavailable(f"{call}: done, but its reply was lost")
