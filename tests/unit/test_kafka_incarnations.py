"""Which topic it is: each answer was asked for after the question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omninode_bridge.core.errors import BusUnavailable
from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
from tests.unit.workers import some_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.core.errors import BridgeError


class Cluster:
    """Takes questions, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[str | BridgeError], None]]] = []

    def ask_incarnation(self, topic: str, told: Callable[[str | BridgeError], None]) -> None:
        self.asked.append((topic, told))

    def answer(self, said: str | BridgeError) -> str:
        """Answer the first question that is open; return which topic it was about."""
        topic, told = self.asked.pop(0)
        told(said)
        return topic


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_those_who_ask_meanwhile_get_an_answer_of_their_own(cluster: Cluster) -> None:
    incarnations = Incarnations(cluster)
    first = asyncio.create_task(incarnations.now("topic"))
    await some_turns()
    others = [asyncio.create_task(incarnations.now("topic")) for _ in range(3)]
    await some_turns()
    assert len(cluster.asked) == 1
    cluster.answer("before")
    await some_turns()
    assert first.done()
    assert not any(other.done() for other in others), "that was asked before they came"
    cluster.answer("after")
    assert await asyncio.gather(first, *others) == ["before", "after", "after", "after"]
    assert cluster.asked == [], "they shared one question"


async def test_topics_do_not_wait_for_each_other(cluster: Cluster) -> None:
    incarnations = Incarnations(cluster)
    both = [asyncio.create_task(incarnations.now(topic)) for topic in ("one", "another")]
    await some_turns()
    assert [cluster.answer("1"), cluster.answer("2")] == ["one", "another"]
    assert await asyncio.gather(*both) == ["1", "2"]


async def test_nobody_knows_once_and_another_time_somebody_does(cluster: Cluster) -> None:
    incarnations = Incarnations(cluster)
    asking = [asyncio.create_task(incarnations.now("topic")) for _ in range(4)]
    await some_turns()
    asking[0].cancel()  # the question of the first one is under way
    asking[1].cancel()
    await some_turns()
    cluster.answer("nobody is there to hear it")
    cluster.answer(BusUnavailable("nobody answers"))
    for each in asking[2:]:
        with pytest.raises(BusUnavailable, match="nobody answers"):
            await each
    assert asking[0].cancelled()
    assert asking[1].cancelled()
    again = asyncio.create_task(incarnations.now("topic"))
    await some_turns()
    cluster.answer("known")
    assert await again == "known"
