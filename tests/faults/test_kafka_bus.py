"""Brokers, owners and processes fail under load: nothing is lost, nothing doubled (R3, R4, R10)."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge, BusUnavailable, KafkaPlace, Observation, OwnershipChanged
from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin
from tests.bridges import app, fetch, until
from tests.kafka_users import ACTION, STATE_COMMITTED, KafkaUser, check_repeats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kafka_servers import KafkaServer

KEYS: Final = [f"counter:{n}" for n in range(30)]
ASK_S: Final = 0.004


class Load:
    """Actions that somebody writes to Kafka, one after another, each with an amount of its own."""

    def __init__(self, place: KafkaPlace) -> None:
        self.user = KafkaUser(place)
        self.total = 0

    async def ask(self) -> None:
        """Ask until cancelled; every seventh action is written to the wrong partition."""
        while True:
            n = len(self.user.sent)
            partition = n % 4 if n % 7 == 0 else -1
            self.user.ask(KEYS[n % len(KEYS)], "Counted", {"amount": n}, partition=partition)
            self.total += n
            await asyncio.sleep(ASK_S)


@asynccontextmanager
async def load(place: KafkaPlace) -> AsyncIterator[Load]:
    """Ask for the length of the block; all of it is on the topic at the end."""
    asked = Load(place)
    asking = asyncio.create_task(asked.ask())
    yield asked
    assert not asking.done(), asking
    asking.cancel()
    await asked.user.flush(60)


async def check_once(database_url: str, asked: Load, submitted: int = 0) -> None:
    """Assert that each action was applied once, and that all of it is on Kafka without a gap."""
    expected = len(asked.user.sent) + submitted
    found = await asked.user.read(
        STATE_COMMITTED, lambda found: len(check_repeats(found)) >= expected
    )
    events = check_repeats(found)
    ids = [event["action_id"] for event in events.values()]
    assert len(ids) == len(set(ids)) == expected
    assert {str(each) for each in asked.user.sent} <= set(ids)
    amounts = sum(event["action"]["payload"].get("amount", 0) for event in events.values())
    assert amounts == asked.total
    ((count, distinct),) = await fetch(
        database_url, "SELECT count(*), count(DISTINCT action_id) FROM event_log_state_committed"
    )
    assert count == distinct == expected


async def until_it_answers(admin: KafkaAdmin, topic: str) -> None:
    """Ask as a loop does, until there is an answer; it is soon there."""
    async with asyncio.timeout(10):
        while True:
            try:
                assert len(await admin.bounds(topic, range(4))) == 4
            except BusUnavailable:
                await asyncio.sleep(0.2)
            else:
                return


async def test_a_broker_that_is_killed_under_load_loses_and_doubles_nothing(
    kafka_server: KafkaServer, kafka_place: KafkaPlace, database_url: str
) -> None:
    submitted = 0
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        async with load(kafka_place) as asked:
            await until(lambda: len(asked.user.sent) > 100, "some load")
            admin = KafkaAdmin(kafka_place.client_settings())
            assert await admin.bounds(kafka_place.prefix + ACTION, range(4))
            kafka_server.kill()
            starting = asyncio.create_task(asyncio.to_thread(kafka_server.start))
            # Who asks here is answered while the bus is away: the log is the source.
            while not starting.done():
                outcome = await bridge.submit(KEYS[submitted % 30], "Counted", {}, timeout=5)
                assert outcome.committed().version >= 1
                submitted += 1
                await asyncio.sleep(0.05)
            await starting
            assert submitted > 20
            await until_it_answers(admin, kafka_place.prefix + ACTION)
        await check_once(database_url, asked, submitted)


async def test_partitions_that_change_hands_under_load_lose_and_double_nothing(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    seen: list[Observation] = []

    def taken() -> int:
        return sum(isinstance(o, OwnershipChanged) and o.change == "taken" for o in seen)

    async with (
        Bridge.open(app, database_url=database_url, kafka=kafka_place, observe=seen.append),
        Bridge.open(app, database_url=database_url, kafka=kafka_place, observe=seen.append),
    ):
        async with load(kafka_place) as asked:
            for _ in range(4):
                await asyncio.sleep(0.3)
                before = taken()
                # By force: the owner learns of it from its next commit, in the middle of its work.
                await fetch(database_url, "UPDATE event_log_partitions SET owner = NULL")
                await until(lambda before=before: taken() > before + 3, "new owners")  # type: ignore[misc]
        await check_once(database_url, asked)


async def test_a_process_that_is_killed_under_load_loses_and_doubles_nothing(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.kafka_owner"),
            *(database_url, kafka_place.bootstrap, kafka_place.prefix),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"ready\n"
        # Nobody waits for a dead one's lease to run out.
        return process

    process = await start()
    async with load(kafka_place) as asked:
        for _ in range(3):
            await asyncio.sleep(0.7)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            await fetch(database_url, "UPDATE event_log_partitions SET owner = NULL")
            process = await start()
    try:
        await check_once(database_url, asked)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_broker_that_answers_nobody_for_a_minute_loses_and_doubles_nothing(
    kafka_server: KafkaServer, kafka_place: KafkaPlace, database_url: str
) -> None:
    submitted = 0
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        async with load(kafka_place) as asked:
            await asyncio.sleep(1)
            kafka_server.stall()
            try:
                for _ in range(70):
                    outcome = await bridge.submit("counter:1", "Counted", {}, timeout=5)
                    assert outcome.committed().version >= 1
                    submitted += 1
                    await asyncio.sleep(1)
            finally:
                kafka_server.go_on()
        await check_once(database_url, asked, submitted)
