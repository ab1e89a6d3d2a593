"""A bridge on a real Kafka: others write actions and read what came of them, by their own means."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from omninode_bridge import (
    ActionsTakenOver,
    Bridge,
    KafkaPlace,
    LoopStumbled,
    Observation,
    StateCommitted,
    TopicReplaced,
    TopicUnfit,
)
from omninode_bridge.core.partition import partition_of
from tests.architecture.source import REPOSITORY
from tests.asyncapi import check_message
from tests.bridges import WAIT_S, app, fetch, until
from tests.kafka_users import (
    ACTION,
    DEAD_LETTER,
    REDUCER_GAVE_UP,
    STATE_COMMITTED,
    KafkaUser,
    Received,
    check_repeats,
    set_topic,
)
from tests.programs import PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARTITIONS: Final = 4


def at_least(count: int) -> Callable[[list[Received]], bool]:
    return lambda found: len(found) >= count


async def counted(bridge: Bridge, key: str) -> dict[str, Any]:
    stored = await bridge.state(key)
    assert stored is not None
    return stored.state


async def test_others_ask_and_hear_with_their_own_tools(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    keys = [f"counter:{n}" for n in range(20)]
    user = KafkaUser(kafka_place)
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
        for n in range(100):
            user.ask(keys[n % 20], "Counted", {"amount": n})
        refused = user.ask("counter:1", "Refused", {})
        unknown = user.ask("nobody:1", "Counted", {})
        await user.flush()
        committed, gave_up = await asyncio.gather(
            user.read(STATE_COMMITTED, at_least(100)), user.read(REDUCER_GAVE_UP, at_least(2))
        )
    for topic, found in ((STATE_COMMITTED, committed), (REDUCER_GAVE_UP, gave_up)):
        for each in found:
            check_message(topic, each.headers, each.value)
    assert len(check_repeats(committed)) == 100
    events = [each.event() for each in committed]
    assert {event.get_type() for event in events} == {STATE_COMMITTED}
    told = [event.get_data() for event in events]
    assert {each["action_id"] for each in told} == {str(each) for each in user.sent[:100]}
    for key in keys:
        theirs = [each for each in told if each["workflow_key"] == key]
        assert [each["version"] for each in theirs] == [1, 2, 3, 4, 5]
        amounts = [each["action"]["payload"]["amount"] for each in theirs]
        assert amounts == sorted(amounts), "in the order in which they were asked"
        assert theirs[-1]["projection"]["indices"] == {"total": sum(amounts)}
    reasons = {
        data["action_id"]: data["reason"] for data in (each.event().get_data() for each in gave_up)
    }
    assert reasons == {str(refused): "rejected", str(unknown): "invalid"}


async def test_a_bridge_goes_on_where_the_one_before_it_was(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user = KafkaUser(kafka_place)
    outcomes = []
    for _ in range(3):
        async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
            outcomes += [await bridge.submit(f"counter:{n}", "Counted", {}) for n in range(8)]
            # Written while nobody reads, but for the last time.
        for n in range(8):
            user.ask(f"counter:{n}", "Counted", {})
        await user.flush()
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        found = await user.read(STATE_COMMITTED, lambda found: len(check_repeats(found)) >= 48)
        assert [(await counted(bridge, f"counter:{n}"))["count"] for n in range(8)] == [6] * 8
    assert len(check_repeats(found)) == 48
    assert all(isinstance(outcome, StateCommitted) for outcome in outcomes)


async def test_foreign_bytes_are_put_aside_and_the_partition_goes_on(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user, facts = KafkaUser(kafka_place), list[Observation]()
    key = "counter:1"
    partition = partition_of(key, PARTITIONS)
    large = b'{"text":"' + b"x" * 10_000_000 + b'"}'
    huge = b"y" * 14_000_000
    ours = {
        "ce_type": ACTION.encode(),
        "ce_specversion": b"1.0",
        "ce_id": str(uuid4()).encode(),
        "ce_source": b"urn:x",
        "ce_time": b"2026-01-01T00:00:00Z",
        "ce_actiontype": b"Counted",
    }
    foreign: list[tuple[str, bytes | None, bytes | None, dict[str, bytes]]] = [
        ("is not JSON", key.encode(), b"<xml/>", ours),
        ("no key", None, b"{}", ours),
        ("unknown version", key.encode(), b"{}", ours | {"ce_specversion": b"2.0"}),
        ("ce_specversion is missing", key.encode(), b"{}", {}),
        ("10000011 bytes", key.encode(), large, ours),
        ("specversion is missing", key.encode(), huge, {"dead-letter-reason": b"forged"}),
        ("has no value", key.encode(), None, ours),
        ("holds a NUL", b"\x00\x01\x02\x03", b"{}", ours),
    ]
    async with Bridge.open(
        app, database_url=database_url, kafka=kafka_place, observe=facts.append
    ) as bridge:
        await set_topic(kafka_place, ACTION, "max.message.bytes", "20000000")
        for _, foreign_key, value, headers in foreign:
            user.ask(key, "Counted", {}, partition=partition)
            user.write(ACTION, foreign_key, value, list(headers.items()), partition=partition)
        last = user.ask(key, "Counted", {"amount": 7}, partition=partition)
        await user.flush()
        letters = await user.read(DEAD_LETTER, at_least(len(foreign)))
        await user.read(STATE_COMMITTED, at_least(len(foreign) + 1))
        assert await counted(bridge, key) == {"count": len(foreign) + 1, "total": 7}
        (explained,) = await bridge.explain(last)
        assert explained["outcome"] == "StateCommitted"
    assert len(letters) == len(foreign)
    for letter in letters:
        check_message(DEAD_LETTER, letter.headers, letter.value)
    for n, (letter, (reason, foreign_key, value, _)) in enumerate(
        zip(letters, foreign, strict=True)
    ):
        said = {
            name.removeprefix("dead-letter-"): value.decode()
            for name, value in letter.headers.items()
            if name.startswith("dead-letter-")
        }
        assert reason in said["reason"]
        assert (said["topic"], said["partition"], said["offset"]) == (
            kafka_place.prefix + ACTION,
            str(partition),
            str(2 * n + 1),
        )
        assert letter.key == foreign_key
        if value is huge:
            assert said["value-bytes"] == str(len(huge))
            assert letter.value is not None
            assert len(letter.value) > 10_000_000
            assert huge.startswith(letter.value)
        else:
            assert letter.value == value
            assert "value-bytes" not in said
    taken = [fact for fact in facts if isinstance(fact, ActionsTakenOver)]
    assert sum(fact.put_aside for fact in taken) == len(foreign)
    assert sum(fact.actions for fact in taken) == len(foreign) + 1


async def test_an_action_in_the_wrong_partition_is_applied_once_in_the_right_one(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user = KafkaUser(kafka_place)
    keys = [f"counter:{n}" for n in range(12)]
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        for n in range(60):
            key = keys[n % 12]
            user.ask(key, "Counted", {"amount": n}, partition=(partition_of(key, 4) + n // 12) % 4)
        await user.flush()
        found = await user.read(STATE_COMMITTED, at_least(60))
        await bridge.settled()
        assert [(await counted(bridge, key))["count"] for key in keys] == [5] * 12
    assert {each["action_id"] for each in check_repeats(found).values()} == {
        str(each) for each in user.sent
    }


async def until_all_are_read(database_url: str) -> None:
    """Return when each partition of the action topic has been begun."""
    query = "SELECT count(*) FROM bus_positions WHERE consumer = 'intake'"
    async with asyncio.timeout(WAIT_S):
        while True:
            ((begun,),) = await fetch(database_url, query)
            if begun == PARTITIONS:
                return
            await asyncio.sleep(0.01)


async def test_a_topic_that_is_made_again_stops_what_reads_it_until_a_person_decides(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user, facts = KafkaUser(kafka_place), list[Observation]()
    topic = kafka_place.prefix + ACTION
    admin = AdminClient({"bootstrap.servers": kafka_place.bootstrap})

    def replaced() -> list[TopicReplaced]:
        errors = [fact.error for fact in facts if isinstance(fact, LoopStumbled)]
        return [error for error in errors if isinstance(error, TopicReplaced)]

    async with Bridge.open(
        app, database_url=database_url, kafka=kafka_place, observe=facts.append
    ) as bridge:
        user.ask("counter:1", "Counted", {})
        await user.flush()
        await user.read(STATE_COMMITTED, at_least(1))
        await until_all_are_read(database_url)
        await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 30)
        made = NewTopic(
            topic, num_partitions=4, config={"retention.ms": "-1", "max.message.bytes": "5000000"}
        )
        await asyncio.to_thread(admin.create_topics([made])[topic].result, 30)
        another = KafkaUser(kafka_place)
        for _ in range(5):
            another.ask("counter:1", "Counted", {})
        await another.flush()
        await until(lambda: bool(replaced()), "it is seen that the topic is another one", 40)
        assert replaced()[0].topic in {topic, ACTION}
        # What does not come from there goes on.
        outcome = await bridge.submit("counter:2", "Counted", {})
        assert outcome.committed().version == 1
        assert await counted(bridge, "counter:1") == {"count": 1, "total": 0}
    facts.clear()
    async with Bridge.open(
        app, database_url=database_url, kafka=kafka_place, observe=facts.append
    ) as bridge:
        await until(lambda: len(replaced()) >= PARTITIONS, "it is still another one")
        assert await counted(bridge, "counter:1") == {"count": 1, "total": 0}
    at = ("--json", "--database-url", database_url)
    shown = await asyncio.to_thread(run, PROGRAM, "bus", "positions", *at)
    ours = [each for each in shown.objects() if each["topic"] == topic]
    assert [(each["consumer"], each["partition"]) for each in ours] == [
        ("intake", n) for n in range(PARTITIONS)
    ]
    forgotten = await asyncio.to_thread(run, PROGRAM, "bus", "forget", topic, *at)
    assert forgotten.object() == {"topic": topic, "forgotten": PARTITIONS}
    again = await asyncio.to_thread(run, PROGRAM, "bus", "forget", topic, *at)
    assert (again.status, again.object()["forgotten"]) == (1, 0)
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        await another.read(STATE_COMMITTED, at_least(7))
        assert await counted(bridge, "counter:1") == {"count": 6, "total": 0}


async def test_a_bridge_says_what_is_wrong_with_a_cluster(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
        pass
    await set_topic(kafka_place, STATE_COMMITTED, "retention.ms", "1000000")
    with pytest.raises(TopicUnfit, match=r"retention\.ms is 1000000"):
        async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
            pass


async def test_a_command_relays_to_the_kafka_that_the_environment_names(
    kafka_place: KafkaPlace, database_url: str, server_folder: Path
) -> None:
    (server_folder / "a file").write_text("some text")
    stamped = await asyncio.to_thread(
        run,
        *(PROGRAM, "stamp", server_folder, "--namespace", "ns", "--database-url", database_url),
        OMNINODE_KAFKA_BOOTSTRAP=kafka_place.bootstrap,
        OMNINODE_KAFKA_PREFIX=kafka_place.prefix,
    )
    assert stamped.status == 0, stamped.words
    found = await KafkaUser(kafka_place).read(STATE_COMMITTED, at_least(2))
    keys = {(each.key or b"").decode().partition(":")[0] for each in found}
    assert keys == {"file", "namespace"}


async def test_the_guide_shows_how_others_ask_and_hear(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "kafka.md").read_text(encoding="utf-8")
    ask, hear = re.findall(r"^```py\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
        for program, said in ((ask, b""), (hear, b"counter:1 1 Counted\n")):
            done = await asyncio.to_thread(
                run,
                *(sys.executable, "-c", program),
                OMNINODE_KAFKA_BOOTSTRAP=kafka_place.bootstrap,
                OMNINODE_KAFKA_PREFIX=kafka_place.prefix,
            )
            assert (done.status, done.out) == (0, said), done.words
