"""Roles apart on one PostgreSQL, without Kafka; and a command line that names what there is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from omninode_bridge import Bridge, ConfigurationError, FollowingChanged, Observation
from omninode_bridge.app.connecting import PARTITIONS
from tests.architecture.source import REPOSITORY
from tests.bridges import app, until
from tests.faults.test_sharing import serving
from tests.programs import PROGRAM, run

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Final = [f"counter:{n}" for n in range(8)]
SERVE: Final = ("run", "--app", "tests.bridges:app", "--json")


async def test_what_a_reducer_leaves_is_done_by_another_process(database_url: str) -> None:
    others = "materializer,orchestrator,effects"
    async with (
        serving(database_url, options=("--role", "reducer")) as reducer,
        serving(database_url, options=("--role", others)) as follower,
        Bridge.open(app, database_url=database_url, roles=()) as bridge,
    ):
        for key in KEYS:
            payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
            outcome = await bridge.submit(key, "Counted", payload, timeout=20)
            row = await bridge.read(key, required_version=outcome.committed().version)
            assert row is not None
            assert (row.version, row.tag) == (1, "odd")
        await bridge.settled(timeout=20)
        state = await bridge.state("counter:sum")
        assert state is not None
        assert state.state == {"count": 8, "total": 8}
        row = await bridge.read("counter:sum", required_version=8)
        assert row is not None
        assert row.version == 8
        assert (await bridge.verify()).mismatches == []
        for process in (reducer, follower):
            process.terminate()
            assert await process.wait() == 130


async def test_one_who_follows_says_so_and_lets_go_when_an_owner_does_it(
    database_url: str,
) -> None:
    seen: list[Observation] = []
    async with (
        Bridge.open(app, database_url=database_url, roles=["reducer"]) as bridge,
        Bridge.open(app, database_url=database_url, roles=["materializer"], observe=seen.append),
    ):
        await until(lambda: len(seen) == PARTITIONS, "followed")
        assert all(isinstance(each, FollowingChanged) for each in seen)
        outcome = await bridge.submit("counter:1", "Counted", {})
        row = await bridge.read("counter:1", required_version=outcome.committed().version)
        assert row is not None
    ended = [each for each in seen if isinstance(each, FollowingChanged) and each.change == "ended"]
    assert sorted(each.partition for each in ended) == list(range(PARTITIONS))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--role", "reduser"), "there is no role reduser"),
        (("--role", "relay"), "nothing to do without OMNINODE_KAFKA_BOOTSTRAP"),
        (("--role", "relay,store-effect"), "relay and store-effect: nothing to do"),
        (("--persist", "over-bus"), "only where a Kafka is named"),
        (("--persist", "sometimes"), "'over-bus'"),
    ],
)
async def test_what_cannot_be_served_is_wrong_use(
    options: tuple[str, ...], said: str, database_url: str, tmp_path: Path
) -> None:
    command = [str(PROGRAM), *SERVE, "--database-url", database_url, *options]
    done = await asyncio.to_thread(run, *command, folder=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert done.status == 2, done.words
    assert said in " ".join(done.words.replace("│", " ").split())


async def test_a_bridge_names_what_it_cannot_be(database_url: str) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"roles": ["reduser"]}, "there is no role reduser"),
        ({"persist": "over-bus"}, "only where a Kafka is named"),
        ({"persist": "sometimes"}, "direct or over-bus, not 'sometimes'"),
        (
            {"persist": "over-bus", "pure_reducer": False, "kafka": "127.0.0.1:1"},
            "the direct path commits in its own transactions",
        ),
    ]
    for options, said in cases:
        with pytest.raises(ConfigurationError, match=said):
            async with Bridge.open(app, database_url=database_url, **options):
                pass
