"""Hints in a real Redis: bounded in time whatever becomes of it, and used again when it is back."""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest

from omninode_bridge import Bridge, ConfigurationError, LoopStumbled
from omninode_bridge.infrastructure import redis_hints
from omninode_bridge.infrastructure.redis_hints import EXPIRE_S, WAITING_BYTES_MAX, RedisHints
from tests.bridges import WAIT_S, app, until
from tests.programs import run

if TYPE_CHECKING:
    from omninode_bridge import Observation
    from tests.redis_servers import RedisServer

IDS: Final = [UUID(int=0xB0 + number) for number in range(8)]


async def until_seen(hints: RedisHints, ids: list[UUID]) -> None:
    """Wait until `hints` see all of `ids`, but not for ever."""
    deadline = monotonic() + WAIT_S
    while set(await hints.seen(ids)) != set(ids):
        assert monotonic() < deadline, f"{ids} are not seen"
        await asyncio.sleep(0.005)


async def test_an_id_is_a_short_key_that_goes_by_itself(redis_server: RedisServer) -> None:
    async with RedisHints(redis_server.url) as hints:
        hints.remember(IDS[:1])
        await until_seen(hints, IDS[:1])
        assert await redis_server.keys() == [b"ob:" + IDS[0].bytes]
        assert 0 < await redis_server.expiry_s(b"ob:" + IDS[0].bytes) <= EXPIRE_S


async def test_what_waits_to_be_sent_is_sent_before_it_closes(redis_server: RedisServer) -> None:
    async with RedisHints(redis_server.url) as hints:
        for each in IDS:
            hints.remember([each])
    assert len(await redis_server.keys()) == len(IDS)


async def test_a_redis_that_comes_back_is_used_again(redis_server: RedisServer) -> None:
    facts: list[Observation] = []
    async with RedisHints(redis_server.url, observe=facts.append, rest_s=0.02) as hints:
        await redis_server.kill()
        assert await hints.seen(IDS) == []
        assert len(facts) == 1
        await redis_server.start()
        await redis_server.pretend(IDS[:2])
        await until_seen(hints, IDS[:2])
        hints.remember(IDS[2:4])
        await until_seen(hints, IDS[:4])


async def test_a_redis_that_does_not_answer_costs_one_short_wait_and_then_nothing(
    redis_server: RedisServer,
) -> None:
    facts: list[Observation] = []
    async with RedisHints(redis_server.url, observe=facts.append, timeout_s=0.05) as hints:
        await until_seen(hints, [])
        redis_server.stall()
        began = monotonic()
        assert await hints.seen(IDS) == []
        assert monotonic() - began < WAIT_S, "it ended at all"
        assert [type(fact) for fact in facts] == [LoopStumbled]
        for _ in range(1_000):
            assert await hints.seen(IDS) == []
            hints.remember(IDS)
        assert len(facts) == 1, "and is not asked again"
        assert hints._sender is None
        redis_server.go_on()


async def test_what_waits_to_be_sent_is_bounded(redis_server: RedisServer) -> None:
    async with RedisHints(redis_server.url, timeout_s=WAIT_S) as hints:
        hints.remember([UUID(int=number) for number in range(100_000)])
        assert len(hints._waiting) == WAITING_BYTES_MAX
        hints.remember(IDS)
        assert len(hints._waiting) == WAITING_BYTES_MAX
        await until(lambda: hints._sender is None, "the ids to be sent")
        assert len(await redis_server.keys()) == WAITING_BYTES_MAX // 16


@pytest.mark.parametrize("answer", ["return 'what?'", "return {99, -1, 'x'}", "return 1"])
async def test_an_answer_that_cannot_be_names_nothing(
    answer: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real Redis answers what its script says: another script is another answer.
    monkeypatch.setattr(redis_hints, "SEEN", answer)
    async with RedisHints(redis_server.url) as hints:
        assert await hints.seen(IDS) == []


@pytest.mark.parametrize("url", ["http://:secret@there", "redis://:secret@there:port", "there"])
async def test_a_url_that_names_no_redis_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="a Redis URL") as caught:
        async with Bridge.open(app, database_url="postgresql://nowhere", redis_url=url):
            pass
    assert "secret" not in str(caught.value)


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    program = """
import asyncio, sys
sys.modules["redis"] = None  # as if it were not installed
from omninode_bridge import App, Bridge, ConfigurationError

async def main():
    async with Bridge.open(App("a"), database_url="postgresql://nowhere", redis_url="redis://there"):
        pass

try:
    asyncio.run(main())
except ConfigurationError as error:
    print(error)
"""
    done = run(sys.executable, "-c", program)
    assert done.status == 0, done.words
    assert b"pip install omninode-bridge[redis]" in done.out
