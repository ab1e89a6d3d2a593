"""The contract of `Wakes`: what is told is heard by whoever listens, and nobody waits for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from omninode_bridge.ports import Wake
from tests.bridges import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.ports import Ports


@asynccontextmanager
async def hearing(ports: Ports) -> AsyncIterator[list[Wake]]:
    """Yield what is heard, from when somebody listens on."""
    heard: list[Wake] = []
    listening = asyncio.create_task(ports.wakes.hear(heard.append))
    try:
        while not heard:  # nobody says when it begins
            ports.wakes.tell(Wake("action", 1))
            await asyncio.sleep(0.01)
        ports.wakes.tell(Wake("outcome", 1))
        await until(lambda: Wake("outcome", 1) in heard, "what was told first to be over")
        heard.clear()
        yield heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_what_is_told_is_heard_by_all_who_listen(ports: Ports) -> None:
    async with hearing(ports) as first, hearing(ports) as second:
        first.clear()
        told = {Wake("action", 0), Wake("outcome", 0), Wake("action", 1)}
        for wake in told:
            ports.wakes.tell(wake)
        await until(lambda: set(first) == set(second) == told, "both to hear")


async def test_what_nobody_hears_is_told_to_nobody_later(ports: Ports) -> None:
    ports.wakes.tell(Wake("action", 0))
    async with hearing(ports) as heard:
        ports.wakes.tell(Wake("outcome", 0))
        await until(lambda: heard == [Wake("outcome", 0)], "what was told last")


async def test_who_listens_no_more_hears_nothing(ports: Ports) -> None:
    async with hearing(ports) as heard:
        pass
    async with hearing(ports):
        ports.wakes.tell(Wake("action", 0))
    assert heard == []
