"""A worker of either kind on the world in memory, with everything it reports written down."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

import pytest

from omninode_bridge.core.commit import Accepted, Commit, outcomes_of
from omninode_bridge.core.message import Outcome, SealedAction
from omninode_bridge.core.reducer import NEVER_SEEN, KeyType, Transition, fold
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.services.direct_path import DirectPath
from omninode_bridge.services.reducer_service import ReducerService
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from omninode_bridge.core.commit import ActionName, Refusal
    from omninode_bridge.core.message import Action
    from omninode_bridge.core.observation import Observation
    from omninode_bridge.core.reducer import Snapshot, Step
    from omninode_bridge.ports import ActionLog, CanonicalStore, LockedPartition

_T = TypeVar("_T")
_W = TypeVar("_W", bound="Worker")
Worker = ReducerService | DirectPath
Kind = type[ReducerService] | type[DirectPath]

both = pytest.mark.parametrize("kind", [ReducerService, DirectPath])
"""For promises that the partition worker and the direct path keep alike."""

CODEC: Final = CanonicalCodec()
LEASE: Final = timedelta(seconds=5)
OWNER: Final = UUID(int=1)
RIVAL: Final = UUID(int=2)
KEY: Final = "counter:1"


def _take(state: dict[str, Any], action: Action) -> Transition:
    """Absorb whatever comes."""
    return Transition({"types": [*state.get("types", ()), len(action.type)]})


KEY_TYPES: Final = app.key_types() | {"taken": KeyType("taken", 1, _take)}


class NewIds:
    """Ids in the order in which they are asked for."""

    def __init__(self, first: int = 1_000) -> None:
        """Begin with `first`."""
        self._numbers = count(first)

    def __call__(self) -> UUID:
        """Return the next id."""
        return UUID(int=next(self._numbers))


class Dice:
    """Dice that always show the lowest number, and remember between what they were thrown."""

    def __init__(self) -> None:
        """Nothing thrown yet."""
        self.thrown: list[tuple[float, float]] = []

    def __call__(self, low: float, high: float) -> float:
        """Throw."""
        self.thrown.append((low, high))
        return low


@dataclass
class Running(Generic[_W]):
    """A worker and what it has told so far."""

    worker: _W
    world: MemoryWorld
    dice: Dice
    facts: list[Observation]
    answers: list[tuple[ActionName, Outcome]] = field(default_factory=list)
    commits: list[tuple[Commit, Accepted]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; what was submitted before is one batch."""
        self.task = asyncio.create_task(self.worker.run())

    async def ended(self) -> BaseException | None:
        """Wait until the worker has ended, and return its error."""
        assert self.task is not None
        async with asyncio.timeout(10):
            await asyncio.wait([self.task])
        return self.task.exception()

    async def submit(self, *actions: SealedAction) -> list[asyncio.Future[Outcome]]:
        """Hand `actions` over, in order."""
        return [await self.worker.submit(action) for action in actions]

    async def outcomes(self, *actions: SealedAction) -> list[Outcome]:
        """Hand `actions` over at once and wait for their outcomes."""
        futures = await self.submit(*actions)
        async with asyncio.timeout(10):
            return await asyncio.gather(*futures)

    def told(self, kind: type[_T]) -> list[_T]:
        """Return the facts of one kind, in order."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def attempts(self) -> list[int]:
        """Return for each commit that was accepted how often its batch had been folded."""
        return [commit.attempts for commit, _ in self.commits]


def new_world(**options: Any) -> MemoryWorld:  # noqa: ANN401
    """Return a world of one partition whose clock is its own."""
    return MemoryWorld(clock=SettableClock(), partitions=1, **options)


async def hired(world: MemoryWorld, **options: Any) -> Running[ReducerService]:  # noqa: ANN401 - handed on as they are
    """Return a partition worker that owns partition 0 and has not begun."""
    return await hired_as(ReducerService, world, **options)


async def hired_as(
    kind: type[_W],
    world: MemoryWorld,
    *,
    store: CanonicalStore | None = None,
    action_log: ActionLog | None = None,
    observe: Callable[[Observation], None] = lambda _: None,
    **options: Any,  # noqa: ANN401 - of the worker
) -> Running[_W]:
    """Return a worker of this kind that owns partition 0 and has not begun."""
    await world.leases.acquire(OWNER, "a worker", LEASE, [0])
    facts: list[Observation] = []
    dice = Dice()

    def see(fact: Observation) -> None:
        facts.append(fact)
        observe(fact)

    if issubclass(kind, ReducerService):  # the direct path recalls each id under the lock
        options = {"outcomes": world.store} | options
    worker = kind(
        0,
        OWNER,
        store=store or world.store,
        action_log=action_log or world.actions,
        key_types=KEY_TYPES,
        codec=CODEC,
        clock=world.clock,
        new_id=NewIds(),
        uniform=dice,
        committed=lambda commit, accepted: running.commits.append((commit, accepted)),
        answer=lambda one, outcome: running.answers.append(
            ((one.workflow_key, one.action_id), outcome)
        ),
        observe=see,
        **options,
    )
    running = Running(worker, world, dice, facts)
    return running


@asynccontextmanager
async def working(
    world: MemoryWorld,
    **options: Any,  # noqa: ANN401 - handed on as they are
) -> AsyncIterator[Running[ReducerService]]:
    """Run a partition worker; it has answered everything when the block is left."""
    async with working_as(ReducerService, world, **options) as running:
        yield running


@asynccontextmanager
async def working_as(
    kind: type[_W],
    world: MemoryWorld,
    **options: Any,  # noqa: ANN401 - handed on as they are
) -> AsyncIterator[Running[_W]]:
    """Run a worker of this kind; it has answered everything when the block is left."""
    running = await hired_as(kind, world, **options)
    running.start()
    yield running
    running.worker.stop()
    error = await running.ended()
    assert error is None, error


_action_ids: Final = NewIds(1_000_000)


def action(
    key: str = KEY,
    action_type: str = "Counted",
    payload: dict[str, Any] | None = None,
    **terms: Any,  # noqa: ANN401 - the fields of a sealed action
) -> SealedAction:
    """Return an action; without a payload it counts 1."""
    body = CODEC.encode({"amount": 1} if payload is None else payload)
    action_id = terms.pop("action_id", None) or _action_ids()
    return SealedAction(action_id, key, action_type, body, SettableClock()(), **terms)


async def commit_beside(
    world: MemoryWorld,
    *actions: SealedAction,
    owner: UUID | None = None,
    changed: Callable[[Step], Step] = lambda step: step,
) -> list[Outcome]:
    """Commit `actions`, all of one key, without the worker; each step as it was `changed`."""
    key = actions[0].workflow_key
    stored = (await world.store.read([key])).get(key, NEVER_SEEN)
    _, steps = fold(stored, actions, KEY_TYPES[key.partition(":")[0]], CODEC, world.clock())
    steps = [changed(step) for step in steps]
    commit = Commit(0, owner, {key: stored.version}, steps, world.clock(), _action_ids())
    accepted = await world.store.commit(commit)
    assert isinstance(accepted, Accepted), accepted
    return outcomes_of(commit, accepted)


class Disturbed:
    """A store that is disturbed right before each commit, or each taking of the lock."""

    def __init__(
        self,
        store: CanonicalStore,
        *,
        before_commit: Callable[[], Awaitable[object]] | None = None,
        before_lock: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Ask `store`, after the disturbance."""
        self._store = store
        self._before_commit = before_commit
        self._before_lock = before_lock

    async def read(self, keys: Iterable[str]) -> Mapping[str, Snapshot]:
        """Read undisturbed."""
        return await self._store.read(keys)

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Commit after somebody else did something."""
        if self._before_commit is not None:
            await self._before_commit()
        return await self._store.commit(commit)

    @asynccontextmanager
    async def locked(self, partition: int) -> AsyncIterator[LockedPartition]:
        """Lock after somebody else did something."""
        if self._before_lock is not None:
            await self._before_lock()
        async with self._store.locked(partition) as locked:
            yield locked


async def some_turns(turns: int = 20) -> None:
    """Let everybody run until they wait: nothing in memory waits for anything but its turn."""
    for _ in range(turns):
        await asyncio.sleep(0)
