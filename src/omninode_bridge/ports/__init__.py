"""What the loops need from the world, as Protocols over core types.

Rule 1: a port is said in one breath: up to four methods.
Rule 2: every implementation (memory, PostgreSQL) passes the same suite in `tests/contract/`.
Rule 3: an unreachable database raises DatabaseUnavailable; after a commit that means *unknown*.
Offsets begin at 1. A position is the *next* offset a consumer will read.
"""

from omninode_bridge.ports.asking import Runs, Submit
from omninode_bridge.ports.bus import (
    BusSource,
    DeadLetters,
    Incoming,
    IncomingActions,
    IncomingPage,
    LoggedEvent,
    OutgoingEvents,
    RelayedLog,
    TakenIn,
    TakenOver,
)
from omninode_bridge.ports.cleaning import OutcomeCleaning, SegmentCleaning
from omninode_bridge.ports.clock import Clock
from omninode_bridge.ports.effects import (
    EffectEnds,
    EffectLog,
    EffectPage,
    EffectsBegun,
    EffectTransaction,
    ParkedEffects,
)
from omninode_bridge.ports.events import EventBus, Expectation, StillUnknown
from omninode_bridge.ports.leases import EffectClaims, Leases
from omninode_bridge.ports.logs import ActionLog, CutOff, IntentLog, LoggedAction, Source, Timers
from omninode_bridge.ports.members import Members
from omninode_bridge.ports.outcomes import Hints, RememberedOutcomes
from omninode_bridge.ports.persisting import (
    Command,
    CommandPage,
    CommandPositions,
    PersistAsks,
    PersistCommands,
    Unstorable,
)
from omninode_bridge.ports.projections import (
    HasKey,
    LoggedProjection,
    ProjectionList,
    ProjectionLog,
)
from omninode_bridge.ports.state_machines import (
    LoggedTransition,
    TransitionLog,
    WentOrNot,
    WorkflowStates,
)
from omninode_bridge.ports.stores import CanonicalStore, LockedPartition, StateReplacing
from omninode_bridge.ports.waking import Wake, Wakes

__all__ = [
    "ActionLog",
    "BusSource",
    "CanonicalStore",
    "Clock",
    "Command",
    "CommandPage",
    "CommandPositions",
    "CutOff",
    "DeadLetters",
    "EffectClaims",
    "EffectEnds",
    "EffectLog",
    "EffectPage",
    "EffectTransaction",
    "EffectsBegun",
    "EventBus",
    "Expectation",
    "HasKey",
    "Hints",
    "Incoming",
    "IncomingActions",
    "IncomingPage",
    "IntentLog",
    "Leases",
    "LockedPartition",
    "LoggedAction",
    "LoggedEvent",
    "LoggedProjection",
    "LoggedTransition",
    "Members",
    "OutcomeCleaning",
    "OutgoingEvents",
    "ParkedEffects",
    "PersistAsks",
    "PersistCommands",
    "ProjectionList",
    "ProjectionLog",
    "RelayedLog",
    "RememberedOutcomes",
    "Runs",
    "SegmentCleaning",
    "Source",
    "StateReplacing",
    "StillUnknown",
    "Submit",
    "TakenIn",
    "TakenOver",
    "Timers",
    "TransitionLog",
    "Unstorable",
    "Wake",
    "Wakes",
    "WentOrNot",
    "WorkflowStates",
]
