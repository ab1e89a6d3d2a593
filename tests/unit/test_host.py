"""Hosts on the world in memory: who owns what, and every asker answered by the id it asked with."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.commit import id_reused
from omninode_bridge.core.errors import (
    BridgeClosed,
    OutcomeNotAwaited,
    OutcomeUnknown,
)
from omninode_bridge.core.message import Outcome, ReducerGaveUp, StateCommitted
from omninode_bridge.core.observation import (
    AnotherAppServes,
    LoopStumbled,
    Observation,
    OwnershipChanged,
)
from omninode_bridge.core.partition import partition_of
from omninode_bridge.host import Answers, PartitionHost, log_door, partition_host
from omninode_bridge.host import World as Hosted
from omninode_bridge.host.log_door import LogDoor
from omninode_bridge.ports import Wake
from omninode_bridge.services import direct_path, reducer_service
from omninode_bridge.services.direct_path import DirectPath
from omninode_bridge.services.reducer_service import ReducerService
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import until
from tests.hosts import hosted as hosted_on
from tests.unit.workers import NewIds, action, some_turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from omninode_bridge.core.commit import ActionName, Remembered
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.testing.interruptions import When

PARTITIONS: Final = 3
KEYS: Final = [f"counter:{n}" for n in range(9)]
LEASE: Final = timedelta(milliseconds=40)
NAME: Final = ("counter:1", UUID(int=1))
either_path = pytest.mark.parametrize("pure_reducer", [True, False], ids=["worker", "direct"])


def new_world() -> MemoryWorld:
    """Return a world whose clock stands still: no lease runs out unless a test wants it to."""
    return MemoryWorld(clock=SettableClock(), partitions=PARTITIONS, lease=LEASE)


def hosted(
    world: MemoryWorld,
    seen: list[Observation] | None = None,
    ids: NewIds | None = None,
    *,
    pure_reducer: bool = True,
) -> Hosted:
    """Return what a host on `world` needs of it."""
    return hosted_on(
        world,
        lease=LEASE,
        new_id=ids or NewIds(),
        observe=(lambda _: None) if seen is None else seen.append,
        pure_reducer=pure_reducer,
    )


@asynccontextmanager
async def hosting(
    world: MemoryWorld,
    seen: list[Observation] | None = None,
    ids: NewIds | None = None,
    *,
    pure_reducer: bool = True,
) -> AsyncIterator[PartitionHost]:
    """Run a host for the length of the block."""
    async with PartitionHost(hosted(world, seen, ids, pure_reducer=pure_reducer)) as host:
        yield host


async def outcomes(host: PartitionHost, *actions: SealedAction) -> list[Outcome]:
    """Submit `actions` and wait for what became of them."""
    futures = [await host.submit(one) for one in actions]
    async with asyncio.timeout(20):
        return await asyncio.gather(*futures)


def taken(seen: list[Observation]) -> list[int]:
    """Return the partitions that were taken."""
    return [o.partition for o in seen if isinstance(o, OwnershipChanged) and o.change == "taken"]


@either_path
async def test_one_host_owns_all_partitions_and_lets_them_go(*, pure_reducer: bool) -> None:
    world = new_world()
    seen: list[Observation] = []
    async with hosting(world, seen, pure_reducer=pure_reducer) as host:
        assert sorted(taken(seen)) == [0, 1, 2]
        told = await outcomes(host, *(action(key) for key in KEYS))
        assert [outcome.committed().version for outcome in told] == [1] * 9
    assert await world.leases.acquire(UUID(int=7), "another", LEASE, range(3)) == [0, 1, 2]


async def test_a_host_runs_the_worker_it_was_told_to() -> None:
    world = new_world()
    async with hosting(world) as host:
        assert {type(worker) for worker in host._workers.values()} == {ReducerService}
    async with hosting(world, pure_reducer=False) as host:
        assert {type(worker) for worker in host._workers.values()} == {DirectPath}


async def test_what_is_asked_of_a_host_that_owns_nothing_is_decided_by_the_owner() -> None:
    world = new_world()
    async with hosting(world), hosting(world, ids=NewIds(500_000)) as guest:
        told = await outcomes(guest, *(action(key) for key in KEYS), action(KEYS[0], "Refused"))
        assert [type(outcome) for outcome in told] == [StateCommitted] * 9 + [ReducerGaveUp]
        assert [outcome.workflow_key for outcome in told] == [*KEYS, KEYS[0]]


@either_path
async def test_a_chain_of_follow_ups_goes_through_all_partitions(*, pure_reducer: bool) -> None:
    world = new_world()
    async with hosting(world, pure_reducer=pure_reducer) as host:
        await outcomes(host, action("counter:source", payload={"passes_on_to": KEYS}))
        await until(lambda: len(world._tables.states) == 10, "all follow-ups")
    states = await world.store.read(KEYS)
    assert {snapshot.version for snapshot in states.values()} == {1}
    assert {partition_of(key, PARTITIONS) for key in KEYS} == {0, 1, 2}
    for key in KEYS:
        assert world.projection(key) is not None, "a host that closes has projected everything"


@either_path
async def test_what_the_loser_was_asked_goes_through_the_log_under_its_id(
    *, pure_reducer: bool
) -> None:
    world = new_world()
    rival = UUID(int=7)
    async with hosting(world, pure_reducer=pure_reducer) as host:
        await outcomes(host, *(action(key) for key in KEYS))
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        assert await world.leases.acquire(rival, "a rival", LEASE, range(3)) == [0, 1, 2]
        asked = [action(key) for key in KEYS]
        futures = [await host.submit(one) for one in asked]
        await until(
            lambda: sum(partition.actions.head - 1 for partition in world._tables) == 9,
            "the leftovers to be in the log",
        )
        assert not any(future.done() for future in futures)
        await world.leases.release(rival)
        async with asyncio.timeout(20):
            told = await asyncio.gather(*futures)
        assert [outcome.action_id for outcome in told] == [one.action_id for one in asked]
        assert [outcome.version for outcome in told] == [2] * 9
        assert not any(outcome.duplicate for outcome in told)


@either_path
async def test_order_is_kept_while_the_partition_changes_hands(*, pure_reducer: bool) -> None:  # R5
    world = new_world()
    rival = UUID(int=7)
    asked = [action("counter:1", payload={"amount": n}) for n in range(600)]
    futures = []
    async with hosting(world, pure_reducer=pure_reducer) as host:
        for number, one in enumerate(asked):
            futures.append(host.submit_now(one) or await host.submit(one))
            if number == 200:  # in the middle of a batch, with more in the inbox
                world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
                await world.leases.acquire(rival, "a rival", LEASE, range(3))
            if number == 400:  # it comes back, and reads its log late
                world.interrupt("actions.read", when="before", times=2)
                await world.leases.release(rival)
                await until(lambda: len(host._workers) == PARTITIONS, "the partitions to be back")
            await asyncio.sleep(0)  # in each turn of the loop somebody asks
        async with asyncio.timeout(20):
            told = await asyncio.gather(*futures)
    assert [outcome.version for outcome in told] == list(range(1, 601))


@either_path
async def test_order_is_kept_while_a_partition_is_let_go_and_taken_again(
    *, pure_reducer: bool
) -> None:  # R5
    world = new_world()
    key = next(key for key in KEYS if partition_of(key, PARTITIONS) == 2)  # goes to who joins
    futures = []
    async with hosting(world, pure_reducer=pure_reducer) as host, AsyncExitStack() as joined:
        for number in range(600):
            one = action(key, payload={"amount": number})
            futures.append(host.submit_now(one) or await host.submit(one))
            if number == 200:
                ids = NewIds(500_000)
                await joined.enter_async_context(hosting(world, ids=ids, pure_reducer=pure_reducer))
            if number == 300:
                await until(lambda: len(host._workers) == 2, "one partition to be let go")
            if number == 450:
                await joined.aclose()
            await asyncio.sleep(0)  # in each turn of the loop somebody asks
        async with asyncio.timeout(20):
            told = await asyncio.gather(*futures)
        await until(lambda: len(host._workers) == PARTITIONS, "the partition to be back")
    assert [outcome.version for outcome in told] == list(range(1, 601))


async def test_what_is_submitted_while_a_worker_lets_go_is_held_behind_what_it_has() -> None:  # R5
    world = new_world()
    async with hosting(world) as host:
        partition = partition_of("counter:1", PARTITIONS)
        world.interrupt("store.commit", when="before", times=2)  # it takes its time to end
        first = await host.submit(action("counter:1"))
        host._workers[partition].stop()
        later = [await host.submit(action("counter:1")) for _ in range(3)]
        assert not any(future.done() for future in (first, *later))
        async with asyncio.timeout(20):
            told = await asyncio.gather(first, *later)
    assert [outcome.version for outcome in told] == [1, 2, 3, 4]


async def test_what_is_held_goes_behind_what_a_worker_leaves_that_loses_while_it_lets_go() -> None:
    world = new_world()  # R5
    rival = UUID(int=7)
    async with hosting(world) as host:
        first = await host.submit(action("counter:1"))
        host._workers[partition_of("counter:1", PARTITIONS)].stop()
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        await world.leases.acquire(rival, "a rival", LEASE, range(3))
        held = [await host.submit(action("counter:1")) for _ in range(3)]
        await until(
            lambda: sum(partition.actions.head - 1 for partition in world._tables) == 4,
            "what is left and what is held to be in the log",
        )
        await world.leases.release(rival)
        async with asyncio.timeout(20):
            told = await asyncio.gather(first, *held)
    assert [outcome.version for outcome in told] == [1, 2, 3, 4]


async def test_who_does_not_get_to_the_start_leaves_nothing_running() -> None:
    world = new_world()
    other = replace(hosted(world, ids=NewIds(500_000)), effect_types={}, key_types={})
    seen: list[Observation] = []
    async with hosting(world) as host:
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), PartitionHost(replace(other, observe=seen.append)):
                pytest.fail("it served beside another app")
        assert asyncio.all_tasks() <= before
        assert [type(fact) for fact in seen] == [AnotherAppServes]
        assert len(host._workers) == PARTITIONS
        assert len(await outcomes(host, *(action(key) for key in KEYS))) == 9


@either_path
async def test_an_idle_host_finds_out_that_it_has_lost_and_takes_what_is_free_again(
    *, pure_reducer: bool
) -> None:
    world = new_world()
    seen: list[Observation] = []
    rival = UUID(int=7)
    async with hosting(world, seen, pure_reducer=pure_reducer) as host:
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        await world.leases.acquire(rival, "a rival", LEASE, range(3))
        await until(lambda: not host._workers, "the host to find out")
        lost = [o.partition for o in seen if isinstance(o, OwnershipChanged) and o.change == "lost"]
        assert sorted(lost) == [0, 1, 2]
        await world.leases.release(rival)
        await until(lambda: len(host._workers) == PARTITIONS, "the partitions to be back")


async def test_a_lease_is_renewed_though_the_renewal_of_another_waits() -> None:
    world = new_world()
    async with hosting(world) as host, world.store.locked(0):
        before = world.clock() + LEASE
        world.clock.advance(LEASE / 2)  # type: ignore[attr-defined]

        def renewed() -> bool:
            leases = [partition.lease for partition in world._tables]
            return [lease is not None and lease.until > before for lease in leases[1:]] == [
                True
            ] * 2

        await until(renewed, "the other two to be renewed")
        assert len(host._workers) == PARTITIONS


@either_path
async def test_askers_elsewhere_and_owners_elsewhere_are_woken(
    monkeypatch: pytest.MonkeyPatch, *, pure_reducer: bool
) -> None:
    for module, name in (
        (reducer_service, "POLL_S"),
        (direct_path, "POLL_S"),
        (log_door, "WATCH_S"),
    ):
        monkeypatch.setattr(module, name, 3_600)
    world = new_world()
    heard: list[Wake] = []
    async with hosting(world, pure_reducer=pure_reducer) as host:
        listening = asyncio.create_task(world.wakes.hear(heard.append))
        assert len(await outcomes(host, *(action(key) for key in KEYS))) == 9
        ids = NewIds(500_000)
        async with hosting(world, ids=ids, pure_reducer=pure_reducer) as guest:
            assert heard == [], "who is alone tells nobody"
            await until(lambda: len(guest._workers) == 1, "the guest to have its share")
            for each in (host, guest):
                for key in KEYS:
                    await outcomes(each, action(key))
        assert {wake.of for wake in heard} == {"action", "outcome"}
        listening.cancel()


async def test_follow_up_actions_wake_their_owner_and_no_asker() -> None:
    world = new_world()
    heard: list[Wake] = []
    async with hosting(world) as host, hosting(world, ids=NewIds(500_000)) as guest:
        await until(lambda: len(guest._workers) == 1, "the guest to have its share")
        (theirs,) = guest._workers
        ours = next(key for key in KEYS if partition_of(key, PARTITIONS) != theirs)
        targets = [key for key in KEYS if partition_of(key, PARTITIONS) == theirs]
        listening = asyncio.create_task(world.wakes.hear(heard.append))
        await outcomes(host, action(ours, payload={"passes_on_to": targets}))
        await until(lambda: len(world._tables.states) == 1 + len(targets), "the follow-ups")
        listening.cancel()
    assert set(heard) == {Wake("action", theirs)}


async def test_what_was_listened_to_is_listened_to_again_when_it_was_lost() -> None:
    world = new_world()
    seen: list[Observation] = []
    world.interrupt("wakes.hear", when="before", times=2)
    async with hosting(world, seen), hosting(world, seen, NewIds(500_000)):
        await until(lambda: len(world.wakes._listening) == 2, "both to listen")
    stumbles = [fact.loop for fact in seen if isinstance(fact, LoopStumbled)]
    assert stumbles == ["wakes", "wakes"]
    assert world.wakes._listening == []


async def test_what_the_log_refuses_is_told_to_its_asker_and_to_nobody_else() -> None:
    world = new_world()
    async with hosting(world), hosting(world, ids=NewIds(500_000)) as guest:
        bad = replace(action("counter:1"), workflow_key="counter:\0")
        futures = [
            await guest.submit(each) for each in (action("counter:1"), bad, action("counter:1"))
        ]
        async with asyncio.timeout(20):
            first, refused, last = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(first, StateCommitted)
    assert isinstance(refused, Exception)
    assert isinstance(last, StateCommitted)


async def test_the_host_tries_for_as_long_as_the_database_is_away() -> None:
    world = new_world()
    seen: list[Observation] = []
    world.interrupt("leases.acquire", when="before", times=4)
    world.interrupt("actions.position", when="before", times=2)
    world.interrupt("leases.renew", when="before", times=2)
    async with hosting(world, seen) as host:
        assert len(await outcomes(host, *(action(key) for key in KEYS))) == 9
        await until(
            lambda: sum(isinstance(fact, LoopStumbled) for fact in seen) >= 8, "all troubles"
        )
        assert host.failures == []


async def test_a_lost_release_is_no_trouble() -> None:
    world = new_world()
    world.interrupt("leases.release", when="before", times=3)
    async with hosting(world) as host:
        await outcomes(host, action())


@either_path
async def test_what_is_enqueued_is_durable_when_it_returns_and_decided_in_time(
    *, pure_reducer: bool
) -> None:
    world = new_world()
    asked = [action(key) for key in KEYS]
    async with hosting(world, pure_reducer=pure_reducer) as host:
        await asyncio.gather(*(host.enqueue(one) for one in asked))
        assert sum(partition.actions.head - 1 for partition in world._tables) == 9
        await until(lambda: len(world._tables.states) == 9, "all to be decided")


async def test_an_enqueued_action_that_is_refused_costs_its_neighbours_nothing() -> None:
    world = new_world()
    bad = replace(action("counter:1"), workflow_key="counter:\0")
    same = [f"counter:{n}" for n in range(99) if partition_of(f"counter:{n}", PARTITIONS) == 0]
    bad_too = partition_of(bad.workflow_key, PARTITIONS)
    near = [key for key in KEYS if partition_of(key, PARTITIONS) == bad_too] or same
    async with hosting(world) as host:
        asked = [action(near[0]), bad, action(near[0])]
        first, refused, last = await asyncio.gather(
            *(host.enqueue(one) for one in asked), return_exceptions=True
        )
        assert (first, last) == (None, None)
        assert isinstance(refused, Exception)
        await until(lambda: len(world._tables.states) == 1, "its neighbours to be decided")


async def test_an_enqueue_that_hangs_when_the_host_closes_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = new_world()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(partition_host, "STOP_WAIT_S", 0.05)
    async with hosting(world) as host:
        monkeypatch.setattr(world.actions, "append", hang)
        enqueued = asyncio.create_task(host.enqueue(action()))
        await some_turns()
    with pytest.raises(BridgeClosed, match="may or may not be durable"):
        await enqueued


async def test_who_waits_for_what_is_due_later_takes_no_room_of_others() -> None:  # R13
    world = new_world()
    answers = Answers(waiting_max=2, due_max=2)
    door = LogDoor(hosted(world), answers, lambda _: None)
    later = [action(due_at=world.clock() + timedelta(days=1)) for _ in range(3)]
    async with asyncio.timeout(20):
        first, second = [await door.submit_due(one) for one in later[:2]]
        with pytest.raises(OutcomeNotAwaited, match=r"is durable .* 2 wait here") as refused:
            await door.submit_due(later[2])
        assert refused.value.action_id == later[2].action_id
        timers = [one for partition in world._tables for _, _, one in partition.timers]
        assert timers == later, "durable, whether there was room or not"
        others = [await door.submit(action()) for _ in range(2)]
        first.cancel()
        await some_turns()
        again = await door.submit_due(later[2])
        door.close()
        await door.ended(1)
    for future in (second, again, *others):
        assert isinstance(future.exception(), OutcomeUnknown)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_who_sets_a_timer_in_an_outage_waits_for_its_end_like_any_other(when: When) -> None:
    world, seen = new_world(), list[Observation]()
    door = LogDoor(hosted(world, seen), Answers(), lambda _: None)
    one = action(due_at=world.clock() + timedelta(days=1))
    world.interrupt("actions.append", when=when, times=2)
    async with asyncio.timeout(20):
        future = await door.submit_due(one)
    stumbled = [fact.attempt for fact in seen if isinstance(fact, LoopStumbled)]
    assert stumbled == [1, 2]
    timers = [each for partition in world._tables for _, _, each in partition.timers]
    assert timers.count(one) == len(timers) >= 1, "what is there twice is found by its id"
    future.cancel()
    door.close()
    await door.ended(1)


async def test_who_could_not_be_made_durable_waits_no_longer() -> None:
    world = new_world()
    answers = Answers(due_max=1)
    door = LogDoor(hosted(world), answers, lambda _: None)
    one = action(due_at=world.clock() + timedelta(days=1))
    world.interrupt("actions.append", when="before", times=1_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await door.submit_due(one)
    await some_turns()
    assert answers.names() == []
    trying = asyncio.create_task(door.submit_due(one))
    await some_turns()
    door.close()
    with pytest.raises(OutcomeUnknown):
        async with asyncio.timeout(20):
            await trying
    await some_turns()
    assert answers.names() == []
    await door.ended(1)


async def test_a_worker_that_is_back_is_asked_directly_again() -> None:
    world = new_world()
    rival = UUID(int=7)
    stop = asyncio.Event()
    async with hosting(world) as host:
        told: list[Outcome] = []

        async def ask(key: str) -> None:
            while not stop.is_set():
                one = action(key)
                told.append(await (host.submit_now(one) or await host.submit(one)))

        async with asyncio.TaskGroup() as asking:
            for key in KEYS * 5:
                asking.create_task(ask(key))
            await until(lambda: len(told) > 100, "a load")
            world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
            await world.leases.acquire(rival, "a rival", LEASE, range(3))
            await until(lambda: sum(p.actions.head for p in world._tables) > 3, "a detour")
            await world.leases.release(rival)
            await until(lambda: len(host._workers) == PARTITIONS, "the partitions to be back")
            logged, before = sum(p.actions.head for p in world._tables), len(told)
            await until(lambda: len(told) > before + 1_000, "the load to go on")
            assert sum(p.actions.head for p in world._tables) < logged + 200, "past the log"
            stop.set()


async def test_an_enqueue_whose_reply_is_lost_says_so() -> None:
    world = new_world()
    async with hosting(world) as host:
        world.interrupt("actions.append", when="after")
        with pytest.raises(Exception, match="its reply was lost"):
            await host.enqueue(action())
        await until(lambda: len(world._tables.states) == 1, "what was enqueued all the same")


async def test_a_host_that_is_closed_takes_no_more() -> None:
    async with hosting(new_world()) as host:
        pass
    with pytest.raises(BridgeClosed):
        await host.submit(action())
    with pytest.raises(BridgeClosed):
        await host.enqueue(action())


# -- answers by id -----------------------------------------------------------


def outcome_of(one: SealedAction) -> ReducerGaveUp:
    """Return an outcome to answer `one` with."""
    return ReducerGaveUp(one.workflow_key, one.action_id, 1, "rejected", "no", 0)


async def waiting(answers: Answers, one: SealedAction) -> asyncio.Future[Any]:
    """Return the future of somebody who waits for `one`."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await answers.register(one, future)
    return future


async def test_who_waits_for_an_id_is_not_answered_with_another_of_the_same_key() -> None:
    answers = Answers()
    mine, theirs = action(), action()
    one, other, third = [await waiting(answers, each) for each in (mine, theirs, mine)]
    answers.answer(mine, outcome_of(mine))
    assert (one.result(), third.result()) == (outcome_of(mine), outcome_of(mine))
    assert not other.done()
    await some_turns()
    assert answers.names() == [(theirs.workflow_key, theirs.action_id)]
    answers.answer(mine, outcome_of(mine))
    assert not other.done()
    other.cancel()
    await some_turns()
    assert answers.names() == []


async def test_who_asked_something_else_under_the_id_is_told_so() -> None:
    answers = Answers()
    mine = action("counter:1", payload={"amount": 1})
    theirs = action("counter:1", payload={"amount": 2}, action_id=mine.action_id)
    one, other = [await waiting(answers, each) for each in (mine, theirs)]
    answers.answer(mine, outcome_of(mine))
    assert one.result() == outcome_of(mine)
    assert other.result().reason == "id_reused"
    late = await waiting(answers, mine)
    answers.answer(theirs, id_reused(theirs, outcome_of(mine)))
    assert not late.done(), "its own action has the first outcome"
    late.cancel()


async def test_an_id_is_looked_for_when_it_is_due_for_any_of_its_askers() -> None:
    answers = Answers()
    clock = SettableClock()
    at_once = action()
    later = replace(at_once, due_at=clock() + timedelta(hours=1))
    first = await waiting(answers, later)
    assert answers.decidable(clock()) == []
    second = await waiting(answers, at_once)
    assert answers.decidable(clock()) == [(later.workflow_key, later.action_id)]
    second.cancel()
    await some_turns()
    assert answers.decidable(clock()) == []
    assert answers.decidable(clock() + timedelta(hours=1)) == answers.names()
    first.cancel()


class Now(datetime):
    """A time that counts how often it is compared."""

    compared = 0

    def __ge__(self, other: Any) -> bool:  # noqa: ANN401 - as any comparison
        """Compare: `other <= self` comes here."""
        Now.compared += 1
        return super().__ge__(other)


async def test_ten_thousand_who_wait_for_what_is_due_later_cost_no_look_at_each() -> None:
    answers, clock = Answers(), SettableClock()
    futures: list[asyncio.Future[Any]] = []
    for hours in range(10_000, 0, -1):
        futures.append(asyncio.get_running_loop().create_future())
        assert answers.register_due(action(due_at=clock() + timedelta(hours=hours)), futures[-1])
    Now.compared = 0
    now = Now.fromisoformat(clock().isoformat())
    for _ in range(100):
        assert answers.decidable(now) == []
    assert Now.compared == 100, "one look a turn: at the first of them"
    now = Now.fromisoformat((clock() + timedelta(hours=3)).isoformat())
    assert len(answers.decidable(now)) == 3
    for future in futures:
        future.cancel()
    await some_turns()
    assert answers.is_empty
    assert len(answers._later) <= 100, "who waits no more leaves nothing behind (R13)"


class CountingOutcomes:
    """Remembered outcomes that count how often they are asked."""

    def __init__(self, world: MemoryWorld) -> None:
        """Begin at none."""
        self._world = world
        self.looks = 0

    async def recall(
        self, partition: int, names: Iterable[ActionName]
    ) -> Mapping[ActionName, Remembered]:
        """Count, and recall."""
        self.looks += 1
        return await self._world.store.recall(partition, names)


async def test_an_outcome_is_not_looked_for_before_its_action_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_door, "WATCH_S", 0.001)
    world = new_world()
    counting, answers = CountingOutcomes(world), Answers()
    door = LogDoor(replace(hosted(world), outcomes=counting), answers, lambda _: None)
    one = action(due_at=world.clock() + timedelta(hours=1))
    future = await door.submit_due(one)
    await asyncio.sleep(0.05)  # fifty turns: each of them could look
    assert counting.looks == 0
    world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    await until(lambda: counting.looks > 0, "the first look")
    future.cancel()
    door.close()
    await door.ended(1)


async def test_what_was_just_answered_is_looked_for_no_more() -> None:
    answers = Answers()
    clock = SettableClock()
    one, other = action(), action()
    futures = [await waiting(answers, each) for each in (one, other)]
    answers.answer(one, outcome_of(one))
    assert answers.decidable(clock()) == [(other.workflow_key, other.action_id)], "at once"
    futures[1].cancel()


async def test_who_still_waits_when_the_host_has_closed_hears_that_nobody_knows() -> None:
    answers = Answers()
    one = await waiting(answers, action())
    answers.give_up()
    with pytest.raises(OutcomeUnknown):
        one.result()


async def test_the_same_id_on_another_key_is_another_action() -> None:
    answers = Answers()
    mine = action("counter:1")
    elsewhere = action("counter:2", action_id=mine.action_id)
    one, other = [await waiting(answers, each) for each in (mine, elsewhere)]
    answers.answer(elsewhere, outcome_of(elsewhere))
    assert other.result().workflow_key == "counter:2"
    assert not one.done()
    one.cancel()
