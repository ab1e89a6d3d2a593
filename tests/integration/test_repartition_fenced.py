"""Nobody goes on by a number of partitions that is past, whenever it wakes up (R12)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from omninode_bridge import (
    Bridge,
    DatabaseUnavailable,
    LoopStumbled,
    Observation,
    PartitionsChanged,
    StateCommitted,
)
from omninode_bridge.app.connecting import create_partitions
from omninode_bridge.app.repartitioning import repartition
from omninode_bridge.core.commit import Refusal
from omninode_bridge.core.partition import Partitioning, partition_of
from omninode_bridge.core.sharing import Member
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.ports import BusSource, Source
from omninode_bridge.services import repartition as service
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.effect_store import EffectStoreService
from omninode_bridge.services.event_log import ActionLogService, EventLogService, TimerService
from omninode_bridge.services.leases import EffectClaimService, LeaseService
from omninode_bridge.services.members import MemberService
from omninode_bridge.services.projection_log import ProjectionLogService
from omninode_bridge.services.projection_rebuild import ProjectionRebuildService
from omninode_bridge.services.relayed_log import RelayedLogService
from omninode_bridge.services.taken_over import TakenOverService
from tests.bridges import app as counting
from tests.bridges import fetch, until
from tests.contract.batches import action, folded
from tests.integration.everything import by_key
from tests.integration.repartitioning import counted, dense, value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["counted"]

CODEC = CanonicalCodec()


@dataclass(frozen=True, slots=True)
class Sleeper:
    """The stores of a process that has read the number of partitions, and now stands still."""

    store: CanonicalStoreService
    actions: ActionLogService
    leases: LeaseService
    claims: EffectClaimService
    members: MemberService
    projections: ProjectionLogService
    effects: EffectStoreService
    timers: TimerService
    relayed: RelayedLogService
    taken_over: TakenOverService


@asynccontextmanager
async def sleeper(database_url: str) -> AsyncIterator[Sleeper]:
    async with Database({"dsn": database_url}, connections_max=2) as database:
        known = (await EventLogService(database).create_partitions(2)).incarnation
        yield Sleeper(
            CanonicalStoreService(database, CODEC, partitions=2, incarnation=known),
            ActionLogService(database, CODEC, incarnation=known),
            LeaseService(database, 2, incarnation=known),
            EffectClaimService(database, incarnation=known),
            MemberService(database, incarnation=known),
            ProjectionLogService(database, CODEC, incarnation=known),
            EffectStoreService(database, CODEC),
            TimerService(database),
            RelayedLogService(database, log=known),
            TakenOverService(database, log=known),
        )


async def unseen(database_url: str, monkeypatch: pytest.MonkeyPatch, partitions: int) -> None:
    """Change the number as if nobody else were there: cut off, and still past their leases."""

    async def nobody(_service: Any, _connection: Any) -> list[str]:  # noqa: ANN401 - not looked at
        return []

    with monkeypatch.context() as context:
        context.setattr(service, "APPLICATION_NAME", "nobody")
        context.setattr(service.RepartitionService, "_running", nobody)
        done = await repartition(partitions, database_url=database_url)
    assert done.partitions == partitions, done.obstacles


def says_so(fact: Observation) -> bool:
    """Whether the loop that shares partitions has ended, because their number is past."""
    match fact:
        case LoopStumbled("leases", None, _, PartitionsChanged()):
            return True
        case _:
            return False


@pytest.mark.parametrize("numbers", [(5,), (1,), (5, 2)])
async def test_who_stood_still_meanwhile_can_make_nothing_durable(
    counted: str, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:  # R12
    async with sleeper(counted) as it:
        token = uuid4()
        lease = timedelta(milliseconds=1)
        assert await it.leases.acquire(token, "sleeper", lease, [0, 1]) == [0, 1]
        commit = await folded(it.store, action("counter:5"), partition=1)
        me = Member(uuid4(), "sleeper", "counting")
        await it.members.beat(me, lease)
        watermark = await it.projections.watermark(1)
        await asyncio.sleep(0.01)  # its lease is over
        for number in numbers:
            await unseen(counted, monkeypatch, number)
        held = await by_key(counted)
        with pytest.raises(PartitionsChanged):  # beside the owner
            await it.store.commit(commit)
        refusal = await it.store.commit(replace(commit, owner=token))
        assert isinstance(refusal, Refusal)
        assert refusal.not_owner
        with pytest.raises(PartitionsChanged):
            await it.actions.append(0, [action("counter:5")])
        with pytest.raises(PartitionsChanged):  # the dispatcher, with intents it read before
            await it.actions.append(1, [action("counter:5")], Source(1, 1_000, [999]))
        with pytest.raises(PartitionsChanged):
            await it.projections.apply(1, watermark, watermark + 1, [])
        with pytest.raises(PartitionsChanged):
            await it.leases.acquire(uuid4(), "sleeper", timedelta(seconds=5), [0])
        with pytest.raises(PartitionsChanged):  # of a partition that is there in any case
            await it.claims.take(0, uuid4(), me.member, apart=True)
        assert not await it.claims.take(1, token, me.member, apart=False)
        assert not await it.effects.settle(1, token, [], [], 1_000), "the position of the effects"
        with pytest.raises(PartitionsChanged):
            await it.members.beat(me, timedelta(seconds=5))
        assert await value(counted, "SELECT count(*) FROM event_log_members") == 0
        rows = await fetch(counted, "SELECT workflow_key, action_id FROM action_dedup_log")
        names = [(row["workflow_key"], UUID(bytes=row["action_id"].bytes)) for row in rows]
        remembered = await it.store.recall(1, names)  # whichever it takes for theirs
        for name in names:
            outcome = remembered[name].outcome
            assert isinstance(outcome, StateCommitted)
            assert outcome.provenance.action_id == name[1]
        assert await it.leases.renew(token, timedelta(seconds=5)) == []
        assert await by_key(counted) == held
        await dense(counted, numbers[-1])


@pytest.mark.parametrize("numbers", [(5,), (1,), (5, 2)])
async def test_who_stood_still_meanwhile_is_out_of_step_with_the_bus(
    counted: str, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:  # R12
    topic, theirs = "state-committed", "cluster/topic"
    held = "SELECT * FROM bus_positions ORDER BY topic, partition"
    async with sleeper(counted) as it:
        heads = await fetch(
            counted, "SELECT partition, state_committed_head FROM event_log_partitions"
        )
        for partition, head in map(tuple, heads):
            await it.relayed.position(topic, partition, theirs)
            await it.relayed.advance(topic, partition, theirs, head)
        for number in numbers:
            await unseen(counted, monkeypatch, number)
        before = await fetch(counted, held)
        assert len(before) == numbers[-1]
        with pytest.raises(PartitionsChanged):
            await it.relayed.read(topic, 0, 1, 10)
        with pytest.raises(PartitionsChanged):
            await it.relayed.advance(topic, 0, theirs, 1_000)
        for partition in (0, 1):
            with pytest.raises(PartitionsChanged):
                await it.relayed.position("reducer-gave-up", partition, theirs)
            with pytest.raises(PartitionsChanged):
                await it.taken_over.position(partition, theirs, 0)
            source = BusSource(partition, theirs, 0, 1, [0])
            with pytest.raises(PartitionsChanged):
                await it.taken_over.take_over(partition, [action("counter:5")], source)
        assert await fetch(counted, held) == before
        await dense(counted, numbers[-1])


@pytest.mark.parametrize("number", [1, 5])
async def test_timers_that_a_sleeper_fires_go_where_their_keys_are_now(
    counted: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    keys = [f"counter:{n}" for n in range(20)]
    async with sleeper(counted) as it:
        for key in keys:
            later = action(key, due_at=datetime.now(UTC) + timedelta(hours=1))
            await it.actions.append(partition_of(key, 2), [later])
        await unseen(counted, monkeypatch, number)
        await fetch(counted, "UPDATE timers SET due_at = now()")
        for partition in (0, 1):
            await it.timers.fire(partition, 100)
        rows = await fetch(counted, "SELECT partition, workflow_key FROM event_log_action")
        fired = {row["workflow_key"]: row["partition"] for row in rows}
        waiting = await fetch(counted, "SELECT workflow_key FROM timers")
        assert len(rows) + len(waiting) == len(keys)
        assert fired == {key: partition_of(key, number) for key in fired}
        assert fired


@pytest.mark.parametrize("number", [1, 5])
async def test_a_running_bridge_whose_number_is_past_says_so_to_all_who_ask(
    counted: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    facts: list[Observation] = []
    async with Bridge.open(counting, database_url=counted, observe=facts.append) as bridge:
        await fetch(counted, "UPDATE event_log_partitions SET lease_until = now()")
        await unseen(counted, monkeypatch, number)
        asked = [bridge.submit(f"counter:{n}", "Counted", {}, timeout=20) for n in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {PartitionsChanged}
        with pytest.raises(PartitionsChanged, match="open it anew"):
            await bridge.enqueue("counter:1", "Counted", {})
        await until(lambda: any(map(says_so, facts)), "the next beat tells")
        with pytest.raises(PartitionsChanged):
            await bridge.settled(timeout=20)
        assert await value(counted, "SELECT count(*) FROM event_log_members") == 0
        taken = "SELECT count(*) FROM event_log_partitions WHERE owner IS NOT NULL"
        assert await value(counted, taken) == 0
    async with Bridge.open(counting, database_url=counted) as bridge:
        assert bridge.partitions == number
        outcomes = await asyncio.gather(
            *(bridge.submit(f"counter:{n}", "Counted", {}) for n in range(20))
        )
        versions = [outcome.committed().version for outcome in outcomes]
        assert versions == [2, *[3] * 19], "none of those refused was applied"
        await bridge.settled()
        assert (await bridge.verify()).mismatches == []


async def test_who_has_read_a_number_that_is_past_when_it_begins_is_told_at_once(
    counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(database: Database, asked: int | None) -> Partitioning:
        found = await create_partitions(database, asked)
        await unseen(counted, monkeypatch, 5)
        return found

    with monkeypatch.context() as context:
        context.setattr("omninode_bridge.app.bridge.create_partitions", late)
        async with asyncio.timeout(20):
            with pytest.raises(PartitionsChanged):
                async with Bridge.open(counting, database_url=counted):
                    pytest.fail("it is open")
    assert await value(counted, "SELECT count(*) FROM event_log_members") == 0


async def test_who_opens_in_the_middle_waits_and_then_counts_by_the_new_number(
    counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    place_keys = service.RepartitionService._place_keys

    async def slowly(self: Any, *arguments: Any) -> int:  # noqa: ANN401 - passed on
        keys = await place_keys(self, *arguments)
        reached.set()
        await go_on.wait()
        return keys

    monkeypatch.setattr(service.RepartitionService, "_place_keys", slowly)
    change = asyncio.create_task(repartition(5, database_url=counted))
    await reached.wait()
    assert await value(counted, "SELECT partitions FROM event_log_database") == 2
    entries = await value(counted, "SELECT count(*) FROM event_log_state_committed")
    assert entries == 40, "who only reads sees the old rows"

    async def open_and_count() -> int:
        async with Bridge.open(counting, database_url=counted) as bridge:
            return bridge.partitions

    opening = asyncio.create_task(open_and_count())
    async with asyncio.timeout(20):
        while not await value(  # noqa: ASYNC110 - another session's lock sets no event
            counted, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            await asyncio.sleep(0.01)
    assert not opening.done()
    go_on.set()
    assert (await change).partitions == 5
    assert await opening == 5


async def test_who_opens_while_it_takes_long_is_refused_in_clear_words(counted: str) -> None:
    connection = await asyncpg.connect(counted)
    await fetch(counted, "ALTER FUNCTION event_log_create_partitions SET lock_timeout = '50ms'")
    async with connection.transaction():
        await connection.execute(service.SQL["take_turn"])
        with pytest.raises(DatabaseUnavailable, match="or their number changed: try again"):
            async with Bridge.open(counting, database_url=counted):
                pass
    await connection.close()


async def test_a_rebuild_that_was_under_way_finds_its_generation_gone(
    counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # R7
    swap = ProjectionRebuildService._swap

    async def late(self: ProjectionRebuildService, *arguments: Any) -> None:  # noqa: ANN401 - passed on
        await unseen(counted, monkeypatch, 5)
        await swap(self, *arguments)

    async with Bridge.open(counting, database_url=counted, writing=False) as bridge:
        with monkeypatch.context() as context:
            context.setattr(ProjectionRebuildService, "_swap", late)
            with pytest.raises(DatabaseUnavailable, match="this one has stopped"):
                await bridge.rebuild_projection()
        assert (await bridge.verify()).mismatches == []
