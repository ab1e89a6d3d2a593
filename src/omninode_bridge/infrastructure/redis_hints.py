"""Which ids somebody has seen decided, in a Redis that processes share: the port `Hints`.

Rule 1: Redis decides nothing (R3). It may be away, slow, empty or wrong: then work is not saved.
Rule 2: it costs a batch one short round trip, and for a while after a failure nothing at all.
Rule 3: what it is asked and told has bounds: time, connections, what waits to be sent (R13).

An id is one key of 19 bytes with nothing in it, gone by itself after `EXPIRE_S`. A batch is one
call with one argument, its ids in a row, and a script does the rest: writing 500 commands and
reading 500 answers would take the worker's loop longer than folding does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from omninode_bridge.core.breaker import REST_S, Breaker
from omninode_bridge.core.observation import LoopStumbled, ignore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import TracebackType
    from uuid import UUID

    from omninode_bridge.core.observation import Observe

TIMEOUT_S: Final = 0.05
"""Twice what all partitions of a busy process fold in one turn of its loop: less would blame Redis
for our own delay. After a failure that is 1 % of the time, and then only of one worker's."""

EXPIRE_S: Final = 900
"""Long enough for whoever asks again, and not six hours: Redis holds ids in memory, some 90 bytes
each, and a lost hint costs one refused commit."""

CONNECTIONS_MAX: Final = 8
WAITING_BYTES_MAX: Final = 16 * 50_000
CLOSE_WAIT_S: Final = 1.0
ID_BYTES: Final = 16

SEEN: Final = """
local seen = {}
for place = 0, #ARGV[1] / 16 - 1 do
    local id = string.sub(ARGV[1], place * 16 + 1, place * 16 + 16)
    if redis.call('EXISTS', 'ob:' .. id) == 1 then seen[#seen + 1] = place end
end
return seen
"""
REMEMBER: Final = """
for place = 0, #ARGV[1] / 16 - 1 do
    local id = string.sub(ARGV[1], place * 16 + 1, place * 16 + 16)
    redis.call('SET', 'ob:' .. id, '', 'EX', ARGV[2])
end
"""


class RedisHints:
    """The hints of one process. Use as an async context manager; entering it asks nothing yet."""

    def __init__(
        self,
        url: str,
        *,
        observe: Observe = ignore,
        timeout_s: float = TIMEOUT_S,
        rest_s: float = REST_S,
        expire_s: int = EXPIRE_S,
    ) -> None:
        """Ask the server at `url`; `observe` is told each failure (`LoopStumbled`, loop `hints`).

        `rest_s` is how long Redis is left alone after one, `expire_s` how long it holds an id.

        Raises:
            ValueError: `url` cannot name a server.
        """
        self._observe = observe
        self._timeout_s = timeout_s
        self._expire_s = expire_s
        self._breaker = Breaker(rest_s)
        self._waiting = bytearray()
        self._sender: asyncio.Task[None] | None = None
        # RESP2: nothing of the newer protocol is of use here, and it takes one round trip more.
        self._client = Redis.from_pool(
            BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS_MAX,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send what waits, if that goes quickly, and close all connections."""
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=CLOSE_WAIT_S)
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        with suppress(Exception):  # they are gone already, or the server is
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._client.aclose()

    async def seen(self, ids: Collection[UUID]) -> list[UUID]:
        """Return those of `ids` that Redis holds; none when it does not answer in time."""
        if not ids or not self._breaker.may_try(monotonic()):
            return []
        asked = list(ids)
        places = await self._call(SEEN, b"".join([each.bytes for each in asked]))
        return [asked[place] for place in _checked(places, len(asked))]

    def remember(self, ids: Iterable[UUID]) -> None:
        """Send `ids` soon, those of several batches together; drop them when Redis is away."""
        room = WAITING_BYTES_MAX - len(self._waiting)
        if self._breaker.failures or room <= 0:
            return
        self._waiting += b"".join([each.bytes for each in ids])[:room]
        if self._waiting and self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="hints")

    async def _send(self) -> None:
        try:
            while self._waiting:
                packed, self._waiting = bytes(self._waiting), bytearray()
                await self._call(REMEMBER, packed, self._expire_s)
                if self._breaker.failures:
                    self._waiting.clear()
        finally:
            self._sender = None

    async def _call(self, script: str, *arguments: bytes | int) -> Any:  # noqa: ANN401 - Redis's word
        """Return what the script returns; None when there is no answer in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.eval(script, 0, *arguments)
        # The driver, the server and the network have many ways to fail; none is the worker's.
        except Exception as error:  # noqa: BLE001 - whatever it is, Redis is left alone for a while
            self._breaker.failed(monotonic())
            self._observe(LoopStumbled("hints", None, self._breaker.failures, error))
            return None
        self._breaker.worked()
        return answer


def _checked(places: object, count: int) -> list[int]:
    """Return the places that can be: the other side may be anything that speaks the protocol."""
    if not isinstance(places, list):
        return []
    return [place for place in places if isinstance(place, int) and 0 <= place < count]
