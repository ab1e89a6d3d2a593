"""A bus outside, as the loops of a host need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omninode_bridge.ports import (
        CommandPositions,
        DeadLetters,
        IncomingActions,
        OutgoingEvents,
        PersistCommands,
        RelayedLog,
        TakenOver,
    )


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus outside, and how far our log is in step with it."""

    outgoing: OutgoingEvents
    incoming: IncomingActions
    dead_letters: DeadLetters
    relayed: RelayedLog
    taken_over: TakenOver
    commands: PersistCommands
    command_positions: CommandPositions
