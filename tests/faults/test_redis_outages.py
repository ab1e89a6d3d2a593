"""Redis is away, slow, empty or lies: what everybody is told, states and log are the same (R3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import UUID

import pytest

from omninode_bridge import (
    Bridge,
    CommitRefused,
    HintsFollowed,
    LoopStumbled,
    StateCommitted,
)
from tests.bridges import app, fetch

if TYPE_CHECKING:
    from omninode_bridge import Observation, Outcome
    from tests.redis_servers import RedisServer
    from tests.servers import PostgresTestServer

IDS: Final = [UUID(int=0xA0 + number) for number in range(12)]
KEYS: Final = [f"counter:{number}" for number in range(3)]

# Without the ids that are made, which are others each time.
LOOKS: Final = [
    """SELECT workflow_key, version, state::TEXT FROM workflow_state ORDER BY 1""",
    """SELECT partition, "offset", workflow_key, version, body ->> 'result_hash'
       FROM event_log_state_committed ORDER BY 1, 2""",
    """SELECT partition, "offset", workflow_key, version, action_id, body ->> 'reason'
       FROM event_log_reducer_gave_up ORDER BY 1, 2""",
    """SELECT workflow_key, version, request_hash, result_hash, outcome::TEXT
       FROM action_dedup_log ORDER BY 1, 2, 3""",
]

Fault = Literal["none", "down", "killed", "stalled", "flushed", "lying", "killed and back"]


async def disturb(
    redis: RedisServer, fault: Fault, when: Literal["at start", "in the middle"]
) -> None:
    """Do to Redis what a fault does at this time."""
    match fault, when:
        case ("down", "at start") | ("killed", "in the middle"):
            await redis.kill()
        case "stalled", "in the middle":
            redis.stall()
        case "flushed", "in the middle":
            await redis.flush()
        case "lying", _:
            await redis.flush()  # of what it has heard it says nothing
            await redis.pretend(IDS[5:])
        case "killed and back", "in the middle":
            await redis.kill()
            await redis.start()
        case _:
            pass


def plain(outcome: Outcome) -> tuple[Any, ...]:
    """Return what of an outcome does not depend on the time."""
    if isinstance(outcome, StateCommitted):
        chain = outcome.provenance.chain
        where = (outcome.version, outcome.commit_offset)
        return (outcome.workflow_key, outcome.action_id, *where, chain, outcome.duplicate)
    told = (outcome.reason, outcome.detail, outcome.attempts, outcome.version)
    return (outcome.workflow_key, outcome.action_id, *told, outcome.duplicate)


@dataclass(frozen=True)
class Result:
    """What a history has led to."""

    told: list[tuple[Any, ...]]
    rows: list[list[tuple[Any, ...]]]
    facts: list[Observation]


async def work_off(database_url: str, redis: RedisServer | None, fault: Fault = "none") -> Result:
    """Ask, disturb, ask again, here and in another bridge, which has seen nothing yet."""
    told: list[Outcome] = []
    facts: list[Observation] = []
    redis_url = None if redis is None else redis.url

    async def ask(bridge: Bridge, number: int, type_: str = "Counted", amount: int = 1) -> None:
        key = KEYS[number % len(KEYS)]
        told.append(await bridge.submit(key, type_, {"amount": amount}, action_id=IDS[number]))

    if redis is not None:
        await disturb(redis, fault, "at start")
    async with Bridge.open(
        app, database_url=database_url, redis_url=redis_url, observe=facts.append
    ) as bridge:
        for number in range(4):
            await ask(bridge, number)
        await ask(bridge, 4, "Refused")
        if redis is not None:
            await disturb(redis, fault, "in the middle")
        for number in (0, 5, 5, 6):
            await ask(bridge, number)
        await ask(bridge, 4, "Refused")
        await ask(bridge, 1, amount=100)
    async with Bridge.open(
        app, database_url=database_url, redis_url=redis_url, observe=facts.append
    ) as bridge:
        for number in (0, 1, 2, 3, 7, 5, 7, 8):
            await ask(bridge, number)
        await ask(bridge, 4, "Refused")
        await ask(bridge, 2, amount=100)
        batch = [(KEYS[0], "Counted", {"amount": number}) for number in range(50)]
        told_of_many = await bridge.submit_many(batch)
        assert [each.committed().version for each in told_of_many] == list(range(4, 54))
        await bridge.settled()
        assert (await bridge.verify()).mismatches == []
    rows = [[tuple(row) for row in await fetch(database_url, each)] for each in LOOKS]
    return Result([plain(each) for each in told], rows, facts)


@pytest.mark.parametrize("fault", get_args(Fault))
async def test_outcomes_states_and_log_are_the_same_as_without_redis(
    fault: Fault,
    redis_server: RedisServer,
    database_url: str,
    postgres_server: PostgresTestServer,
    migrated_template: str,
) -> None:
    async with postgres_server.database(template=migrated_template) as other:
        without = await work_off(other.url, None)
    result = await work_off(database_url, redis_server, fault)
    assert result.told == without.told
    assert result.rows == without.rows
    stumbled = [each for each in result.facts if isinstance(each, LoopStumbled)]
    assert {each.loop for each in stumbled} <= {"hints"}
    assert bool(stumbled) == (fault in {"down", "killed", "stalled", "killed and back"})


async def test_with_redis_up_what_another_process_decided_needs_no_refused_commit(
    redis_server: RedisServer, database_url: str
) -> None:
    facts: list[Observation] = []
    ids = IDS[:6]

    async def ask_all() -> list[Outcome]:
        async with Bridge.open(
            app, database_url=database_url, redis_url=redis_server.url, observe=facts.append
        ) as bridge:
            return [
                await bridge.submit(KEYS[0], "Counted", {"amount": 1}, action_id=each)
                for each in ids
            ]

    first = await ask_all()
    again = await ask_all()
    assert again == first
    assert [each.duplicate for each in again] == [True] * len(ids)
    assert [fact for fact in facts if isinstance(fact, CommitRefused)] == []
    assert sum(fact.known for fact in facts if isinstance(fact, HintsFollowed)) == len(ids)


async def test_within_a_process_no_redis_is_needed_for_that(database_url: str) -> None:
    facts: list[Observation] = []
    async with Bridge.open(app, database_url=database_url, observe=facts.append) as bridge:
        first = await bridge.submit(KEYS[0], "Counted", {"amount": 1}, action_id=IDS[0])
        again = await bridge.submit(KEYS[0], "Counted", {"amount": 1}, action_id=IDS[0])
    assert again == first
    assert [fact for fact in facts if isinstance(fact, CommitRefused)] == []
