"""`bench --bus kafka`: what it says was confirmed is in the states, and its topics are gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AdminClient

from omninode_bridge import Bridge
from omninode_bridge.bench import app
from tests.programs import PROGRAM, run

if TYPE_CHECKING:
    from tests.kafka_servers import KafkaServer

PREFIX = "bench-test."


async def bench(database_url: str, *arguments: str, **environment: str) -> dict[str, Any]:
    done = await asyncio.to_thread(
        lambda: run(
            *(PROGRAM, "bench", "--bus", "kafka", "--seconds", "0.5", "--json"),
            *(*arguments, "--database-url", database_url),
            folder=None,
            **environment,
        )
    )
    assert done.status == 0, done.words
    return done.object()


def topics_of_bench(server: KafkaServer) -> set[str]:
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    return {name for name in admin.list_topics(timeout=10).topics if "bench-" in name}


@pytest.mark.parametrize(("mode", "keys"), [("hot", {"bench:hot"}), ("spread", None)])
async def test_all_that_was_confirmed_is_in_the_states_and_the_topics_are_gone(
    kafka_server: KafkaServer, database_url: str, mode: str, keys: set[str] | None
) -> None:
    kafka = {
        "OMNINODE_KAFKA_BOOTSTRAP": kafka_server.bootstrap_servers,
        "OMNINODE_KAFKA_PREFIX": PREFIX,
    }
    figures = await bench(database_url, "--mode", mode, "--clients", "50", **kafka)
    assert set(figures) == {
        *("mode", "bus", "clients", "seconds", "actions_per_s", "p50_ms", "p95_ms", "p99_ms"),
        *("projection_lag_p50_ms", "projection_lag_p99_ms", "conflicts", "gave_up", "retries"),
        *("confirmed", "unanswered", "rss_mb", "pgbench_tps"),
    }
    assert (figures["mode"], figures["bus"], figures["clients"]) == (mode, "kafka", 50)
    assert (figures["gave_up"], figures["unanswered"], figures["conflicts"]) == (0, 0, 0)
    assert figures["actions_per_s"] > 0
    assert figures["projection_lag_p99_ms"] > 0
    found: dict[str, Any] = {}
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        after: str | None = None
        while rows := await bridge.list(namespace="bench", after=after, limit=1_000):
            after = rows[-1].workflow_key
            for row in rows:
                stored = await bridge.state(row.workflow_key)
                assert stored is not None
                assert row.indices == {"total": stored.state["total"]}, "it is projected"
                found[row.workflow_key] = stored.state
    assert sum(state["count"] for state in found.values()) == figures["confirmed"]
    assert sum(state["total"] for state in found.values()) == 3 * figures["confirmed"]
    assert keys is None or set(found) == keys
    assert topics_of_bench(kafka_server) == set()


async def test_one_ask_at_a_time_is_measured_on_the_kafka_that_the_command_line_names(
    kafka_server: KafkaServer, database_url: str
) -> None:
    named = ("--kafka", kafka_server.bootstrap_servers)
    figures = await bench(
        database_url, "--clients", "1", *named, OMNINODE_KAFKA_BOOTSTRAP="127.0.0.1:1"
    )
    assert figures["actions_per_s"] > 0
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert topics_of_bench(kafka_server) == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bus", "kafka"), "name a Kafka"),
        (("--bus", "kafka", "--kafka", "nowhere"), "host:port"),
        (("--bus", "kafka", "--mode", "saga", "--kafka", "127.0.0.1:1"), "--mode spread or hot"),
        (("--bus", "kafka", "--processes", "2", "--kafka", "127.0.0.1:1"), "one process"),
        (("--kafka", "127.0.0.1:1"), "--bus kafka"),
    ],
)
def test_what_cannot_be_measured_over_kafka_is_said(arguments: tuple[str, ...], words: str) -> None:
    refused = run(PROGRAM, "bench", *arguments)
    assert refused.status == 2
    assert words in " ".join(refused.words.split())
