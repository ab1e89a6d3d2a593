"""Reducers that commit nothing: a store effect elsewhere does, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.errors import (
    BusRefused,
    BusUnavailable,
    CommitTooLarge,
    StoreEffectSilent,
    ValueRefused,
)
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted
from omninode_bridge.core.observation import (
    CommitRefused,
    CommitsPersisted,
    FollowingChanged,
    LoopStumbled,
    Observation,
)
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.core.roles import ROLES, read_roles
from omninode_bridge.host import PartitionHost
from omninode_bridge.services.persist_over_bus import PersistOverBus
from omninode_bridge.testing import MemoryWorld, SettableClock
from omninode_bridge.testing.bus import MemoryBus, MemoryPersistBus
from tests.bridges import until
from tests.hosts import bus_of, hosted
from tests.unit.workers import NewIds, action

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Commit
    from omninode_bridge.core.message import Outcome, SealedAction

PARTITIONS: Final = 2
LEASE: Final = timedelta(milliseconds=200)
KEYS: Final = ["counter:1", "counter:2", "counter:3", "counter:5"]
ANSWER_WAIT_S: Final = 0.2


class Hosts(AsyncExitStack):
    """Hosts on one world: reducers that send commits by the bus, and store effects."""

    def __init__(self) -> None:
        super().__init__()
        self.world = MemoryWorld(clock=SettableClock(), partitions=PARTITIONS, lease=LEASE)
        self.persisting = MemoryPersistBus()
        self.seen: dict[str, list[Observation]] = {}
        self._bus = MemoryBus()

    def new(self, name: str, roles: str, *, over_bus: bool = False) -> PartitionHost:
        """Return a host that has not begun."""
        seen = self.seen.setdefault(name, [])
        others: dict[str, Any] = {
            "new_id": NewIds(1_000_000 * (1 + len(self.seen))),
            "roles": read_roles(roles.split(",")),
            "lease": LEASE,
            "observe": seen.append,
            "committing": self.world.store if over_bus else None,
            "bus": bus_of(self._bus, self.world, self.persisting),
        }
        host = hosted(self.world, **others)
        if over_bus:
            store = PersistOverBus(
                host.store, host.outcomes, self.persisting, answer_wait_s=ANSWER_WAIT_S
            )
            host = replace(host, store=store)
        return PartitionHost(host)

    async def start(self) -> PartitionHost:
        """Start a reducer and a store effect; return the reducer, when the other has begun."""
        reducer = await self.enter_async_context(self.new("reducer", "reducer", over_bus=True))
        await self.enter_async_context(self.new("store effect", "store-effect"))
        await until(lambda: self.committing("store effect") == {0, 1}, "the store effect")
        return reducer

    def committing(self, name: str) -> set[int]:
        """Return for which partitions a host commits."""
        now: set[int] = set()
        for each in self.seen[name]:
            if isinstance(each, FollowingChanged) and each.role == "store-effect":
                (now.add if each.change == "begun" else now.discard)(each.partition)
        return now

    def commits_all(self, name: str) -> bool:
        """Return whether a host commits for all partitions."""
        return self.committing(name) == set(range(PARTITIONS))

    def told(self, name: str, kind: type[Any]) -> list[Any]:
        """Return the facts of one kind that a host has told."""
        return [each for each in self.seen[name] if isinstance(each, kind)]

    def all_looked_at(self) -> bool:
        """Return whether the store effect has seen all that was sent."""
        sent = sum(len(commits) for commits in self.persisting.sent.values())
        return len(self.told("store effect", CommitsPersisted)) == sent

    def silences(self) -> int:
        """Return how often the reducer has heard of no answer."""
        stumbles = self.told("reducer", LoopStumbled)
        return sum(isinstance(each.error, StoreEffectSilent) for each in stumbles)


async def outcomes(host: PartitionHost, *actions: SealedAction) -> list[Outcome]:
    futures = [await host.submit(each) for each in actions]
    async with asyncio.timeout(20):
        return await asyncio.gather(*futures)


async def versions(hosts: Hosts) -> list[int]:
    found = await hosts.world.store.read(KEYS)
    return [found[key].version for key in KEYS]


async def test_what_a_reducer_folds_is_committed_elsewhere_and_answered() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        told = await outcomes(reducer, *(action(key) for key in KEYS), action(KEYS[0], "Refused"))
        assert [type(each) for each in told] == [StateCommitted] * 4 + [ReducerGaveUp]
        (told_again,) = await outcomes(reducer, action(KEYS[0]))
        assert told_again.committed().version == 2
    assert await versions(hosts) == [2, 1, 1, 1]
    persisted = hosts.told("store effect", CommitsPersisted)
    assert sum(each.actions for each in persisted) == 6
    assert {each.accepted for each in persisted} == {True}
    assert {each.partition for each in persisted} == {0, 1}
    sent = [commit for commits in hosts.persisting.sent.values() for commit in commits]
    assert all(each.owner is not None for each in sent)


@pytest.mark.parametrize("lost", ["commits_lost", "answers_lost"])
async def test_what_gets_lost_is_unknown_and_looked_for(lost: str) -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        setattr(hosts.persisting, lost, 1)
        asked = action(KEYS[0])
        (told,) = await outcomes(reducer, asked)
        assert told.committed().version == 1
        # By the log it moves a position, too; a lost answer makes that look as if others had.
        setattr(hosts.persisting, lost, 1)
        await reducer.enqueue(action(KEYS[0]))
        await until(lambda: hosts.world._tables.states[KEYS[0]].version == 2, "by the log")
        (told,) = await outcomes(reducer, action(KEYS[0]))
        assert told.committed().version == 3
    assert hosts.silences() >= 2


async def test_a_commit_that_comes_late_is_refused_or_ours() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.enter_async_context(hosts.new("reducer", "reducer", over_bus=True))
        asked = [action(key) for key in KEYS]
        # What comes by the log moves a position: done late, it looks as if others had moved it.
        await reducer.enqueue(action(KEYS[0]))
        await until(lambda: hosts.silences() >= 2, "sent again and again")
        futures = [await reducer.submit(each) for each in asked]
        await until(lambda: hosts.silences() >= 5, "sent again and again")
        await hosts.enter_async_context(hosts.new("store effect", "store-effect"))
        async with asyncio.timeout(20):
            told = await asyncio.gather(*futures)
        assert [each.committed().version for each in told] == [2, 1, 1, 1]
        # All that was sent before is looked at; none of it does anything twice.
        await until(hosts.all_looked_at, "all looked at")
        (again,) = await outcomes(reducer, asked[0])
        assert (again.committed().version, again.duplicate) == (2, True)
    assert await versions(hosts) == [2, 1, 1, 1]
    assert [each for each in hosts.told("reducer", CommitRefused) if each.moved] == []


async def test_two_store_effects_for_one_partition_do_it_once() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        # One that does not know of the other: it does everything, too.
        stray = hosts.new("stray", "store-effect")
        for partition in range(PARTITIONS):
            stray._apart._begin(partition, "store-effect")
        for _ in range(20):
            told = await outcomes(reducer, *(action(key) for key in KEYS))
            assert all(isinstance(each, StateCommitted) for each in told)
        await stray._apart.end()
    assert await versions(hosts) == [20] * 4
    accepted = [
        each.accepted
        for name in ("store effect", "stray")
        for each in hosts.told(name, CommitsPersisted)
    ]
    assert False in accepted, "nobody did anything twice: no test"


async def test_one_store_effect_takes_over_from_another() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.enter_async_context(hosts.new("reducer", "reducer", over_bus=True))
        for name in ("first", "second", "third"):
            async with hosts.new(name, "store-effect"):
                await until(partial(hosts.commits_all, name), name)
                await outcomes(reducer, *(action(key) for key in KEYS))
    assert await versions(hosts) == [3] * 4
    assert hosts.silences() == 0


async def test_what_was_decided_by_another_is_told_again() -> None:
    async with Hosts() as hosts:
        asked = action(KEYS[0])
        async with hosts.new("before", "reducer") as before:
            await outcomes(before, asked)
        reducer = await hosts.start()
        (told,) = await outcomes(reducer, asked)
        assert (told.committed().version, told.duplicate) == (1, True)
        refusals = hosts.told("store effect", CommitsPersisted)
        assert [each.accepted for each in refusals] == [False]
    assert await hosts.world.store.read([KEYS[1]]) == {}


async def test_what_the_database_refuses_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        commit = hosts.world.store.commit

        async def picky(each: Commit) -> Any:  # noqa: ANN401
            if any(
                isinstance(s, Absorbed) and s.action.workflow_key == KEYS[0] for s in each.steps
            ):
                raise ValueRefused("22P05", "not in this house")
            return await commit(each)

        monkeypatch.setattr(hosts.world.store, "commit", picky)
        refused, *others = await outcomes(reducer, *(action(key) for key in KEYS))
        assert isinstance(refused, ReducerGaveUp)
        assert (refused.reason, "not in this house" in refused.detail) == ("invalid", True)
        assert [each.committed().version for each in others] == [1, 1, 1]


async def test_where_nobody_sends_commits_nobody_waits_for_them() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.enter_async_context(hosts.new("reducer", "reducer"))
        await hosts.enter_async_context(hosts.new("store effect", "store-effect"))
        await outcomes(reducer, *(action(key) for key in KEYS))
        await asyncio.sleep(LEASE.total_seconds())
    assert hosts.committing("store effect") == set()
    assert not hosts.told("store effect", CommitsPersisted)


async def test_a_bus_that_is_away_is_unknown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        asks, ask = 0, hosts.persisting.ask

        async def away(commit: Commit, wait_s: float) -> Any:  # noqa: ANN401
            nonlocal asks
            asks += 1
            if asks <= 2:
                raise BusUnavailable("away")
            return await ask(commit, wait_s)

        monkeypatch.setattr(hosts.persisting, "ask", away)
        (told,) = await outcomes(reducer, action(KEYS[0]))
        assert told.committed().version == 1
    assert hosts.silences() == 2


async def test_who_lost_the_partition_has_nothing_committed() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        partition = partition_of(KEYS[0], PARTITIONS)
        hosts.world._tables.partition(partition).lease = None
        assert await hosts.world.leases.acquire(UUID(int=7), "a rival", LEASE, [partition])
        future = await reducer.submit(action(KEYS[0]))
        await until(lambda: bool(hosts.told("reducer", CommitRefused)), "refused")
        assert hosts.told("reducer", CommitRefused)[0].not_owner
        assert KEYS[0] not in hosts.world._tables.states
        await hosts.world.leases.release(UUID(int=7))
        async with asyncio.timeout(20):
            assert (await future).committed().version == 1


async def test_one_process_that_does_all_over_the_bus_answers_what_it_had_taken() -> None:
    async with Hosts() as hosts:
        host = hosts.new("all", ",".join(ROLES), over_bus=True)
        await host.__aenter__()
        await until(partial(hosts.commits_all, "all"), "the store effect")
        futures = [await host.submit(action(KEYS[n % 4])) for n in range(2_000)]
        await host.__aexit__()
        assert sum(future.result().committed().version >= 1 for future in futures) == 2_000


async def test_a_batch_that_is_too_large_for_a_message_goes_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        ask = hosts.persisting.ask

        async def small(commit: Commit, wait_s: float) -> Any:  # noqa: ANN401
            huge = any(isinstance(s, Absorbed) and s.action.type == "Passed" for s in commit.steps)
            if len(commit.steps) > 3 or huge:
                raise CommitTooLarge(50_000_000, 48_000_000)
            return await ask(commit, wait_s)

        monkeypatch.setattr(hosts.persisting, "ask", small)
        asked = [action(KEYS[0]) for _ in range(10)]
        *told, huge = await outcomes(reducer, *asked, action(KEYS[0], "Passed"))
        assert [each.committed().version for each in told] == list(range(1, 11))
        assert isinstance(huge, ReducerGaveUp)
        assert (huge.reason, "48000000 are allowed" in huge.detail) == ("invalid", True)


async def test_what_the_bus_refuses_for_another_reason_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        ask, refused = hosts.persisting.ask, 0

        async def forbidding(commit: Commit, wait_s: float) -> Any:  # noqa: ANN401
            nonlocal refused
            refused += 1
            if refused <= 2:
                raise BusRefused("sending", "TOPIC_AUTHORIZATION_FAILED", "not you")
            return await ask(commit, wait_s)

        monkeypatch.setattr(hosts.persisting, "ask", forbidding)
        (told,) = await outcomes(reducer, action(KEYS[0]))
        assert told.committed().version == 1
    assert hosts.silences() == 2


async def test_a_position_beyond_the_topics_end_is_begun_anew() -> None:
    async with Hosts() as hosts:
        for partition in range(PARTITIONS):
            await hosts.world.command_positions.position(partition, "memory", 0)
            await hosts.world.command_positions.advance(partition, "memory", 1_000)
        reducer = await hosts.start()
        told = await outcomes(reducer, *(action(key) for key in KEYS))
        assert [each.committed().version for each in told] == [1] * 4
    for partition in range(PARTITIONS):
        stored = await hosts.world.command_positions.position(partition, "memory", 0)
        assert stored == len(hosts.persisting.sent[partition])


async def test_a_commit_for_what_there_is_not_stops_nobody() -> None:
    async with Hosts() as hosts:
        reducer = await hosts.start()
        await outcomes(reducer, action(KEYS[0]))
        partition = partition_of(KEYS[0], PARTITIONS)
        (sent,) = hosts.persisting.sent[partition]
        hosts.persisting.sent[partition].append(replace(sent, partition=99))
        (told,) = await outcomes(reducer, action(KEYS[0]))
        assert told.committed().version == 2
