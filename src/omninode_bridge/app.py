"""What the user declares (`App`) and what carries it out (`Bridge`): the only place that knows all.

Here stores meet loops, loops meet ports, and the environment meets all of them; start and stop too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import ge
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid4

import platformdirs

from omninode_bridge.core.effect_types import BACKOFF, CONCURRENCY, EffectType
from omninode_bridge.core.effect_types import TIMEOUT_S as TIMEOUT_OF_EFFECT_S
from omninode_bridge.core.errors import (
    BridgeClosed,
    ConfigurationError,
    InvalidAction,
    OutcomeUnknown,
)
from omninode_bridge.core.fsm_workflow import FSM_WORKFLOWS
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.core.message import (
    PAYLOAD_BYTES_MAX,
    Action,
    Outcome,
    SealedAction,
    check_reply_to,
    check_workflow_key,
    key_type_of,
    time_ordered_id,
)
from omninode_bridge.core.observation import Observation, Observe, ignore
from omninode_bridge.core.orchestration import RUN, RunContract, RunOutcome, run_key
from omninode_bridge.core.projection import project_plainly
from omninode_bridge.core.reducer import KeyType, check_action_type
from omninode_bridge.core.retry import Backoff
from omninode_bridge.core.terms import check_count, check_id, check_remember_for, check_time
from omninode_bridge.host import FIRST_EPOCH, PartitionHost, RunDoor, World
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.contracts import (
    load_node_contract,
    read_run_contract,
    run_contract_of,
)
from omninode_bridge.infrastructure.event_bus import PostgresEventBus
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.nodes.database_adapter_effect.v1_0_0.node import NodeBridgeStoreEffect
from omninode_bridge.nodes.orchestrator.v1_0_0.node import NodeBridgeOrchestrator
from omninode_bridge.nodes.reducer.v1_0_0.node import NodeBridgeReducer
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.canonical_store import LEASE, CanonicalStoreService
from omninode_bridge.services.cleaner import Cleaner
from omninode_bridge.services.dead_letters import DeadLetterService
from omninode_bridge.services.effect_store import EffectStoreService
from omninode_bridge.services.event_log import (
    ActionLogService,
    EventLogService,
    IntentLogService,
    TimerService,
)
from omninode_bridge.services.fsm_state_manager import FSMStateManager
from omninode_bridge.services.leases import LeaseService
from omninode_bridge.services.projection_log import ProjectionLogService
from omninode_bridge.services.projection_rebuild import ProjectionRebuildService
from omninode_bridge.services.projection_store import ProjectionStoreService
from omninode_bridge.services.transition_log import TransitionLogService
from omninode_bridge.services.verifier import VerifierService
from omninode_bridge.settings import check_redis_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from omninode_bridge.core.effect_types import Handle
    from omninode_bridge.core.projection import Project
    from omninode_bridge.core.reducer import Reducer
    from omninode_bridge.infrastructure.entities import (
        ModelDeadLetter,
        ModelWorkflowProjection,
        ModelWorkflowState,
    )
    from omninode_bridge.infrastructure.redis_hints import RedisHints
    from omninode_bridge.ports import Hints, Runs
    from omninode_bridge.services.event_log import LogProgress
    from omninode_bridge.services.verifier import Verification

LOGGER: Final = logging.getLogger("omninode_bridge")

PARTITIONS: Final = 4
PARTITIONS_MAX: Final = 256
"""More would need more locks at once than a server has by default, just to be made."""

TIMEOUT_S: Final = 5.0
RUN_TIMEOUT_S: Final = 30.0
REMEMBER_FOR: Final = timedelta(hours=6)
LOOP_CONNECTIONS_MAX: Final = 16
READ_CONNECTIONS_MAX: Final = 8
SETTLE_LOOK_S: Final = 0.01
CAUGHT_UP_S: Final = 60.0
"""How long the projection has to show what is committed, before a recovery gives up."""

OUR_KEY_TYPES: Final = {each.name: each for each in (FSM_WORKFLOWS, RUN)}
"""Reduced by the bridge itself, whatever the application: what they need is in their state, such as
a run's contract, so whoever owns the partition can carry them on."""

_R = TypeVar("_R", bound="Reducer")
_P = TypeVar("_P", bound="Project")
_H = TypeVar("_H", bound="Handle")
Handed = Action | tuple[str, str, Mapping[str, Any]]
"""What `submit_many` takes: an Action, or (key, type, payload)."""


class App:
    """A set of key types: their reducers and projections. Declared once, used by any bridge."""

    def __init__(self, name: str) -> None:
        """`name` appears in logs and leases."""
        self.name = name
        self._reducers: dict[str, dict[int, tuple[Reducer, bool]]] = {}
        self._projections: dict[str, Project] = {}
        self._effects: dict[str, EffectType] = {}
        self._contracts: dict[str, RunContract] = {}

    def reducer(
        self, key_type: str, *, version: int = 1, fenced: bool = False
    ) -> Callable[[_R], _R]:
        """Declare the reducer of the keys `key_type:...`.

        The highest `version` reduces new actions; the others stay for `verify`, which folds history
        with the version that made it. `fenced` keys refuse actions of an epoch that is past.

        Raises:
            ConfigurationError: a malformed key type, one of the bridge's own, or one declared
                twice in the same version.
        """
        if not key_type or ":" in key_type or "\0" in key_type:
            message = f"a key type is text without a colon, not {key_type!r}"
            raise ConfigurationError(message)
        if key_type in OUR_KEY_TYPES:
            message = f"keys {key_type}:... are the bridge's own: choose another type"
            raise ConfigurationError(message)
        if version < 1:
            message = f"the reducer of {key_type!r}: version must be at least 1, not {version}"
            raise ConfigurationError(message)

        def declare(reduce: _R) -> _R:
            versions = self._reducers.setdefault(key_type, {})
            if version in versions:
                message = f"version {version} of the reducer of {key_type!r} is declared twice"
                raise ConfigurationError(message)
            versions[version] = (reduce, fenced)
            return reduce

        return declare

    def projection(self, key_type: str) -> Callable[[_P], _P]:
        """Declare the projection of the keys `key_type:...`.

        Raises:
            ConfigurationError: when the key type has one already.
        """

        def declare(project: _P) -> _P:
            if key_type in self._projections:
                message = f"the projection of {key_type!r} is declared twice"
                raise ConfigurationError(message)
            self._projections[key_type] = project
            return project

        return declare

    def effect(
        self,
        name: str,
        *,
        attempts: int = BACKOFF.attempts,
        base_ms: float = BACKOFF.base_ms,
        cap_ms: float = BACKOFF.cap_ms,
        timeout: float = TIMEOUT_OF_EFFECT_S,
        concurrency: int = CONCURRENCY,
        ordered: bool = False,
        transactional: bool = False,
    ) -> Callable[[_H], _H]:
        """Declare the handler that carries out the intents of type `name`.

        It is an async function of an `EffectCall`, and returns None, a dict or an `EffectResult`.
        It is called at least once for each intent, with the intent's id as idempotency key, up to
        `attempts` times with a jittered wait of `base_ms` to `cap_ms` between two, and `timeout`
        seconds for each; after the last, or when it raises `EffectRefused`, the intent is a dead
        letter. At most `concurrency` calls are under way in a process. `ordered`: those of one key
        one after another. `transactional`: it is given the database connection as well, and what
        it writes there is committed together with the end of the effect: exactly once.

        Raises:
            ConfigurationError: a name declared twice, or a bound that makes no sense.
        """

        def declare(handle: _H) -> _H:
            if name in self._effects:
                message = f"the effect {name!r} is declared twice"
                raise ConfigurationError(message)
            try:
                backoff = Backoff(attempts, base_ms, cap_ms)
                self._effects[name] = EffectType(
                    name, handle, backoff, timeout, concurrency, ordered, transactional
                )
            except ValueError as error:
                message = f"the effect {name!r}: {error}"
                raise ConfigurationError(message) from error
            return handle

        return declare

    def workflow(self, contract: RunContract | Mapping[str, Any] | Path | str) -> RunContract:
        """Declare a contract of steps, so that `Bridge.run` knows it by its name; return it.

        `contract` is the file with it (YAML or JSON), or the contract itself.

        Raises:
            ContractError: it cannot work; the message names the line.
            ConfigurationError: its name is declared with another content.
        """
        match contract:
            case RunContract():
                declared = contract
            case Mapping():
                declared = run_contract_of(contract)
            case _:
                declared = read_run_contract(Path(contract))
        if self._contracts.setdefault(declared.name, declared) != declared:
            message = f"the workflow {declared.name!r} is declared twice, with other content"
            raise ConfigurationError(message)
        return declared

    def workflows(self) -> dict[str, RunContract]:
        """Return the contracts by name."""
        return dict(self._contracts)

    def include(self, other: App) -> None:
        """Take over everything that `other` declares.

        Raises:
            ConfigurationError: when both declare the same.
        """
        for key_type, versions in other._reducers.items():
            for version, (reduce, fenced) in versions.items():
                self.reducer(key_type, version=version, fenced=fenced)(reduce)
        for key_type, project in other._projections.items():
            self.projection(key_type)(project)
        for name, effect_type in other._effects.items():
            if name in self._effects:
                message = f"the effect {name!r} is declared twice"
                raise ConfigurationError(message)
            self._effects[name] = effect_type
        for contract in other._contracts.values():
            self.workflow(contract)

    def effect_types(self) -> dict[str, EffectType]:
        """Return the effects by the type of their intents."""
        return dict(self._effects)

    def key_types(self) -> dict[str, KeyType]:
        """Return the key types by name, each in its highest version."""
        return {name: self._key_type(name, max(versions)) for name, versions in self._all()}

    def every_version(self) -> dict[tuple[str, int], KeyType]:
        """Return the key types by name and version."""
        return {
            (name, version): self._key_type(name, version)
            for name, versions in self._all()
            for version in versions
        }

    def _all(self) -> Iterable[tuple[str, Mapping[int, object]]]:
        orphans = self._projections.keys() - self._reducers.keys()
        if orphans:
            message = f"projections without a reducer: {', '.join(sorted(orphans))}"
            raise ConfigurationError(message)
        return self._reducers.items()

    def _key_type(self, name: str, version: int) -> KeyType:
        reduce, fenced = self._reducers[name][version]
        project = self._projections.get(name, project_plainly)
        return KeyType(name, version, reduce, project, fenced)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The doors of the OmniNode architecture, each checked against its `contract.yaml`."""

    reducer: NodeBridgeReducer
    store_effect: NodeBridgeStoreEffect


class Bridge:
    """An open bridge. Get one from `Bridge.open`."""

    def __init__(self, app: App, database: Database, partitions: int) -> None:
        """Wire what reads; `open` adds what writes."""
        self.app = app
        self.partitions = partitions
        self._database = database
        self._codec = CanonicalCodec()
        self._key_types = app.key_types() | OUR_KEY_TYPES
        self.canonical_store = CanonicalStoreService(
            database, self._codec, partitions=partitions, key_types=self._key_types
        )
        self.projection_store = ProjectionStoreService(database)
        self.event_log = EventLogService(database)
        self.lease_id = uuid4()
        self._runs = RunDoor(
            self.submit, self.canonical_store, self.projection_store, self._codec, self.lease_id
        )
        self.event_bus = PostgresEventBus(database, observe=self._observed)
        self.fsm = FSMStateManager(
            submit=self.submit,
            store=self.canonical_store,
            transitions=TransitionLogService(database, self._codec, partitions=partitions),
            projections=self.projection_store,
            caught_up=self._projection_caught_up,
            codec=self._codec,
            machine=WORKFLOW,
        )
        self._nodes: Nodes | None = None
        self._dead_letters = DeadLetterService(database, self._codec)
        self._host: PartitionHost | None = None
        self._closed = False
        self._observers: list[Observe] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        app: App,
        *,
        data_dir: Path | str | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        partitions: int | None = None,
        writing: bool = True,
        observe: Observe = ignore,
        on_wait: Callable[[], None] | None = None,
        pure_reducer: bool = True,
    ) -> AsyncIterator[Bridge]:
        """Open a bridge on the embedded database of `data_dir`, or on `database_url`.

        Without either, the embedded database of this user's data folder is used. `partitions` is
        for a new database (4 by default); an existing one keeps its number. `redis_url` names a
        Redis that processes share to save work on actions that are asked again (the extra `redis`);
        it decides nothing, and may be away. With `writing=False`
        the bridge only reads, beside any writer. `observe` is told the facts of
        `core.observation`. `on_wait` is called once if another writer holds the data folder and
        has to be waited for. With `pure_reducer=False` the bridge takes the direct path: a
        transaction for each action instead of batches folded in memory, with the same outcomes and
        many times slower. It can be chosen anew each time, and bridges of both kinds may share a
        server.

        Raises:
            ConfigurationError: what is asked for does not fit the database that is there, or Redis
                is to be used and its package is not installed.
            DatabaseUnavailable: the server cannot be reached.
        """
        async with AsyncExitStack() as stack:
            new_hints = None if redis_url is None else _redis_hints(redis_url)
            connect: Mapping[str, Any]
            if database_url is not None:
                if data_dir is not None:
                    message = "give data_dir or database_url, not both"
                    raise ConfigurationError(message)
                connect = {"dsn": database_url}
                await _require_migrated(connect)
            else:
                folder = Path(data_dir) if data_dir is not None else default_data_dir()
                server = EmbeddedServer(folder)
                if writing:
                    await stack.enter_async_context(server.writing(on_wait))
                address = await stack.enter_async_context(server.use())
                connect = address.connect_arguments
                await migrations.upgrade(connect)
            reads = Database(connect, connections_max=READ_CONNECTIONS_MAX)
            await stack.enter_async_context(reads)
            await _require_read_committed(reads)
            actual = await _create_partitions(reads, partitions)
            bridge = cls(app, reads, actual)
            if observe is not ignore:
                bridge.observe(observe)
            stack.push_async_callback(bridge.projection_store.close)
            stack.push_async_callback(bridge.event_bus.close)
            if writing:
                bridge._nodes = bridge._open_doors()
                loops = Database(connect, connections_max=LOOP_CONNECTIONS_MAX)
                await stack.enter_async_context(loops)
                alone = database_url is None
                hints: Hints | None = None
                if new_hints is not None:
                    hints = await stack.enter_async_context(new_hints(bridge._observed))
                await bridge._start(stack, loops, hints, alone=alone, pure_reducer=pure_reducer)
            try:
                yield bridge
            finally:
                bridge._closed = True

    async def _start(
        self,
        stack: AsyncExitStack,
        loops: Database,
        hints: Hints | None,
        *,
        alone: bool,
        pure_reducer: bool,
    ) -> None:
        """Start the loops on their own connections, so that reads never hold commits up.

        `alone`: we hold the data folder's writer lock, so leases that are left are a dead one's.
        """
        leases = LeaseService(loops, self.partitions)
        if alone:
            await leases.break_all()
        effects = EffectStoreService(loops, self._codec)
        store = CanonicalStoreService(loops, self._codec, partitions=self.partitions)
        world = World(
            partitions=self.partitions,
            name=f"{self.app.name}@{socket.gethostname()}:{os.getpid()}",
            lease=LEASE,
            key_types=self._key_types,
            effect_types=self.app.effect_types(),
            codec=self._codec,
            store=store,
            outcomes=store,
            actions=ActionLogService(loops, self._codec),
            timers=TimerService(loops),
            intents=IntentLogService(loops, self._codec),
            effect_log=effects,
            parked_effects=effects,
            effect_ends=effects,
            projections=ProjectionLogService(loops, self._codec),
            leases=leases,
            clock=_now,
            new_id=uuid4,
            uniform=random.uniform,
            observe=self._observed,
            advanced=self.projection_store.advanced,
            pure_reducer=pure_reducer,
            hints=hints,
        )
        self._host = await stack.enter_async_context(PartitionHost(world))
        cleaner = Cleaner(
            range(self.partitions),
            outcomes=ActionDedupService(loops),
            segments=EventLogService(loops),
            observe=self._observed,
        )
        cleaning = asyncio.create_task(cleaner.run(), name="cleaner")

        async def stop_cleaning() -> None:
            cleaner.stop()
            await cleaning

        stack.push_async_callback(stop_cleaning)

    def _open_doors(self) -> Nodes:
        """Check every node's contract against its code, then give each what it needs.

        Raises:
            ConfigurationError: a contract and its code disagree.
        """
        for node in (NodeBridgeReducer, NodeBridgeStoreEffect, NodeBridgeOrchestrator):
            load_node_contract(node)
        return Nodes(
            NodeBridgeReducer(self._key_types, self._codec, _now),
            NodeBridgeStoreEffect(self.canonical_store, self.fsm, self.event_bus, _now),
        )

    def orchestrator_node(self, run: Runs | None = None) -> NodeBridgeOrchestrator:
        """Return the door to the runs of this bridge, or to those that `run` carries out."""
        return NodeBridgeOrchestrator(self.run if run is None else run)

    # -- asking ------------------------------------------------------------------------------------

    async def submit(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - the outcome is unknown then, not cancelled
        occurred_at: datetime | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> Outcome:
        """Submit one action and return its outcome; wait at most `timeout` seconds.

        `action_id` makes a retry safe: the same id on the same key gets the first outcome, for
        `remember_for` (None: for ever). `expected_version` demands the key's version (0: never
        seen); if it is past, the action is given up with the reason `conflict`. `reply_to` is a
        workflow key that is told the outcome by a follow-up action. With `due_at` the action is
        durable at once and applied then, by the database's clock; `timeout` begins then, too.

        Raises:
            InvalidAction: it can never be stored; `field` says what is wrong.
            OutcomeUnknown: no answer in time; it may still commit. Ask again under the same id.
            BridgeClosed: the bridge is closed, or opened for reading.
        """
        action = self._seal(
            key,
            type,
            payload,
            action_id=action_id,
            expected_version=expected_version,
            remember_for=remember_for,
            occurred_at=occurred_at,
            epoch=epoch,
            lease_id=lease_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
            due_at=due_at,
        )
        host = self._writing()
        future = host.submit_now(action)
        if future is None:
            if action.due_at is not None:
                timeout += max(0.0, (action.due_at - _now()).total_seconds())
            try:
                async with asyncio.timeout(timeout):
                    return await (await host.submit(action))
            except TimeoutError as error:
                raise OutcomeUnknown(key, action.action_id, timeout) from error
        # What asyncio.timeout does, at a third of its cost: this is the way of nearly every ask.
        expiry = asyncio.get_running_loop().call_later(timeout, _expire, future, action, timeout)
        try:
            return await future
        finally:
            expiry.cancel()

    async def submit_many(
        self,
        actions: Iterable[Handed],
        *,
        remember_for: timedelta | None = REMEMBER_FOR,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - as submit
    ) -> list[Outcome]:
        """Submit many in one call and return their outcomes in order.

        Those of one key are applied in the order given (R5). All are checked before the first is
        handed over. `timeout` is for each to be answered once the one before it was.

        Raises:
            InvalidAction, OutcomeUnknown, BridgeClosed: as `submit`; OutcomeUnknown names the first
            action without an answer, and the later ones may have committed too.
        """
        sealed = [self._seal_handed(handed, remember_for) for handed in actions]
        futures = await self._hand_over(sealed, timeout)
        outcomes: list[Outcome] = []
        for action, future in zip(sealed, futures, strict=True):
            if future.done():  # most come in the same batch as the one before
                outcomes.append(future.result())
                continue
            try:
                async with asyncio.timeout(timeout):
                    outcomes.append(await future)
            except TimeoutError as error:
                raise OutcomeUnknown(action.workflow_key, action.action_id, timeout) from error
        return outcomes

    async def hand_over(
        self, actions: Iterable[Handed], *, remember_for: timedelta | None = REMEMBER_FOR
    ) -> Sequence[asyncio.Future[Outcome]]:
        """Hand many over, and return the futures of their outcomes in order without waiting.

        For who keeps several calls under way: when the next call is made after this one has
        returned, the actions of both are applied in the order given, for each key. All are checked
        before the first is handed over. Waits while the inbox of a partition is full.

        Raises:
            InvalidAction, BridgeClosed: as `submit`.
        """
        return await self._hand_over([self._seal_handed(h, remember_for) for h in actions])

    def check(self, action: Handed) -> None:
        """Find out whether `action` could be submitted, without doing so.

        Raises:
            InvalidAction: as `submit`.
        """
        self._seal_handed(action, REMEMBER_FOR)

    async def enqueue(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        occurred_at: datetime | None = None,
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> UUID:
        """Return the action's id as soon as it is durable in the log, before it is reduced.

        With `due_at` it is reduced then, by the database's clock, and not before.

        Raises:
            InvalidAction: it can never be stored.
            DatabaseUnavailable: it may or may not be durable; enqueue it again under the same id.
        """
        action = self._seal(
            key,
            type,
            payload,
            action_id=action_id,
            expected_version=expected_version,
            remember_for=remember_for,
            occurred_at=occurred_at,
            correlation_id=correlation_id,
            reply_to=reply_to,
            due_at=due_at,
        )
        await self._writing().enqueue(action)
        return action.action_id

    async def settled(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - a bound, not a race
        """Return when all that was committed or enqueued until now is done with.

        Follow-up actions are dispatched and reduced (and theirs), and the projection shows it all,
        however much is asked meanwhile.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            BrokenPromise: a loop has stopped for good.
        """
        host = self._writing()
        goals: list[LogProgress] = []
        async with asyncio.timeout(timeout):
            while True:
                if host.failures:
                    raise host.failures[0]
                host.settle()
                now = await self.event_log.progress()
                if now.has_reached(now):
                    return
                if not goals or now.has_reached(goals[-1]):
                    if len(goals) > 1 and not await self._follows(goals):
                        return
                    goals.append(now)
                await asyncio.sleep(SETTLE_LOOK_S)

    async def _projection_caught_up(self) -> None:
        """Return when the projection shows all that is committed now; TimeoutError: it does not."""
        goal = (await self.event_log.progress()).state_committed
        async with asyncio.timeout(CAUGHT_UP_S):
            while True:
                *_, watermarks = (await self.event_log.progress()).positions
                if all(map(ge, watermarks, goal)):
                    return
                await asyncio.sleep(SETTLE_LOOK_S)

    async def _follows(self, goals: Sequence[LogProgress]) -> bool:
        """Return whether what was there at the first goal may still have something to follow.

        Whatever stands before one goal is consumed before the next is set: what came of it stands
        between the two. So with each round every chain goes one step: from action to intent, from
        the intent of an effect to what follows from it, from intent to action. Depth grows with
        every third round at least: what is below is others'.
        """
        rounds = len(goals)
        return await self.event_log.follow_ups_between(
            goals[-2], goals[-1], action_depth=rounds // 3, intent_depth=(rounds - 1) // 3
        )

    # -- runs --------------------------------------------------------------------------------------

    async def run(
        self,
        contract: str | RunContract | Mapping[str, Any] | Path,
        input: Mapping[str, Any],  # noqa: A002 - the contract's word
        *,
        workflow_id: str | None = None,
        timeout: float = RUN_TIMEOUT_S,  # noqa: ASYNC109 - the run goes on then
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> RunOutcome:
        """Start a run of `contract`, wait for its end, and return how it ended.

        `contract` is the name of a declared workflow, a file, or a contract. The run is the key
        `run:<workflow_id>`; without an id it gets a new one. It is durable and needs nobody to wait
        for it: asked again with the same id, contract and input, it is the same run. `epoch` (the
        first) and `lease_id` (this bridge's own) say which orchestrator speaks: see `take_over`.

        Raises:
            RunUnknown: it has not ended within `timeout` seconds. It goes on.
            GaveUp: it was not started: the input lacks something, or a run of this id was started
                with another contract or input.
            ContractError: the contract cannot work.
        """
        found = self._contract(contract)
        name = str(uuid4()) if workflow_id is None else workflow_id
        first = FIRST_EPOCH if epoch is None else epoch
        return await self._runs.run(found, input, name, timeout, first, lease_id)

    async def run_outcome(self, workflow_id: str) -> RunOutcome | None:
        """Return how far a run is, or how it ended; None: never started."""
        return await self._runs.outcome(workflow_id)

    async def runs(
        self, *, tag: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[ModelWorkflowProjection]:
        """Return a page of runs in the order of their keys; `tag` is their status.

        `after` is the workflow id of the last run of the page before.
        """
        above = None if after is None else run_key(after)
        return await self.projection_store.list_runs(tag=tag, after=above, limit=limit)

    async def take_over(self, workflow_id: str, *, lease_id: UUID | None = None) -> int:
        """Become the orchestrator of a run: raise its epoch, and return it.

        What an earlier orchestrator still says of the run is given up as `stale_epoch`.

        Raises:
            GaveUp: there is no such run, it is over, or another took it over at this moment.
        """
        return await self._runs.take_over(workflow_id, lease_id)

    async def cancel_run(
        self,
        workflow_id: str,
        reason: str = "",
        *,
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> Outcome:
        """Ask for nothing more in a run, and undo what committed; return the outcome of the wish.

        An orchestrator says its `epoch` and `lease_id`; a person needs none.
        """
        return await self._runs.cancel(workflow_id, reason, epoch, lease_id)

    def _contract(self, contract: str | RunContract | Mapping[str, Any] | Path) -> RunContract:
        if not isinstance(contract, str):
            return App("a run").workflow(contract)
        found = self.app.workflows().get(contract)
        if found is None:
            known = ", ".join(sorted(self.app.workflows())) or "none"
            message = f"no workflow {contract!r} is declared (declared: {known})"
            raise ConfigurationError(message)
        return found

    # -- looking -----------------------------------------------------------------------------------

    async def read(
        self, key: str, *, required_version: int | None = None, max_wait_ms: float = 100
    ) -> ModelWorkflowProjection | None:
        """Return the projection of `key`, at `required_version` or above (R8); None: never seen.

        Raises:
            VersionNotReached: nothing has committed that version.
        """
        return await self.projection_store.get_state(key, required_version, max_wait_ms)

    async def state(self, key: str) -> ModelWorkflowState | None:
        """Return the canonical state of `key`; None: never seen."""
        return await self.canonical_store.get_state(key)

    async def list(
        self,
        *,
        namespace: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[ModelWorkflowProjection]:
        """Return a page of projections in the order of their keys, those above `after`."""
        return await self.projection_store.list(
            namespace=namespace, tag=tag, after=after, limit=limit
        )

    async def history(
        self, key: str, *, after: int = 0, limit: int = 1_000
    ) -> Sequence[dict[str, Any]]:
        """Return up to `limit` versions of `key` above `after`: action, hashes, commit time."""
        return await self.event_log.history(key, after, limit)

    async def explain(self, action_id: UUID) -> Sequence[dict[str, Any]]:
        """Return what became of an action: outcome, version, intents; one object a key."""
        found = await self.event_log.explain(action_id)
        if any(line["intents"] for line in found):
            ends = await EffectStoreService(self._database, self._codec).of_action(action_id)
            for line in found:
                for intent in line["intents"]:
                    intent["effects"] = ends.get(intent["intent_id"], [])
        return found

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        after: ModelDeadLetter | None = None,
        limit: int = 100,
    ) -> Sequence[ModelDeadLetter]:
        """Return a page of dead letters behind `after`: given-up actions, then dead effects.

        Without a `reason`: what is broken (`reducer_error`, `invalid`, and dead effects).
        """
        return await self._dead_letters.list(reason=reason, after=after, limit=limit)

    async def dead_letter(self, letter_id: UUID) -> Sequence[ModelDeadLetter]:
        """Return the dead letters of an action id (one a key) or of an intent's id."""
        return await self._dead_letters.find(letter_id)

    async def redrive(self, letter: ModelDeadLetter) -> bool:
        """Put a dead letter back, durably; return whether that was to be done.

        An action is applied under its own id: the commit replaces the give-up that is remembered,
        so twice redriven is once applied. An effect is tried again from its first attempt on. A
        bridge that only reads may do this; whoever runs the reducers and handlers does the rest.

        Raises:
            ConfigurationError: the payload of an action was not kept.
        """
        if letter.kind == "effect":
            return await self._dead_letters.redrive_effect(letter)
        action = self._dead_letters.redriven_action(letter)
        if self._host is not None and not self._closed:
            await self._host.enqueue(action)
        else:
            await ActionLogService(self._database, self._codec).append(letter.partition, [action])
        return True

    async def verify(
        self, progress: Callable[[Verification], None] = lambda _: None
    ) -> Verification:
        """Fold the whole history again and compare hashes, chains, states, projections (R14)."""
        ours = {(each.name, each.version): each for each in OUR_KEY_TYPES.values()}
        versions = self.app.every_version() | ours
        verifier = VerifierService(self._database, self._codec, versions)
        return await verifier.verify(progress)

    async def rebuild_projection(self) -> int:
        """Build the projection anew from the log while reads go on (R7); return its rows."""
        return await ProjectionRebuildService(self._database).rebuild()

    @property
    def nodes(self) -> Nodes:
        """The doors; BridgeClosed when the bridge is closed, or was opened for reading."""
        self._writing()
        assert self._nodes is not None
        return self._nodes

    # -- inside ------------------------------------------------------------------------------------

    def observe(self, observe: Observe) -> None:
        """Tell `observe` every fact from now on."""
        self._observers.append(observe)

    def _observed(self, observation: Observation) -> None:
        for observe in self._observers:
            try:
                observe(observation)
            except Exception:
                # Who looks on must not stop what it looks at.
                LOGGER.exception("an observer failed on %r", observation)

    def _writing(self) -> PartitionHost:
        if self._host is None or self._closed:
            what = "is closed" if self._closed else "was opened for reading only"
            message = f"the bridge {what}: it takes no actions"
            raise BridgeClosed(message)
        return self._host

    async def _hand_over(
        self,
        sealed: Iterable[SealedAction],
        timeout: float | None = None,  # noqa: ASYNC109 - as submit
    ) -> Sequence[asyncio.Future[Outcome]]:
        host = self._writing()
        futures: list[asyncio.Future[Outcome]] = []
        for action in sealed:
            future = host.submit_now(action)
            if future is None:
                try:
                    async with asyncio.timeout(timeout):
                        future = await host.submit(action)
                except TimeoutError as error:
                    raise OutcomeUnknown(
                        action.workflow_key, action.action_id, timeout or 0
                    ) from error
            futures.append(future)
        return futures

    def _seal_handed(self, handed: Handed, remember_for: timedelta | None) -> SealedAction:
        if not isinstance(handed, Action):
            return self._seal(*handed, remember_for=remember_for)
        return self._seal(
            handed.workflow_key,
            handed.type,
            handed.payload,
            action_id=handed.action_id,
            remember_for=remember_for,
            occurred_at=handed.occurred_at,
            epoch=handed.epoch,
            lease_id=handed.lease_id,
            correlation_id=handed.correlation_id,
            causation_id=handed.causation_id,
            reply_to=handed.reply_to,
        )

    def _seal(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        occurred_at: datetime | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> SealedAction:
        """Check everything about an action that can be checked before it is stored."""
        check_workflow_key(key)
        check_action_type(type)
        if key_type_of(key) not in self._key_types:
            known = ", ".join(sorted(self._key_types)) or "none"
            detail = f"no reducer is declared for {key_type_of(key)!r} (declared: {known})"
            raise InvalidAction("workflow_key", detail)
        if not isinstance(payload, Mapping):
            raise InvalidAction("payload", f"must be a JSON object, not {payload.__class__}")
        try:
            sealed = self._codec.encode(payload if isinstance(payload, dict) else dict(payload))
        except ValueError as error:
            raise InvalidAction("payload", str(error)) from error
        if len(sealed) > PAYLOAD_BYTES_MAX:
            detail = f"has {len(sealed)} bytes; {PAYLOAD_BYTES_MAX} are allowed"
            raise InvalidAction("payload", detail)
        if reply_to is not None:
            check_reply_to(reply_to)
        return SealedAction(
            _new_action_id() if action_id is None else check_id("action_id", action_id),
            key,
            type,
            sealed,
            _now() if occurred_at is None else check_time("occurred_at", occurred_at),
            None if epoch is None else check_count("epoch", epoch),
            None if lease_id is None else check_id("lease_id", lease_id),
            None if correlation_id is None else check_id("correlation_id", correlation_id),
            None if causation_id is None else check_id("causation_id", causation_id),
            0,
            reply_to,
            None if expected_version is None else check_count("expected_version", expected_version),
            None if remember_for is None else check_remember_for(remember_for),
            "apply",
            None if due_at is None else check_time("due_at", due_at),
        )


def default_data_dir() -> Path:
    """Return where the embedded database of this user lives unless they say otherwise."""
    return Path(platformdirs.user_data_path("omninode-bridge"))


def _new_action_id() -> UUID:
    return time_ordered_id(time.time_ns() // 1_000_000, secrets.randbits(74))


def _expire(future: asyncio.Future[Outcome], action: SealedAction, waited_s: float) -> None:
    if not future.done():
        future.set_exception(OutcomeUnknown(action.workflow_key, action.action_id, waited_s))


def _now() -> datetime:
    return datetime.now(UTC)


def _redis_hints(url: str) -> Callable[[Observe], RedisHints]:
    """Return what makes hints of the Redis at `url`, having found out that it can."""
    try:
        check_redis_url(url)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        from omninode_bridge.infrastructure.redis_hints import RedisHints  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        message = (
            "a Redis is named, but the package that speaks to it is missing:"
            " pip install omninode-bridge[redis]"
        )
        raise ConfigurationError(message) from error
    return lambda observe: RedisHints(url, observe=observe)


async def _require_migrated(connect: Mapping[str, Any]) -> None:
    pending = [m.name for m in await migrations.status(connect) if not m.applied]
    if pending:
        message = (
            f"the database lacks {', '.join(pending)}: run `omninode-bridge migrate up"
            " --database-url ...` first"
        )
        raise ConfigurationError(message)


async def _require_read_committed(database: Database) -> None:
    level = await EventLogService(database).default_isolation()
    if level != "read committed":
        message = (
            f"statements run at {level!r} here, and commits rest on 'read committed': change it for"
            " the role that connects (ALTER ROLE ... SET default_transaction_isolation = ...)"
        )
        raise ConfigurationError(message)


async def _create_partitions(database: Database, asked: int | None) -> int:
    wanted = PARTITIONS if asked is None else asked
    if not 1 <= wanted <= PARTITIONS_MAX:
        message = f"a database has 1 to {PARTITIONS_MAX} partitions, not {wanted}"
        raise ConfigurationError(message)
    actual = await EventLogService(database).create_partitions(wanted)
    if asked not in (None, actual):
        message = (
            f"this database was created with {actual} partitions, not {asked}: the number decides"
            " which partition a key belongs to, and stays"
        )
        raise ConfigurationError(message)
    return actual
