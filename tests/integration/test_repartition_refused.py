"""Whatever is in the way of another number of partitions is named, and then nothing is changed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from omninode_bridge import Bridge, BrokenPromise, ConfigurationError, DatabaseUnavailable
from omninode_bridge.app.repartitioning import repartition
from omninode_bridge.core.sharing import Member
from omninode_bridge.core.topics import RELAYED
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.services import repartition as service
from omninode_bridge.services.event_log import ActionLogService, EventLogService
from omninode_bridge.services.members import MemberService
from omninode_bridge.services.relayed_log import RelayedLogService
from omninode_bridge.services.repartition import RepartitionService
from tests.bridges import app as counting
from tests.bridges import fetch
from tests.contract.batches import action
from tests.integration.everything import by_key
from tests.integration.repartitioning import counted, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.services.repartition import TakenOverFrom

__all__ = ["counted"]


async def refused(database_url: str, *words: str) -> None:
    """A change is refused in these words, and has changed nothing."""
    before = await by_key(database_url)
    done = await repartition(5, database_url=database_url)
    assert done.partitions == done.partitions_before == 2
    for word in words:
        assert any(word in each for each in done.obstacles), done.obstacles
    assert await value(database_url, "SELECT partitions FROM event_log_database") == 2
    assert await by_key(database_url) == before


async def test_a_bridge_that_owns_partitions_is_in_the_way(counted: str) -> None:
    async with Bridge.open(counting, database_url=counted) as bridge:
        await refused(counted, "counting@", "2 partitions: stop it")
        (await bridge.submit("counter:1", "Counted", {})).committed()
    assert (await repartition(5, database_url=counted)).partitions == 5


async def test_a_bridge_that_only_looks_is_in_the_way(
    counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LEAVING_WAIT_S", 0.2)
    async with Bridge.open(counting, database_url=counted, writing=False):
        await refused(counted, "another bridge is connected")
    assert (await repartition(5, database_url=counted)).partitions == 5


async def test_a_lease_that_is_not_over_is_in_the_way_and_one_that_is_over_is_not(
    counted: str,
) -> None:
    lease = "UPDATE event_log_partitions SET owner = gen_random_uuid(), owner_name = 'who died',"
    await fetch(counted, f"{lease} lease_until = now() + INTERVAL '1 minute' WHERE partition = 1")
    await refused(counted, "who died holds 1 partitions")
    await fetch(counted, f"{lease} lease_until = now() - INTERVAL '1 second' WHERE partition = 1")
    assert (await repartition(5, database_url=counted)).partitions == 5


async def test_a_process_that_owns_nothing_is_in_the_way_and_one_that_has_died_is_not(
    counted: str,
) -> None:
    async with Database({"dsn": counted}, connections_max=1) as database:
        member = Member(uuid4(), "who follows", "app", frozenset({"effects"}))
        await MemberService(database).beat(member, timedelta(minutes=1))
    await refused(counted, "who follows runs: stop it")
    await fetch(counted, "UPDATE event_log_members SET seen_until = now() - INTERVAL '1 second'")
    assert (await repartition(5, database_url=counted)).partitions == 5
    assert await value(counted, "SELECT count(*) FROM event_log_members") == 0, "the dead go"


@pytest.mark.parametrize("topic", RELAYED)
async def test_history_that_waits_for_a_bus_is_in_the_way(counted: str, topic: str) -> None:
    theirs = f"mine.{RELAYED[topic]}"
    column = topic.replace("-", "_").replace("fsm_state_transitioned", "fsm") + "_head"
    await fetch(counted, f"UPDATE event_log_partitions SET {column} = {column} + 3")  # noqa: S608 - of ours
    async with Database({"dsn": counted}, connections_max=1) as database:
        relayed = RelayedLogService(database, prefix="mine.")
        await relayed.position(topic, 1, "cluster/topic")
        heads = await fetch(counted, f"SELECT {column} FROM event_log_partitions ORDER BY 1")  # noqa: S608 - of ours
        left = sum(head - 1 for (head,) in heads)
        await refused(counted, f"{left} entries are still to be relayed to topic '{theirs}'")
        await fetch(
            counted,
            f"UPDATE bus_positions SET next = {column} FROM event_log_partitions p"  # noqa: S608 - of ours
            " WHERE p.partition = 1 AND bus_positions.partition = 1",
        )
        await refused(counted, f"to topic '{theirs}'")  # nobody has begun with partition 0
        await relayed.position(topic, 0, "cluster/another")
        await refused(counted, f"'{theirs}' was made again: `omninode-bridge bus forget {theirs}`")
        assert await relayed.forget(theirs) == 2


async def test_a_bus_that_has_all_of_our_history_is_told_so(counted: str) -> None:
    async with Database({"dsn": counted}, connections_max=1) as database:
        relayed = RelayedLogService(database)
        heads = await fetch(
            counted, "SELECT partition, state_committed_head FROM event_log_partitions"
        )
        for topic in RELAYED:
            for partition, head in map(tuple, heads):
                await relayed.position(topic, partition, f"cluster/{topic}")
                if topic == "state-committed":
                    await relayed.advance(topic, partition, f"cluster/{topic}", head)
        # A stray of long ago, and the position of its partition.
        await fetch(
            counted,
            "INSERT INTO bus_positions (consumer, topic, partition, home, incarnation, next)"
            " VALUES ('intake', 'actions', 1, 0, 'cluster/a', 7),"
            " ('intake', 'actions', 1, 1, 'cluster/a', 9)",
        )
        await refused(counted, "actions were taken over from topic 'actions': name its Kafka")

        async def nothing(_positions: Sequence[TakenOverFrom]) -> list[str]:
            return []

        done = await RepartitionService(database, unread=nothing).repartition(5)
        assert done.partitions == 5, done.obstacles
        kept = {
            (each["consumer"], each["topic"], each["partition"]): (
                *(each["home"], each["incarnation"], each["next"]),
            )
            for each in await relayed.positions()
        }
    rows = await fetch(counted, "SELECT * FROM event_log_partitions ORDER BY partition")
    assert kept == {
        **{
            ("relay", RELAYED[topic], row["partition"]): (
                *(row["partition"], f"cluster/{topic}", row[column]),
            )
            for row in rows
            for topic, column in (
                ("state-committed", "state_committed_head"),
                ("reducer-gave-up", "reducer_gave_up_head"),
                ("fsm-state-transitioned", "fsm_head"),
            )
        },
        ("intake", "actions", 1): (1, "cluster/a", 9),
    }


async def test_actions_that_wait_in_the_log_are_in_the_way(counted: str) -> None:
    async with Database({"dsn": counted}, connections_max=1) as database:
        await ActionLogService(database, CanonicalCodec()).append(0, [action("counter:5")])
    await refused(counted, "'reducer' has 1 entries of topic 'action' still to read: open a bridge")
    async with Bridge.open(counting, database_url=counted) as bridge:
        await bridge.settled()
    assert (await repartition(5, database_url=counted)).partitions == 5


@pytest.mark.parametrize("consumer", ["dispatcher", "effects"])
async def test_intents_that_wait_in_the_log_are_in_the_way(counted: str, consumer: str) -> None:
    await fetch(
        counted,
        "UPDATE event_log_positions SET next = next - 2"
        " WHERE topic = 'intent' AND partition = 1 AND home = 1 AND consumer = $1",
        consumer,
    )
    await refused(counted, f"'{consumer}' has 2 entries of topic 'intent' still to read")


async def test_a_projection_that_lags_is_in_the_way(counted: str) -> None:
    await fetch(counted, "DELETE FROM projection_watermarks WHERE partition_id LIKE '%/1'")
    await refused(counted, "'projection' has", "of topic 'state-committed' still to read")


async def test_a_consumer_from_outside_is_at_its_head_or_in_the_way(counted: str) -> None:
    async with Database({"dsn": counted}, connections_max=1) as database:
        log = EventLogService(database)
        for n in range(2):
            await log.register("auditor", "intent", n, n)
    await refused(counted, "'auditor' has", "let it read them, or retire it")
    await fetch(
        counted,
        "UPDATE event_log_positions r SET next = intent_head FROM event_log_partitions p"
        " WHERE r.consumer = 'auditor' AND p.partition = r.partition",
    )
    assert (await repartition(5, database_url=counted)).partitions == 5
    rows = await fetch(
        counted,
        "SELECT r.partition, r.home, r.next = p.intent_head AS at_head FROM event_log_positions r"
        " JOIN event_log_partitions p USING (partition) WHERE consumer = 'auditor' ORDER BY 1",
    )
    assert [tuple(row) for row in rows] == [(n, n, True) for n in range(5)]


async def test_a_consumer_of_some_partitions_is_in_the_way(counted: str) -> None:
    await fetch(
        counted,
        "INSERT INTO event_log_positions (consumer, topic, partition, home, next)"
        " SELECT 'auditor', 'intent', 1, 1, intent_head FROM event_log_partitions"
        " WHERE partition = 1",
    )
    await refused(counted, "consumer 'auditor' of topic 'intent' is registered in some")
    async with Database({"dsn": counted}, connections_max=1) as database:
        await EventLogService(database).retire("auditor", "intent")
    assert (await repartition(5, database_url=counted)).partitions == 5


async def test_who_holds_a_lock_makes_it_give_up_and_nothing_is_changed(counted: str) -> None:
    connection = await asyncpg.connect(counted)
    async with connection.transaction():
        await connection.execute("SELECT FROM event_log_partitions FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            await repartition(5, database_url=counted)
    await connection.close()
    assert await value(counted, "SELECT partitions FROM event_log_database") == 2


async def test_the_present_number_is_nothing_to_do_and_an_impossible_one_wrong_use(
    counted: str,
) -> None:
    incarnation = await value(counted, "SELECT incarnation FROM event_log_database")
    async with Bridge.open(counting, database_url=counted):  # even beside a bridge
        done = await repartition(2, database_url=counted)
    assert (done.partitions_before, done.partitions, done.obstacles, done.keys) == (2, 2, [], 0)
    for number in (0, -1, 257, 1_025):
        with pytest.raises(ConfigurationError, match="1 to 256 partitions"):
            await repartition(number, database_url=counted)
    assert await value(counted, "SELECT incarnation FROM event_log_database") == incarnation


async def test_a_database_without_partitions_says_so(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no partitions yet"):
        await repartition(2, database_url=database_url)


async def test_a_row_without_a_place_stops_it_and_nothing_is_lost(
    counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await by_key(counted)
    place_keys = service.RepartitionService._place_keys

    async def forgetful(
        self: service.RepartitionService, connection: asyncpg.Connection, partitions: int
    ) -> int:
        keys = await place_keys(self, connection, partitions)
        await connection.execute("DELETE FROM repartition_keys WHERE workflow_key = 'counter:3'")
        return keys

    monkeypatch.setattr(service.RepartitionService, "_place_keys", forgetful)
    with pytest.raises(BrokenPromise, match="verify"):
        await repartition(5, database_url=counted)
    assert await by_key(counted) == held
