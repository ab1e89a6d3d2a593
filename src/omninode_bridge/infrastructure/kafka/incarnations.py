"""Which incarnation of a topic is there: asked after the fact, so that the answer covers it.

A topic's id never comes back. If a topic has now the id that it had at the beginning, it has had it
all the while: whatever was fetched from it or confirmed by it in between was that topic's.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.core.errors import BridgeError

    Waiting = list[asyncio.Future[str]]


class Answering(Protocol):
    """Who knows which incarnation is there (`KafkaAdmin`)."""

    def ask_incarnation(self, topic: str, told: Callable[[str | BridgeError], None]) -> None:
        """Have `told` called, later, with the incarnation of a topic or why nobody knows."""
        ...


class Incarnations:
    """Asks once for all who wait: those who come while it asks are asked for together next.

    Every batch that is taken over waits for this: there is no task in between, only callbacks.
    """

    def __init__(self, admin: Answering) -> None:
        """Ask `admin`."""
        self._admin = admin
        self._asking: set[str] = set()
        self._next: dict[str, Waiting] = {}

    async def now(self, topic: str) -> str:
        """Return the incarnation of a topic, asked for after this call.

        Raises:
            BusUnavailable: nobody knows.
        """
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._next.setdefault(topic, []).append(answer)
        if topic not in self._asking:
            self._ask(topic)
        return await answer

    def _ask(self, topic: str) -> None:
        waiting = self._next.pop(topic)  # who comes from now on needs an answer of their own
        self._asking.add(topic)
        self._admin.ask_incarnation(topic, partial(self._told, topic, waiting))

    def _told(self, topic: str, waiting: Waiting, said: str | BridgeError) -> None:
        self._asking.remove(topic)
        for answer in waiting:
            if answer.done():  # cancelled
                continue
            if isinstance(said, str):
                answer.set_result(said)
            else:
                answer.set_exception(said)
        if topic in self._next:
            self._ask(topic)
