"""The loops that keep one partition in step with a bus outside: its relay and its intake.

They hold nothing that is not durable somewhere, so that they may be cancelled at any point: a bus
that is away keeps nobody from ending.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from omninode_bridge.services.intake import Intake
from omninode_bridge.services.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode_bridge.host.world import World
    from omninode_bridge.ports import (
        DeadLetters,
        IncomingActions,
        OutgoingEvents,
        RelayedLog,
        TakenOver,
    )

    Keep = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]

END_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus outside, and how far our log is in step with it."""

    outgoing: OutgoingEvents
    incoming: IncomingActions
    dead_letters: DeadLetters
    relayed: RelayedLog
    taken_over: TakenOver


class BusLoops:
    """The relay and the intake of one partition while it is owned here; none without a bus."""

    def __init__(
        self, world: World, partition: int, appended: Callable[[int], None], keep: Keep
    ) -> None:
        """`keep` runs a loop, and again after an error; `appended` is told whose log has grown."""
        self._relays: list[Relay] = []
        self._intakes: list[Intake] = []
        self._tasks: list[asyncio.Future[None]] = []
        bus = world.bus
        if bus is None:
            return
        relay = Relay(
            partition,
            log=bus.relayed,
            bus=bus.outgoing,
            uniform=world.uniform,
            observe=world.observe,
        )
        intake = Intake(
            partition,
            partitions=world.partitions,
            bus=bus.incoming,
            dead_letters=bus.dead_letters,
            taken_over=bus.taken_over,
            uniform=world.uniform,
            appended=appended,
            observe=world.observe,
        )
        self._relays.append(relay)
        self._intakes.append(intake)
        self._tasks = [
            asyncio.ensure_future(keep("relay", relay.run)),
            asyncio.ensure_future(keep("intake", intake.run)),
        ]

    def history_grew(self) -> None:
        """Something was committed: the relay looks now."""
        for relay in self._relays:
            relay.look()

    async def end(self) -> None:
        """End both; what is under way has a second."""
        for relay in self._relays:
            relay.stop()
        for intake in self._intakes:
            intake.stop()
        if self._tasks:
            _ended, hanging = await asyncio.wait(self._tasks, timeout=END_WAIT_S)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
