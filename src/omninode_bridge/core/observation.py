"""Facts that the loops report: frozen records, one sentence each.

Rule 1: loops report facts and nothing else; metrics, logs, progress and tests are their readers.
Rule 2: times are durations in seconds, measured with a monotonic clock by who reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from omninode_bridge.core.roles import Role


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """A worker made a batch durable and answered its askers."""

    partition: int
    actions: int
    keys: int
    committed: int
    gave_up: int
    duplicates: int
    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """A commit wrote nothing; the worker folds again, or stops when it is no longer the owner."""

    partition: int
    not_owner: bool
    moved: bool
    stale_keys: int
    known_actions: int


@dataclass(frozen=True, slots=True)
class HintsFollowed:
    """Hints named `ids` actions of a batch; `known` had an outcome, the others are folded."""

    partition: int
    ids: int
    known: int


@dataclass(frozen=True, slots=True)
class OwnershipChanged:
    """This process took a partition, lost it to another, or let it go."""

    partition: int
    change: Literal["taken", "lost", "released"]


@dataclass(frozen=True, slots=True)
class FollowingChanged:
    """This process began or ended to do what a role does for a partition that it does not own."""

    partition: int
    role: Role
    change: Literal["begun", "ended"]


@dataclass(frozen=True, slots=True)
class AnotherAppServes:
    """This process waits: `name` came before it, with other key types, versions or effects."""

    name: str


@dataclass(frozen=True, slots=True)
class ProjectionApplied:
    """A materializer brought the projection of a partition up to `watermark`.

    `lag_s` is the time from the commit of the oldest entry of the batch until now.
    """

    partition: int
    entries: int
    rows: int
    watermark: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class WatermarkRegressed:
    """Somebody asked the watermark of a partition to go back; it was refused."""

    partition: int
    watermark: int
    asked: int


@dataclass(frozen=True, slots=True)
class IntentsDispatched:
    """The dispatcher carried follow-up actions over; the `others` are for effects."""

    partition: int
    entries: int
    submitted: int
    others: int


@dataclass(frozen=True, slots=True)
class EventsRelayed:
    """The bus has confirmed `entries` of a topic of our log, up to `position`."""

    topic: str
    partition: int
    entries: int
    position: int


@dataclass(frozen=True, slots=True)
class CommitsPersisted:
    """A store effect committed, or refused, what a reducer had sent by the bus."""

    partition: int
    actions: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class ActionsTakenOver:
    """Messages of the bus's action topic were looked at, up to `position`.

    `actions` are new in our logs, `strays` of them stood in the wrong partition; `put_aside` were
    no actions.
    """

    partition: int
    messages: int
    actions: int
    strays: int
    put_aside: int
    position: int


@dataclass(frozen=True, slots=True)
class TimersFired:
    """Actions of a partition that have become due went into its action log."""

    partition: int
    actions: int


@dataclass(frozen=True, slots=True)
class EffectAttempted:
    """A handler was called once. What has `failed` is tried again, the others are the end."""

    partition: int
    intent_type: str
    attempt: int
    ended: Literal["done", "failed", "dead", "cancelled"]
    seconds: float


@dataclass(frozen=True, slots=True)
class EffectsSettled:
    """Ends of effects became durable, and `parked` ones; `unhandled` ones have no handler yet."""

    partition: int
    ended: int
    parked: int
    unhandled: int
    position: int


@dataclass(frozen=True, slots=True)
class EffectsLeft:
    """Handlers went on after they were cancelled, and nobody waits for them any more.

    `effects` are intent types with intent ids. They count as begun: they will be called again.
    """

    partition: int
    effects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventPublished:
    """An `event` (its type's name) was published on `topic`; `told` is how many waited for it.

    Conflicts are counted by these: a `StateConflict` is told, and is not history.
    """

    topic: str
    event: str
    told: int


@dataclass(frozen=True, slots=True)
class OutcomesForgotten:
    """The cleaner removed `rows` outcomes whose time was over."""

    rows: int


@dataclass(frozen=True, slots=True)
class SegmentsDropped:
    """The cleaner dropped whole segments of a transient topic behind all registered consumers."""

    topic: str
    partition: int
    segments: int


@dataclass(frozen=True, slots=True)
class LoopStumbled:
    """A loop met an error it goes on from; `attempt` counts them since its last success."""

    loop: str
    partition: int | None
    attempt: int
    error: Exception


Observation = (
    BatchCommitted
    | CommitRefused
    | HintsFollowed
    | OwnershipChanged
    | FollowingChanged
    | AnotherAppServes
    | ProjectionApplied
    | WatermarkRegressed
    | IntentsDispatched
    | EventsRelayed
    | CommitsPersisted
    | ActionsTakenOver
    | TimersFired
    | EffectAttempted
    | EffectsSettled
    | EffectsLeft
    | EventPublished
    | OutcomesForgotten
    | SegmentsDropped
    | LoopStumbled
)

Observe = Callable[[Observation], None]


def ignore(_: Observation) -> None:
    """Observe nothing."""
